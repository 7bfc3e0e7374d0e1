"""Random changes of a batch of volumes, image and label together, on the batch's device.

Every change is drawn per sample, on the CPU, so that which samples it is for is known without waiting for the device;
except for a reduction's rounding a sample's result doesn't depend on its batch. Intensities change in units of the
sample's own standard deviation, so that one set of ranges suits each intensity rule. The kinds of change are nnU-Net's
(Isensee et al. 2021), with smaller angles.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from medloop.documents.quantities import Triple
from medloop.imaging.device import to_device
from medloop.imaging.draws import Draws
from medloop.imaging.resampling import affine_grid

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
    """

    spacing: Triple
    flips: bool

    def __call__(self, images: Tensor, labels: Tensor, draws: Draws) -> tuple[Tensor, Tensor]:
        """Change a batch.

        Args:
            images: [N, 1, x, y, z], float32 or float64, on any device.
            labels: uint8 [N, 1, x, y, z], on the same device.
            draws: The batch's random numbers.

        Returns:
            As the input: same shapes, types and device.
        """
        images, labels = self._move(images, labels, draws)
        if self.flips:
            images, labels = self._flip(images, labels, draws)
        return self._recolour(images, draws), labels

    def _move(self, images: Tensor, labels: Tensor, draws: Draws) -> tuple[Tensor, Tensor]:
        """Rotate, zoom and shift; beyond the border, image and label have the border's values."""
        chosen = draws.chance(AFFINE_PROBABILITY).nonzero()[:, 0]
        matrices = self.matrices(draws, tuple(images.shape[2:]))[chosen]
        if not len(chosen):
            return images, labels
        grid = affine_grid(to_device(matrices, images.device, images.dtype), images.shape[2:])
        chosen = to_device(chosen, images.device)
        moved = functional.grid_sample(images[chosen], grid, padding_mode="border", align_corners=False)
        values = labels[chosen].to(images.dtype)
        nearest = functional.grid_sample(values, grid, mode="nearest", padding_mode="border", align_corners=False)
        return images.index_copy(0, chosen, moved), labels.index_copy(0, chosen, nearest.to(labels.dtype))

    def matrices(self, draws: Draws, shape: tuple[int, ...]) -> Tensor:
        """Draw rotations, each with a zoom and a shift.

        Args:
            draws: The batch's random numbers.
            shape: x, y, z of the volumes.

        Returns:
            float64 [N, 3, 4] for `affine_grid`, whose axes run z, y, x from -1 to 1: hence the extents on both sides.
        """
        half = [size * voxel / 2 for size, voxel in zip(shape, self.spacing, strict=True)]
        extent = torch.tensor(half[::-1], dtype=torch.float64)
        a, b, c = draws.uniform(-MAX_ANGLE, MAX_ANGLE, 3).double().unbind(1)
        zero = torch.zeros_like(a)
        skew = torch.stack([zero, -c, b, c, zero, -a, -b, a, zero], dim=1).view(-1, 3, 3)
        linear = torch.matrix_exp(skew) * draws.uniform(*ZOOM).double()[:, :, None]
        shift = draws.uniform(-MAX_TRANSLATION, MAX_TRANSLATION, 3).double()[:, :, None] * 2  # coordinates span 2
        return torch.cat([linear * extent[None, None, :] / extent[None, :, None], shift], dim=2)

    def _flip(self, images: Tensor, labels: Tensor, draws: Draws) -> tuple[Tensor, Tensor]:
        for axis in (2, 3, 4):
            mirrored = to_device(draws.chance(0.5).view(-1, 1, 1, 1, 1), images.device)
            images = torch.where(mirrored, images.flip(axis), images)
            labels = torch.where(mirrored, labels.flip(axis), labels)
        return images, labels

    def _recolour(self, images: Tensor, draws: Draws) -> Tensor:
        std, mean = torch.std_mean(images, dim=SPATIAL, keepdim=True)
        contrast = to_device(_sometimes(draws, *CONTRAST, neutral=1.0), images.device, images.dtype)
        shift = to_device(_sometimes(draws, -MAX_SHIFT, MAX_SHIFT, neutral=0.0), images.device, images.dtype)
        images = self._gamma((images - mean) * contrast + mean + shift * std, draws)
        noise = _sometimes(draws, 0.0, MAX_NOISE, neutral=0.0)
        noisy = noise.flatten().nonzero()[:, 0]
        if not len(noisy):
            return images
        grain = draws.normal(images.shape[1:], images.device, noisy.tolist()).to(images.dtype)
        strength = to_device(noise[noisy], images.device, images.dtype)
        noisy = to_device(noisy, images.device)
        return images.index_add(0, noisy, grain * strength * std[noisy])

    def _gamma(self, images: Tensor, draws: Draws) -> Tensor:
        """Raise the sample, scaled to 0..1 for it, to a power."""
        chosen = draws.chance(INTENSITY_PROBABILITY).nonzero()[:, 0]
        powers = draws.uniform(math.log(GAMMA[0]), math.log(GAMMA[1])).exp()[chosen]
        if not len(chosen):
            return images
        chosen = to_device(chosen, images.device)
        samples, power = images[chosen], to_device(_column(powers), images.device, images.dtype)
        low, high = samples.amin(SPATIAL, keepdim=True), samples.amax(SPATIAL, keepdim=True)
        scale = (high - low).clamp_min(1e-8)
        return images.index_copy(0, chosen, ((samples - low) / scale) ** power * scale + low)


def _sometimes(draws: Draws, low: float, high: float, *, neutral: float) -> Tensor:
    drawn = draws.uniform(low, high)
    chosen = draws.chance(INTENSITY_PROBABILITY)[:, None]
    return _column(torch.where(chosen, drawn, torch.full_like(drawn, neutral)))


def _column(values: Tensor) -> Tensor:
    return values.view(-1, 1, 1, 1, 1)
