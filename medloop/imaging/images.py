"""2D images as a network takes them: the same function prepares them for training and for prediction.

An image is decoded, scaled to 0..1, made grey or RGB and resized once, and stored as float16 (half the memory, and 11
significant bits at any brightness). Batches are then augmented and standardised as tensors on the device.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from medloop.documents.image_statistics import FULL_RANGE
from medloop.documents.model import ImagePreprocessing
from medloop.imaging.device import to_device
from medloop.imaging.draws import Draws
from medloop.imaging.formats import read_image
from medloop.imaging.preparation import in_threads
from medloop.imaging.resampling import affine_grid

LUMA = (0.299, 0.587, 0.114)
"""Weights of red, green and blue in grey (ITU-R BT.601)."""
MAX_ROTATION = math.radians(15)
MAX_SHIFT = 0.1
"""Share of the image's edge."""
SCALES = (0.85, 1.15)
MAX_BRIGHTNESS = 0.1
CONTRASTS = (0.75, 1.25)
GAMMAS = (0.7, 1.4)
MAX_NOISE = 0.05
"""Standard deviation, of values in 0..1."""


def prepare(
    pixels: NDArray[Any], image_size: int, channels: int, value_range: tuple[float, float] = FULL_RANGE
) -> Tensor:
    """Turn pixels into a square tensor.

    Args:
        pixels: [H, W] grey or [H, W, 3] RGB; uint8 is scaled by its own range, floating-point pixels are in 0..1
            already.
        image_size: Edge of the square in pixels; the image is resized with antialiasing, without its aspect.
        channels: 1 makes grey, 3 makes RGB.
        value_range: The uint16 values that become 0 and 1; values outside are clipped.

    Returns:
        [channels, image_size, image_size], float16 in 0..1.
    """
    values, scale = np.ascontiguousarray(pixels, dtype=np.float32), 255.0 if pixels.dtype == np.uint8 else 1.0
    if pixels.dtype == np.uint16:
        low, high = value_range
        # Values are clipped before they are resized: an outlier must not spread.
        values, scale = values.clip(low, high) - np.float32(low), high - low
    image = torch.from_numpy(values / np.float32(scale))
    image = image[None] if image.ndim == 2 else image.permute(2, 0, 1)
    if channels == 1 and len(image) == 3:
        image = (image * torch.tensor(LUMA)[:, None, None]).sum(dim=0, keepdim=True)
    image = image.expand(channels, -1, -1)[None]
    if image.shape[-2:] != (image_size, image_size):
        image = functional.interpolate(image, (image_size, image_size), mode="bilinear", antialias=True)
    return image[0].clamp(0, 1).half().contiguous()


def load_images(
    paths: Sequence[Path],
    image_size: int,
    channels: int,
    value_range: tuple[float, float] = FULL_RANGE,
    num_workers: int = 0,
    inspect: Callable[[NDArray[Any]], None] | None = None,
) -> Tensor:
    """Decode and prepare many images.

    Args:
        paths: At least one.
        image_size: See `prepare`.
        channels: See `prepare`.
        value_range: See `prepare`.
        num_workers: Threads; 0 takes one a core.
        inspect: Called with each image's pixels, in threads.

    Returns:
        [N, channels, image_size, image_size], float16 in 0..1, on the CPU.

    Raises:
        DataError: A file is no readable image; the message names it.
    """

    def load(path: Path) -> Tensor:
        pixels = read_image(path)
        if inspect is not None:
            inspect(pixels)
        return prepare(pixels, image_size, channels, value_range)

    return torch.stack(list(in_threads(load, paths, num_workers)))


def moments(image: Tensor) -> Tensor:
    """Mean and mean square of an image's pixels: float64 [2]."""
    exact = image.double()
    return torch.stack([exact.mean(), exact.square().mean()])


def fit_moments(rule: ImagePreprocessing, measured: Tensor) -> ImagePreprocessing:
    """Set a rule's mean and standard deviation to those over all pixels, from images' moments [N, 2]."""
    mean, square = (float(values.mean()) for values in measured.unbind(1))
    variance = max(0.0, square - mean**2)
    std = math.sqrt(variance) if variance > 1e-12 else 1.0
    return rule.model_copy(update={"mean": mean, "std": std})


def standardise(images: Tensor, rule: ImagePreprocessing) -> Tensor:
    """The last step before the network: (x - mean) / std, as float32 (float64 stays)."""
    return (_computable(images) - rule.mean) / rule.std


def _computable(images: Tensor) -> Tensor:
    return images if images.dtype == torch.float64 else images.float()


@dataclass(frozen=True)
class ImageAugmentation:
    """Random changes that leave an image's class as it is; each image of a batch gets its own.

    Args:
        flips: Mirror left and right, and top and bottom: only where sides don't distinguish classes.
    """

    flips: bool

    def __call__(self, images: Tensor, draws: Draws) -> Tensor:
        """Move the images, then change brightness, contrast, gamma and noise.

        Parameters are drawn on the CPU. Except for rounding, an image's result doesn't depend on its batch.

        Args:
            images: [N, C, S, S] in 0..1, of any floating-point type, on any device.
            draws: The batch's random numbers.

        Returns:
            The same shape, as float32 (float64 stays).
        """
        return self._change_intensity(self._move(_computable(images), draws), draws)

    def _move(self, images: Tensor, draws: Draws) -> Tensor:
        angle = draws.uniform(-MAX_ROTATION, MAX_ROTATION).double()[:, 0]
        scale = draws.uniform(*SCALES).double()[:, 0]
        # A grid's coordinates are in units of half an edge.
        shift = draws.uniform(-2 * MAX_SHIFT, 2 * MAX_SHIFT, 2).double()[:, :, None]
        cos, sin = torch.cos(angle) / scale, torch.sin(angle) / scale
        matrix = torch.stack([cos, -sin, sin, cos], dim=1).view(-1, 2, 2)
        if self.flips:
            matrix = matrix * draws.uniform(-1, 1, 2).sign()[:, None, :]
        matrices = to_device(torch.cat([matrix, shift], dim=2), images.device, images.dtype)
        grid = affine_grid(matrices, images.shape[2:])
        return functional.grid_sample(images, grid, padding_mode="border", align_corners=False)

    def _change_intensity(self, images: Tensor, draws: Draws) -> Tensor:
        drawn = [draws.uniform(low, high) for low, high in (GAMMAS, CONTRASTS, (-MAX_BRIGHTNESS, MAX_BRIGHTNESS))]
        drawn.append(draws.uniform(0, MAX_NOISE))
        columns = to_device(torch.cat(drawn, dim=1), images.device, images.dtype)[:, :, None, None, None]
        gamma, contrast, brightness, strength = columns.unbind(1)
        images = images.clamp(0, 1) ** gamma
        centre = images.mean(dim=(1, 2, 3), keepdim=True)
        images = (images - centre) * contrast + centre + brightness
        noise = draws.normal(images.shape[1:], images.device).to(images.dtype)
        return images + noise * strength
