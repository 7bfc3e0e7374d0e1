"""Training samples out of preprocessed volumes: patches balanced on foreground, or whole volumes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Generator, Tensor
from torch.nn import functional

from medloop.imaging.volumes import Shape

FOREGROUND_VOXELS = 10_000
"""Candidate centres kept of each class and volume."""


@dataclass(frozen=True)
class TrainingVolume:
    """A preprocessed volume, padded to the patch, with the voxels that a foreground patch may centre on.

    Args:
        image: float32 [x, y, z].
        label: uint8 [x, y, z].
        centres: One tensor [n, 3] of voxel indices for each foreground class that occurs.
    """

    image: Tensor
    label: Tensor
    centres: tuple[Tensor, ...]

    @property
    def num_bytes(self) -> int:
        """Memory it takes."""
        return sum(t.numel() * t.element_size() for t in (self.image, self.label, *self.centres))


def training_volume(image: Tensor, label: Tensor, patch: Shape, generator: Generator) -> TrainingVolume:
    """Pad a preprocessed volume to at least `patch`, and draw its candidate centres.

    Args:
        image: float32 [x, y, z].
        label: uint8 [x, y, z]; 0 is background.
        patch: x, y, z of the patches to come.
        generator: Draws the candidates where a class has more voxels than are kept.
    """
    padding = _padding(tuple(image.shape), patch)
    image, label = functional.pad(image, padding), functional.pad(label, padding)
    centres = []
    for value in torch.unique(label[label > 0]).tolist():
        voxels = torch.nonzero(label == value)
        kept = torch.randperm(len(voxels), generator=generator)[:FOREGROUND_VOXELS]
        centres.append(voxels[kept].to(torch.int32))
    return TrainingVolume(image, label, tuple(centres))


def _padding(shape: Sequence[int], patch: Shape) -> list[int]:
    """Last axis first, which is torch's order; the odd voxel behind, as in MONAI's sliding windows."""
    missing = [max(0, wanted - own) for own, wanted in zip(shape, patch, strict=True)]
    return [side for total in reversed(missing) for side in (total // 2, total - total // 2)]


@dataclass(frozen=True)
class PatchSampler:
    """Draws patches from volumes; each epoch visits every volume `patches_per_volume` times, in random order.

    Args:
        volumes: At least one.
        patch: x, y, z of a patch.
        patches_per_volume: Visits of a volume in an epoch.
        foreground_ratio: Probability that a patch centres on a foreground voxel (its class drawn first, each alike).
        batch_size: Patches a batch; an epoch's last batch may hold fewer.
    """

    volumes: Sequence[TrainingVolume]
    patch: Shape
    patches_per_volume: int
    foreground_ratio: float
    batch_size: int

    @property
    def batches_per_epoch(self) -> int:
        """Batches that `epoch` yields."""
        return -(-len(self.volumes) * self.patches_per_volume // self.batch_size)

    def epoch(self, generator: Generator) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield (images float32 [N, 1, x, y, z], labels uint8 [N, 1, x, y, z])."""
        visits = torch.arange(len(self.volumes)).repeat(self.patches_per_volume)
        order = visits[torch.randperm(len(visits), generator=generator)]
        for indices in torch.split(order, self.batch_size):
            samples = [self._sample(self.volumes[i], generator) for i in indices.tolist()]
            images, labels = zip(*samples, strict=True)
            yield torch.stack(images)[:, None], torch.stack(labels)[:, None]

    def _sample(self, volume: TrainingVolume, generator: Generator) -> tuple[Tensor, Tensor]:
        starts = self._starts(volume, generator)
        box = tuple(slice(start, start + size) for start, size in zip(starts, self.patch, strict=True))
        return volume.image[box], volume.label[box]

    def _starts(self, volume: TrainingVolume, generator: Generator) -> list[int]:
        """First voxel of a patch; a patch that would leave the volume is moved inwards."""
        room = [own - size for own, size in zip(volume.image.shape, self.patch, strict=True)]
        if not volume.centres or float(torch.rand((), generator=generator)) >= self.foreground_ratio:
            return [_draw(free + 1, generator) for free in room]
        candidates = volume.centres[_draw(len(volume.centres), generator)]
        centre = candidates[_draw(len(candidates), generator)].tolist()
        return [min(max(c - size // 2, 0), free) for c, size, free in zip(centre, self.patch, room, strict=True)]


def _draw(bound: int, generator: Generator) -> int:
    return int(torch.randint(bound, (), generator=generator))
