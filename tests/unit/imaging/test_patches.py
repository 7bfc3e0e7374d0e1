"""Patches: how often they centre on foreground, what padding adds, and that each depends on its sample alone."""

from __future__ import annotations

import torch
from torch import Tensor

from medloop.imaging.draws import Draws
from medloop.imaging.network_grid import Shape
from medloop.imaging.patches import FOREGROUND_VOXELS, PatchSampler, TrainingVolume, training_volume


def volume(shape: Shape, *foreground: tuple[Shape, int], patch: Shape) -> TrainingVolume:
    """A volume whose image holds each voxel's number, and whose label is zero except at some voxels."""
    label = torch.zeros(shape, dtype=torch.uint8)
    for index, value in foreground:
        label[index] = value
    return training_volume(torch.arange(float(label.numel())).view(shape), label, patch, seed=0)


def batch(sampler: PatchSampler, samples: list[int] | None = None, epoch: int = 1) -> tuple[Tensor, Tensor]:
    """Some samples of an epoch; all of them by default."""
    chosen = list(range(sampler.num_samples)) if samples is None else samples
    return sampler.batch(chosen, Draws(0, epoch, chosen))


def centre(labels: Tensor) -> Tensor:
    """Label values [N] at the patches' centres."""
    x, y, z = (size // 2 for size in labels.shape[2:])
    return labels[:, 0, x, y, z]


def test_foreground_ratio() -> None:
    """Patches centre on foreground at the given rate, each class alike, however few voxels it has."""
    cube = [((x, y, z), 1) for x in range(18, 22) for y in range(18, 22) for z in range(18, 22)]
    source = volume((40, 40, 40), *cube, ((10, 12, 30), 2), patch=(8, 8, 8))
    values = centre(batch(PatchSampler([source], (8, 8, 8), 1200, 0.6))[1])
    share_of_1, share_of_2 = float((values == 1).float().mean()), float((values == 2).float().mean())
    assert abs(share_of_1 - 0.3) < 0.05
    assert abs(share_of_2 - 0.3) < 0.05


def test_never_foreground() -> None:
    """At ratio 0 patches fall anywhere; at ratio 1 always on foreground."""
    source = volume((40, 40, 40), ((20, 20, 20), 1), patch=(4, 4, 4))
    for ratio, expected in ((0.0, 0), (1.0, 100)):
        _, labels = batch(PatchSampler([source], (4, 4, 4), 100, ratio))
        assert int(centre(labels).sum()) == expected


def test_patches_stay_inside() -> None:
    """A patch around foreground at the edge is moved inwards: it holds the voxel, and image and label agree."""
    source = volume((10, 9, 8), ((0, 8, 7), 1), patch=(4, 4, 4))
    images, labels = batch(PatchSampler([source], (4, 4, 4), 20, 1.0))
    assert images.shape == labels.shape == (20, 1, 4, 4, 4)
    assert (images.dtype, labels.dtype) == (torch.float32, torch.uint8)
    number = float(source.image[0, 8, 7])
    assert torch.equal(images[labels == 1], torch.full((20,), number))


def test_patches_reach_every_corner() -> None:
    """Without foreground, patches begin anywhere that leaves them inside: at both ends of each axis too."""
    source = volume((6, 5, 4), patch=(4, 4, 4))
    images, _ = batch(PatchSampler([source], (4, 4, 4), 200, 0.5))
    assert sorted(images[:, 0, 0, 0, 0].unique().tolist()) == [0, 4, 20, 24, 40, 44]


def test_small_volumes_are_padded() -> None:
    """A volume smaller than the patch is padded with zeros and background on both sides."""
    source = volume((3, 8, 6), ((1, 1, 1), 1), patch=(8, 8, 8))
    assert source.image.shape == source.label.shape == (8, 8, 8)
    assert source.label[2 + 1, 1, 1 + 1] == 1
    assert int(source.label.sum()) == 1
    assert not source.image[:2].any()
    assert not source.image[5:].any()


def test_large_volumes_are_not_copied() -> None:
    """What holds a patch already stays where it lies, in a mapped file it may be."""
    image, label = torch.zeros(4, 5, 6), torch.zeros(4, 5, 6, dtype=torch.uint8)
    source = training_volume(image, label, (4, 4, 4), seed=0)
    assert (source.image.data_ptr(), source.label.data_ptr()) == (image.data_ptr(), label.data_ptr())


def test_candidates_depend_on_seed_and_content() -> None:
    """More voxels than are kept: another seed keeps others, and so does another label, but not another place."""
    image, label = torch.zeros(30, 30, 30), torch.ones(30, 30, 30, dtype=torch.uint8)
    first, again, other = (training_volume(image, label, (4, 4, 4), seed).centres[0] for seed in (0, 0, 1))
    assert len(first) == FOREGROUND_VOXELS
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    # All but the first voxel, and all but the last: as many, and the same ones are kept unless the content counts.
    label[0, 0, 0] = 0
    without_first = training_volume(image, label, (4, 4, 4), 0).centres[0]
    without_last = training_volume(image, label.flip(0, 1, 2), (4, 4, 4), 0).centres[0]
    assert not torch.equal(number(without_first) - 1, number(without_last))


def number(voxels: Tensor) -> Tensor:
    """Voxels [n, 3] of a cube of 30, one after the other."""
    return voxels @ torch.tensor([900, 30, 1], dtype=voxels.dtype)


def test_an_epoch_visits_all() -> None:
    """Each volume is visited equally often: sample s is of volume s modulo their number."""
    empty = torch.zeros(4, 4, 4, dtype=torch.uint8)
    volumes = [training_volume(torch.full((4, 4, 4), float(n)), empty, (4, 4, 4), seed=0) for n in range(5)]
    sampler = PatchSampler(volumes, (4, 4, 4), patches_per_volume=3, foreground_ratio=0.5)
    assert sampler.num_samples == 15
    images, _ = batch(sampler)
    assert images[:, 0, 0, 0, 0].tolist() == [0, 1, 2, 3, 4] * 3


def test_a_sample_depends_on_nothing_but_itself() -> None:
    """The same patch with any other samples in the batch; another in the next epoch, and another at the next visit."""
    source = volume((40, 40, 40), ((20, 20, 20), 1), ((5, 5, 5), 2), patch=(8, 8, 8))
    sampler = PatchSampler([source], (8, 8, 8), 12, 0.5)
    together, _ = batch(sampler)
    for samples in ([3], [7, 3], [11, 0, 5, 3, 9]):
        alone, _ = batch(sampler, samples)
        assert torch.equal(alone, together[samples])
    assert not torch.equal(batch(sampler, epoch=2)[0], together)
    assert len(together[:, 0, 0, 0, 0].unique()) > 3
