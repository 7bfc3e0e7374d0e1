"""Augmentation of volumes: image and label move together, labels stay labels, intensities stay finite."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Generator, Tensor

from medloop.imaging.draws import Draws
from medloop.imaging.volume_augmentation import MAX_ANGLE, ZOOM, VolumeAugmentation

CUBES = (1.0, 1.0, 1.0)


def augment(
    images: Tensor, labels: Tensor, samples: Sequence[int] | None = None, *, flips: bool = False, epoch: int = 1
) -> tuple[Tensor, Tensor]:
    """Augment a batch of the first samples, or of those."""
    draws = Draws(0, epoch, range(len(images)) if samples is None else samples)
    return VolumeAugmentation(CUBES, flips)(images, labels, draws)


def ellipsoids(count: int) -> tuple[Tensor, Tensor]:
    """A batch of one off-centre ellipsoid: image 1 inside and 0 outside, label 3 inside."""
    grid = torch.stack(torch.meshgrid(*(torch.arange(n) for n in (32, 28, 24)), indexing="ij")).float()
    offset = (grid - torch.tensor([12.0, 15.0, 11.0]).view(3, 1, 1, 1)) / torch.tensor([8.0, 6.0, 4.0]).view(3, 1, 1, 1)
    inside = (offset.square().sum(0) < 1)[None, None].repeat(count, 1, 1, 1, 1)
    return inside.float(), inside.to(torch.uint8) * 3


def test_labels_stay_labels_and_follow_the_image() -> None:
    """Over many draws labels hold only their own values, and the label lies where the image does."""
    images, labels = ellipsoids(24)
    moved, moved_labels = augment(images, labels, flips=True)
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
    matrices = VolumeAugmentation(spacing, flips=False).matrices(Draws(0, 1, range(20)), shape)[:, :, :3]
    extent = torch.tensor([s * v / 2 for s, v in zip(shape, spacing, strict=True)][::-1], dtype=torch.float64)
    physical = matrices * extent[None, :, None] / extent[None, None, :]
    gram = physical @ physical.mT
    zoom = gram.diagonal(dim1=1, dim2=2).mean(1).sqrt()
    torch.testing.assert_close(
        gram, torch.eye(3, dtype=torch.float64) * zoom.square().view(-1, 1, 1), atol=1e-5, rtol=0
    )
    assert float(zoom.min()) >= ZOOM[0]
    assert float(zoom.max()) <= ZOOM[1]
    angle = ((physical / zoom.view(-1, 1, 1)).diagonal(dim1=1, dim2=2).sum(1) / 2 - 0.5).clamp(-1, 1).acos()
    assert 0 < float(angle.max()) <= MAX_ANGLE * 3**0.5 + 1e-3


def test_no_flip_by_default() -> None:
    """Without flips left stays left: the ellipsoid's centre keeps to its own side."""
    images, labels = ellipsoids(40)
    for flips, expected in ((False, 0), (True, 1)):
        _, moved = augment(images, labels, flips=flips)
        centres = torch.stack([torch.nonzero(label[0])[:, 0].float().mean() for label in moved])
        assert int((centres > 17).any()) == expected


def noise(count: int) -> tuple[Tensor, Tensor]:
    """A batch of different volumes, and labels of three values."""
    source = Generator().manual_seed(0)
    images = torch.randn(count, 1, 12, 10, 8, generator=source)
    return images, torch.randint(3, images.shape, generator=source, dtype=torch.uint8)


def test_a_sample_depends_on_nothing_but_itself() -> None:
    """The same result with any other volumes in the batch (to a reduction's rounding); another in the next epoch."""
    images, labels = noise(16)
    together = augment(images, labels, flips=True)
    for samples in ([3], [7, 3], [15, 0, 8, 2]):
        alone = augment(images[samples], labels[samples], samples, flips=True)
        torch.testing.assert_close(alone[0], together[0][samples], atol=1e-5, rtol=1e-5)
        assert torch.equal(alone[1], together[1][samples])
    assert not torch.allclose(augment(images, labels, flips=True, epoch=2)[0], together[0])


def test_every_volume_gets_its_own_change() -> None:
    """Equal volumes of a batch come out different."""
    images, labels = (values[:1].repeat(20, 1, 1, 1, 1) for values in noise(1))
    moved, _ = augment(images, labels)
    # With probability 0.3 * 0.7**4, no change at all is drawn for a volume.
    assert len(moved.flatten(1).unique(dim=0)) > 14


def test_float64_stays_and_agrees() -> None:
    """float64 volumes are changed as float32 ones are, to rounding."""
    images, labels = noise(8)
    exact = augment(images.double(), labels, flips=True)
    assert exact[0].dtype == torch.float64
    near = augment(images, labels, flips=True)
    torch.testing.assert_close(near[0].double(), exact[0], atol=1e-3, rtol=1e-3)
    assert float((near[1] == exact[1]).float().mean()) > 0.999


def test_the_kinds_of_change_come_as_often_as_they_should() -> None:
    """Seven volumes of ten are moved, and those for which nothing at all is drawn stay as they are."""
    images, labels = (values[:1].repeat(600, 1, 1, 1, 1) for values in noise(1))
    moved, moved_labels = augment(images, labels)
    turned = float((moved_labels != labels).flatten(1).any(1).float().mean())
    same = float((moved - images).abs().flatten(1).amax(1).lt(1e-5).float().mean())
    assert abs(turned - 0.7) < 0.06
    assert abs(same - 0.3 * 0.7**4) < 0.04
