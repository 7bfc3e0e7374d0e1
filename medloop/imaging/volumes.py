"""From a volume to the network's input, and from the network's output to a label map on the volume's own grid.

One path for training and prediction: `preprocess` (to RAS, scale intensity, resample) forwards, `label_map` (resample
the probabilities, argmax) and `from_ras` backwards. Axes are X, Y, Z; a voxel size is in
mm, or without a unit where the header specifies none.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from nibabel import orientations
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from medloop.documents.model import VolumePreprocessing
from medloop.documents.quantities import Triple
from medloop.errors import DataError
from medloop.imaging import intensity
from medloop.imaging.files import Volume
from medloop.imaging.formats import read_volume_header
from medloop.imaging.layouts import IMAGE
from medloop.imaging.network_grid import Shape, find_orientation, grid_of, target_shape
from medloop.imaging.validation import read_subject, require_volume


def read_case(folder: Path, classes: Sequence[str]) -> tuple[Volume, Volume]:
    """Read a subject's image and label (as uint8), which are on one grid.

    Raises:
        DataError: A file can't be used; the message names it with its folder.
    """
    try:
        subject = read_subject(folder, classes)
    except DataError as error:
        raise DataError(f"{folder.name}/{error}") from None
    return subject.image, subject.label


def read_spacing(folder: Path) -> Triple:
    """Voxel size of a subject's image in RAS, from its header alone.

    Raises:
        DataError: The header can't be used; the message names the file with its folder.
    """
    try:
        header = read_volume_header(require_volume(folder, IMAGE))
    except DataError as error:
        raise DataError(f"{folder.name}/{error}") from None
    return grid_of(header).spacing


def to_ras(volume: Volume) -> Volume:
    """Flip and permute the axes to the closest Right-Anterior-Superior order; no voxel changes its value.

    Raises:
        DataError: The affine has no orientation (it is singular or not finite).
    """
    orientation = find_orientation(volume.affine)
    shape = volume.voxels.shape
    voxels = np.ascontiguousarray(orientations.apply_orientation(volume.voxels, orientation))
    return Volume(voxels, volume.affine @ orientations.inv_ornt_aff(orientation, shape))


def from_ras(voxels: NDArray[Any], affine: NDArray[np.float64]) -> NDArray[Any]:
    """Bring RAS voxels back to the axes of the grid that `affine` describes: the inverse of `to_ras`."""
    ras = orientations.axcodes2ornt(("R", "A", "S"))
    back = orientations.ornt_transform(ras, find_orientation(affine))
    return np.ascontiguousarray(orientations.apply_orientation(voxels, back))


def resize_image(image: Tensor, shape: Shape) -> Tensor:
    """Resample linearly to `shape`, anti-aliased along the axes that get coarser.

    Grids share their outer edges, so the field of view stays. PyTorch's anti-aliased filter is two-dimensional; a
    linear filter is separable, so two passes (X and Y, then Z) are the trilinear one.

    Args:
        image: [X, Y, Z], floating point.
        shape: The new X, Y, Z.
    """
    if tuple(image.shape) == shape:
        return image
    x, y, z = shape
    slices = image.permute(2, 0, 1)[None]
    slices = functional.interpolate(slices, size=(x, y), mode="bilinear", antialias=True)
    columns = slices[0].permute(1, 2, 0)[None]
    return functional.interpolate(columns, size=(y, z), mode="bilinear", antialias=True)[0].contiguous()


def resize_label(label: Tensor, shape: Shape) -> Tensor:
    """Resample to `shape` by the nearest voxel, on the same grid as `resize_image`: no label value is ever invented.

    Args:
        label: [X, Y, Z], uint8.
        shape: The new X, Y, Z.
    """
    return functional.interpolate(label[None, None], size=shape, mode="nearest-exact")[0, 0].contiguous()


def preprocess(volume: Volume, rule: VolumePreprocessing) -> Tensor:
    """Turn a volume on its own grid into the network's input: RAS, intensity scaled, resampled.

    Returns:
        float32 [x, y, z]; `rule` gives its shape.

    Raises:
        DataError: The affine gives no orientation, or a voxel size that can't be.
    """
    ras = to_ras(volume)
    shape = target_shape(ras.voxels.shape, ras.spacing, rule)
    scaled = intensity.scale(ras.voxels, rule.intensity)
    return resize_image(torch.from_numpy(scaled), shape)


def label_map(probabilities: Tensor, shape: Shape) -> Tensor:
    """Resample each class's probability to `shape`, then take the class with the highest.

    One class at a time, so that memory contains two volumes at full resolution, not one a class.

    Args:
        probabilities: [C, x, y, z], C at most 256.
        shape: X, Y, Z of the volume in RAS, before it was resampled.

    Returns:
        uint8 [X, Y, Z], in RAS.
    """
    best = resize_image(probabilities[0], shape)
    labels = torch.zeros(shape, dtype=torch.uint8, device=probabilities.device)
    for index in range(1, len(probabilities)):
        candidate = resize_image(probabilities[index], shape)
        labels[candidate > best] = index
        best = torch.maximum(best, candidate)
    return labels
