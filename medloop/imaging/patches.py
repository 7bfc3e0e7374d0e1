"""Training samples out of preprocessed volumes: patches balanced on foreground, or whole volumes."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Generator, Tensor
from torch.nn import functional

from medloop.imaging.device import empty_batch
from medloop.imaging.draws import Draws
from medloop.imaging.network_grid import Shape

FOREGROUND_VOXELS = 10_000
"""Most candidate centres of each class and volume."""


@dataclass(frozen=True)
class TrainingVolume:
    """A preprocessed volume, padded to the patch, with the voxels that a foreground patch may centre on.

    Args:
        image: float32 [x, y, z].
        label: uint8 [x, y, z].
        centres: One tensor int32 [n, 3] of voxel indices for each foreground class that occurs; always on the CPU,
            where positions are drawn.
    """

    image: Tensor
    label: Tensor
    centres: tuple[Tensor, ...]

    @property
    def num_bytes(self) -> int:
        """Memory it takes."""
        return sum(t.numel() * t.element_size() for t in (self.image, self.label, *self.centres))

    def to(self, device: torch.device) -> TrainingVolume:
        """The same with image and label on a device."""
        return replace(self, image=self.image.to(device), label=self.label.to(device))


def training_volume(image: Tensor, label: Tensor, patch: Shape, seed: int) -> TrainingVolume:
    """Pad a preprocessed volume to at least `patch`, and draw its candidate centres.

    A volume that is large enough is not copied: it may be in a mapped file.

    Args:
        image: float32 [x, y, z], on the CPU.
        label: uint8 [x, y, z], on the CPU; 0 is background.
        patch: x, y, z of the patches to come.
        seed: Draws the candidates where a class has more voxels than this, together with the label's content:
            not with the volume's index.
    """
    padding = _padding(tuple(image.shape), patch)
    if any(padding):
        image, label = functional.pad(image, padding), functional.pad(label, padding)
    generator = Generator().manual_seed(_content_seed(label, seed))
    centres = []
    for value in torch.unique(label[label > 0]).tolist():
        voxels = torch.nonzero(label == value)
        drawn = torch.randperm(len(voxels), generator=generator)[:FOREGROUND_VOXELS]
        centres.append(voxels[drawn].to(torch.int32))
    return TrainingVolume(image, label, tuple(centres))


def _content_seed(label: Tensor, seed: int) -> int:
    digest = hashlib.sha256(f"{seed} {tuple(label.shape)} ".encode())
    digest.update(label.numpy().data)
    return int.from_bytes(digest.digest()[:8], "big") >> 1


def _padding(shape: Sequence[int], patch: Shape) -> list[int]:
    """Last axis first, which is torch's order; the odd voxel behind, as in MONAI's sliding windows."""
    missing = [max(0, minimum - size) for size, minimum in zip(shape, patch, strict=True)]
    return [side for total in reversed(missing) for side in (total // 2, total - total // 2)]


@dataclass(frozen=True)
class PatchSampler:
    """Draws patches from volumes, each of which an epoch visits equally often.

    Args:
        volumes: At least one; all on one device.
        patch: x, y, z of a patch.
        patches_per_volume: Visits of a volume in an epoch.
        foreground_ratio: Probability that a patch centres on a foreground voxel (its class drawn first, each alike).
    """

    volumes: Sequence[TrainingVolume]
    patch: Shape
    patches_per_volume: int
    foreground_ratio: float

    @property
    def num_samples(self) -> int:
        """Samples of an epoch; sample s is a visit of volume s % len(volumes)."""
        return len(self.volumes) * self.patches_per_volume

    def batch(self, samples: Sequence[int], draws: Draws) -> tuple[Tensor, Tensor]:
        """Cut one patch a sample.

        Where the volumes are on a GPU nothing here waits for it: positions are drawn on the CPU.

        Args:
            samples: From 0 to `num_samples` - 1, in any order.
            draws: Of the same samples, in the same order.

        Returns:
            (images float32 [N, 1, x, y, z], labels uint8 [N, 1, x, y, z]) on the volumes' device; in pinned memory
            where they are on the CPU and there is a GPU.
        """
        device, shape = self.volumes[0].image.device, (len(samples), 1, *self.patch)
        images = empty_batch(shape, self.volumes[0].image.dtype, device)
        labels = empty_batch(shape, torch.uint8, device)
        foreground = draws.chance(self.foreground_ratio).tolist()
        for index, sample in enumerate(samples):
            volume = self.volumes[sample % len(self.volumes)]
            starts = self._starts(volume, draws, index, foreground=foreground[index])
            box = tuple(slice(start, start + size) for start, size in zip(starts, self.patch, strict=True))
            images[index, 0].copy_(volume.image[box])
            labels[index, 0].copy_(volume.label[box])
        return images, labels

    def _starts(self, volume: TrainingVolume, draws: Draws, index: int, *, foreground: bool) -> list[int]:
        """First voxel of a patch; a patch that would leave the volume is moved inwards."""
        room = [edge - size for edge, size in zip(volume.image.shape, self.patch, strict=True)]
        if not (foreground and volume.centres):
            return [draws.below(index, free + 1) for free in room]
        candidates = volume.centres[draws.below(index, len(volume.centres))]
        centre = candidates[draws.below(index, len(candidates))].tolist()
        return [min(max(c - size // 2, 0), free) for c, size, free in zip(centre, self.patch, room, strict=True)]
