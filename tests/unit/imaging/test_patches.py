"""Patches: how often they centre on foreground, and what padding adds."""

from __future__ import annotations

import torch
from torch import Generator, Tensor

from medloop.imaging.patches import PatchSampler, TrainingVolume, training_volume
from medloop.imaging.volumes import Shape


def generator(seed: int = 0) -> Generator:
    """A seeded generator."""
    return Generator().manual_seed(seed)


def volume(shape: Shape, *foreground: tuple[Shape, int], patch: Shape) -> TrainingVolume:
    """A volume whose image holds each voxel's number, and whose label is zero but for some voxels."""
    label = torch.zeros(shape, dtype=torch.uint8)
    for index, value in foreground:
        label[index] = value
    return training_volume(torch.arange(float(label.numel())).view(shape), label, patch, generator())


def centre(labels: Tensor) -> Tensor:
    """Label values [N] at the patches' centres."""
    x, y, z = (size // 2 for size in labels.shape[2:])
    return labels[:, 0, x, y, z]


def test_foreground_ratio() -> None:
    """Patches centre on foreground at the asked rate, each class alike, however few voxels it has."""
    cube = [((x, y, z), 1) for x in range(18, 22) for y in range(18, 22) for z in range(18, 22)]
    source = volume((40, 40, 40), *cube, ((10, 12, 30), 2), patch=(8, 8, 8))
    sampler = PatchSampler([source], (8, 8, 8), patches_per_volume=1200, foreground_ratio=0.6, batch_size=400)
    values = torch.cat([centre(labels) for _, labels in sampler.epoch(generator())])
    ones, twos = float((values == 1).float().mean()), float((values == 2).float().mean())
    assert abs(ones - 0.3) < 0.05
    assert abs(twos - 0.3) < 0.05


def test_never_foreground() -> None:
    """At ratio 0 patches fall anywhere; at ratio 1 always on foreground."""
    source = volume((40, 40, 40), ((20, 20, 20), 1), patch=(4, 4, 4))
    for ratio, expected in ((0.0, 0), (1.0, 100)):
        sampler = PatchSampler([source], (4, 4, 4), 100, ratio, 100)
        [(_, labels)] = list(sampler.epoch(generator()))
        assert int(centre(labels).sum()) == expected


def test_patches_stay_inside() -> None:
    """A patch around foreground at the edge is moved inwards: it holds the voxel, and image and label agree."""
    source = volume((10, 9, 8), ((0, 8, 7), 1), patch=(4, 4, 4))
    sampler = PatchSampler([source], (4, 4, 4), 20, 1.0, 20)
    [(images, labels)] = list(sampler.epoch(generator()))
    assert images.shape == labels.shape == (20, 1, 4, 4, 4)
    number = float(source.image[0, 8, 7])
    assert torch.equal(images[labels == 1], torch.full((20,), number))


def test_small_volumes_are_padded() -> None:
    """A volume smaller than the patch is padded with zeros and background on both sides."""
    source = volume((3, 8, 6), ((1, 1, 1), 1), patch=(8, 8, 8))
    assert source.image.shape == source.label.shape == (8, 8, 8)
    assert source.label[2 + 1, 1, 1 + 1] == 1
    assert int(source.label.sum()) == 1
    assert not source.image[:2].any()
    assert not source.image[5:].any()


def test_an_epoch_visits_all() -> None:
    """An epoch visits each volume equally often, in an order that the seed repeats and the next epoch changes."""
    volumes = [
        training_volume(
            torch.full((4, 4, 4), float(n)), torch.zeros(4, 4, 4, dtype=torch.uint8), (4, 4, 4), generator()
        )
        for n in range(5)
    ]
    sampler = PatchSampler(volumes, (4, 4, 4), patches_per_volume=3, foreground_ratio=0.5, batch_size=4)
    source = generator()
    first, second = ([images[:, 0, 0, 0, 0] for images, _ in sampler.epoch(source)] for _ in range(2))
    assert len(first) == sampler.batches_per_epoch == 4
    assert torch.cat(first).int().bincount().tolist() == [3] * 5
    assert torch.cat(first).tolist() != torch.cat(second).tolist()
    again = [images[:, 0, 0, 0, 0] for images, _ in sampler.epoch(generator())]
    assert torch.cat(first).tolist() == torch.cat(again).tolist()
