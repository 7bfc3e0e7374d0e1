"""Random changes of a batch of volumes, image and label together, on the device that holds the batch.

Every change is drawn per sample. Intensities change in units of the sample's own standard deviation, so that one set
of ranges suits each intensity rule. The kinds of change are nnU-Net's (Isensee et al. 2021), with smaller angles.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Generator, Tensor
from torch.nn import functional

from medloop.training.model_record import Triple

AFFINE_PROBABILITY = 0.7
MAX_ANGLE = 0.26
"""Radians about each axis: 15 degrees."""
ZOOM = (0.85, 1.18)
MAX_TRANSLATION = 0.1
"""Share of the edge: a patch as large as its volume would else never see it elsewhere."""
INTENSITY_PROBABILITY = 0.3
CONTRAST = (0.75, 1.25)
MAX_SHIFT = 0.2
GAMMA = (0.7, 1.5)
MAX_NOISE = 0.15
SPATIAL = (1, 2, 3, 4)


@dataclass(frozen=True)
class VolumeAugmentation:
    """Augments batches.

    Args:
        spacing: Voxel size, so that a rotation keeps lengths where voxels are no cubes.
        flips: Mirror at random on each axis.
        generator: On the batch's device.
    """

    spacing: Triple
    flips: bool
    generator: Generator

    def __call__(self, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Change a batch.

        Args:
            images: float32 [N, 1, x, y, z].
            labels: uint8 [N, 1, x, y, z].
        """
        images, labels = self._move(images, labels)
        if self.flips:
            images, labels = self._flip(images, labels)
        return self._recolour(images), labels

    def _move(self, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Rotate, zoom and shift; image and label go on beyond the border as they are at it."""
        chosen = self._chance(len(images), AFFINE_PROBABILITY).nonzero()[:, 0]
        if not len(chosen):
            return images, labels
        matrices = self.matrices(len(chosen), tuple(images.shape[2:]))
        grid = functional.affine_grid(matrices, [len(chosen), *images.shape[1:]], align_corners=False)
        moved = functional.grid_sample(
            images[chosen], grid, mode="bilinear", padding_mode="border", align_corners=False
        )
        values = labels[chosen].to(images.dtype)
        nearest = functional.grid_sample(values, grid, mode="nearest", padding_mode="border", align_corners=False)
        return images.index_copy(0, chosen, moved), labels.index_copy(0, chosen, nearest.to(labels.dtype))

    def matrices(self, count: int, shape: tuple[int, ...]) -> Tensor:
        """Draw rotations, each with a zoom and a shift.

        Args:
            count: How many.
            shape: x, y, z of the volumes.

        Returns:
            [count, 3, 4] for `affine_grid`, whose axes run z, y, x from -1 to 1: hence the extents on both sides.
        """
        half = [size * voxel / 2 for size, voxel in zip(shape, self.spacing, strict=True)]
        extent = torch.tensor(half[::-1], device=self.generator.device)
        a, b, c = self._uniform((3, count), -MAX_ANGLE, MAX_ANGLE)
        zero = torch.zeros_like(a)
        skew = torch.stack([zero, -c, b, c, zero, -a, -b, a, zero], dim=1).view(count, 3, 3)
        linear = torch.matrix_exp(skew) * self._uniform((count, 1, 1), *ZOOM)
        shift = self._uniform((count, 3, 1), -MAX_TRANSLATION, MAX_TRANSLATION) * 2  # coordinates span 2
        return torch.cat([linear * extent[None, None, :] / extent[None, :, None], shift], dim=2)

    def _flip(self, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        for axis in (2, 3, 4):
            mirrored = self._chance(len(images), 0.5).view(-1, 1, 1, 1, 1)
            images = torch.where(mirrored, images.flip(axis), images)
            labels = torch.where(mirrored, labels.flip(axis), labels)
        return images, labels

    def _recolour(self, images: Tensor) -> Tensor:
        count = len(images)
        std, mean = torch.std_mean(images, dim=SPATIAL, keepdim=True)
        contrast = self._sometimes(count, *CONTRAST, neutral=1.0)
        shift = self._sometimes(count, -MAX_SHIFT, MAX_SHIFT, neutral=0.0)
        images = self._gamma((images - mean) * contrast + mean + shift * std)
        noise = self._sometimes(count, 0.0, MAX_NOISE, neutral=0.0) * std
        noisy = (noise.flatten() > 0).nonzero()[:, 0]
        if not len(noisy):
            return images
        grain = torch.randn(images[noisy].shape, generator=self.generator, device=images.device)
        return images.index_add(0, noisy, grain * noise[noisy])

    def _gamma(self, images: Tensor) -> Tensor:
        """Raise the sample, scaled to 0..1 for it, to a power."""
        chosen = self._chance(len(images), INTENSITY_PROBABILITY).nonzero()[:, 0]
        if not len(chosen):
            return images
        samples = images[chosen]
        low, high = samples.amin(SPATIAL, keepdim=True), samples.amax(SPATIAL, keepdim=True)
        power = torch.exp(self._uniform((len(chosen), 1, 1, 1, 1), *torch.tensor(GAMMA).log().tolist()))
        scale = (high - low).clamp_min(1e-8)
        return images.index_copy(0, chosen, ((samples - low) / scale) ** power * scale + low)

    def _sometimes(self, count: int, low: float, high: float, *, neutral: float) -> Tensor:
        drawn = self._uniform((count,), low, high)
        values = torch.where(self._chance(count, INTENSITY_PROBABILITY), drawn, torch.full_like(drawn, neutral))
        return values.view(-1, 1, 1, 1, 1)

    def _chance(self, count: int, probability: float) -> Tensor:
        return self._uniform((count,), 0.0, 1.0) < probability

    def _uniform(self, shape: tuple[int, ...], low: float, high: float) -> Tensor:
        return torch.rand(shape, generator=self.generator, device=self.generator.device) * (high - low) + low
