"""Augmentation of volumes: image and label move together, labels stay labels, intensities stay finite."""

from __future__ import annotations

import torch
from torch import Generator, Tensor

from medloop.imaging.volume_augmentation import MAX_ANGLE, ZOOM, VolumeAugmentation


def augmentation(spacing: tuple[float, float, float] = (1.0, 1.0, 1.0), flips: bool = False) -> VolumeAugmentation:
    """Seeded."""
    return VolumeAugmentation(spacing, flips, Generator().manual_seed(0))


def ellipsoids(count: int) -> tuple[Tensor, Tensor]:
    """A batch of one off-centre ellipsoid: image 1 inside and 0 outside, label 3 inside."""
    grid = torch.stack(torch.meshgrid(*(torch.arange(n) for n in (32, 28, 24)), indexing="ij")).float()
    offset = (grid - torch.tensor([12.0, 15.0, 11.0]).view(3, 1, 1, 1)) / torch.tensor([8.0, 6.0, 4.0]).view(3, 1, 1, 1)
    inside = (offset.square().sum(0) < 1)[None, None].repeat(count, 1, 1, 1, 1)
    return inside.float(), inside.to(torch.uint8) * 3


def test_labels_stay_labels_and_follow_the_image() -> None:
    """Over many draws labels hold only their own values, and the label lies where the image does."""
    images, labels = ellipsoids(24)
    moved, moved_labels = augmentation(flips=True)(images, labels)
    assert moved.shape == images.shape
    assert moved_labels.dtype == torch.uint8
    assert set(moved_labels.unique().tolist()) == {0, 3}
    assert bool(moved.isfinite().all())
    changed = 0
    for image, label in zip(moved, moved_labels, strict=True):
        threshold = (image[label == 3].mean() + image[label == 0].mean()) / 2
        inside = image > threshold
        overlap = 2 * int((inside & (label == 3)).sum()) / int(inside.sum() + (label == 3).sum())
        assert overlap > 0.9
        changed += not torch.equal(label, labels[0])
    assert changed > 12


def test_rotation_keeps_lengths_on_anisotropic_voxels() -> None:
    """In physical units the linear part is a rotation times one zoom, for voxels that are no cubes too."""
    shape, spacing = (32, 40, 12), (0.5, 0.5, 3.0)
    matrices = augmentation(spacing).matrices(20, shape)[:, :, :3]
    extent = torch.tensor([s * v / 2 for s, v in zip(shape, spacing, strict=True)][::-1])
    physical = matrices * extent[None, :, None] / extent[None, None, :]
    gram = physical @ physical.mT
    zoom = gram.diagonal(dim1=1, dim2=2).mean(1).sqrt()
    torch.testing.assert_close(gram, torch.eye(3) * zoom.square().view(-1, 1, 1), atol=1e-5, rtol=0)
    assert float(zoom.min()) >= ZOOM[0]
    assert float(zoom.max()) <= ZOOM[1]
    angle = ((physical / zoom.view(-1, 1, 1)).diagonal(dim1=1, dim2=2).sum(1) / 2 - 0.5).clamp(-1, 1).acos()
    assert 0 < float(angle.max()) <= MAX_ANGLE * 3**0.5 + 1e-3


def test_no_flip_unless_asked() -> None:
    """Without flips left stays left: the ellipsoid's centre keeps to its own side."""
    images, labels = ellipsoids(40)
    for flips, expected in ((False, 0), (True, 1)):
        _, moved = augmentation(flips=flips)(images, labels)
        centres = torch.stack([torch.nonzero(label[0])[:, 0].float().mean() for label in moved])
        assert int((centres > 17).any()) == expected


def test_seed_repeats() -> None:
    """The same seed gives the same batch."""
    images, labels = ellipsoids(4)
    one, other = augmentation()(images, labels), augmentation()(images, labels)
    assert torch.equal(one[0], other[0])
    assert torch.equal(one[1], other[1])
