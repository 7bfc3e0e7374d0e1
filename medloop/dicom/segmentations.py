"""Label maps from DICOM SEG: binary, fractional and label map, on the grid of an image's stack. Torch-free."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medloop.dicom.elements import first_item, in_groups, integer, items, text
from medloop.dicom.files import read_dataset
from medloop.dicom.instances import Plane, planes_of_dataset
from medloop.dicom.pixels import PIXEL_TAGS, decode
from medloop.dicom.stacks import Stack, build_stacks
from medloop.imaging.files import FileError

_TAGS = (
    *("SegmentationType", "MaximumFractionalValue", "SOPInstanceUID", "SegmentSequence", "ImageType"),
    *("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence", "FrameOfReferenceUID"),
)
RESAMPLED = "segments are on another grid: resampled to the nearest voxel"
SHARE = 0.5
"""Fraction of a voxel, or probability, from which a fractional segment takes it."""
SAME_GRID = 0.05
"""Voxels between the grids of a segment and of its image, below which voxels correspond."""
Mask = NDArray[np.bool_]


def read_masks(path: Path, stack: Stack) -> Iterator[tuple[int, Mask, str]]:
    """Read the segments of a SEG on an image's grid.

    Args:
        path: The SEG.
        stack: The image's slices.

    Yields:
        The segment's number, its mask [columns, rows, slices], and a warning if the mask was resampled, else "".

    Raises:
        FileError: It can't be decoded, or its frames have no position.
    """
    dataset = read_dataset(path, [*PIXEL_TAGS, *_TAGS], pixels=True)
    frames = decode(path, dataset)
    planes = planes_of_dataset(dataset, path)
    if len(planes) != len(frames):
        raise FileError(path, f"has {len(frames)} frames and positions of {len(planes)}; export it again")
    is_label_map = text(dataset, "SegmentationType").upper() == "LABELMAP"
    for number, members in _frames_of_segments(dataset, planes, frames, is_label_map=is_label_map).items():
        masks = [_mask(frames[plane.frame], dataset, number, is_label_map=is_label_map) for plane in members]
        mask, warning = _on_grid(path, members, masks, stack)
        yield number, mask, warning


def _frames_of_segments(
    dataset: Any, planes: list[Plane], frames: NDArray[Any], *, is_label_map: bool
) -> dict[int, list[Plane]]:
    """The frames of each segment, by its number; a label map's frames are of all segments."""
    numbers = [integer(item, "SegmentNumber") for item in items(dataset, "SegmentSequence")]
    if is_label_map:
        present = set(np.unique(frames).tolist())
        return {number: planes for number in numbers if number in present}
    shared = first_item(dataset, "SharedFunctionalGroupsSequence")
    members: dict[int, list[Plane]] = defaultdict(list)
    for plane, frame in zip(planes, items(dataset, "PerFrameFunctionalGroupsSequence"), strict=True):
        identification = in_groups((frame, shared), "SegmentIdentificationSequence")
        members[integer(identification, "ReferencedSegmentNumber")].append(plane)
    return {number: members[number] for number in numbers if number in members}


def _mask(frame: NDArray[Any], dataset: Any, number: int, *, is_label_map: bool) -> Mask:
    if is_label_map:
        return np.asarray(frame == number)
    if text(dataset, "SegmentationType").upper() == "FRACTIONAL":
        return np.asarray(frame >= SHARE * integer(dataset, "MaximumFractionalValue", 255))
    return np.asarray(frame != 0)


def _on_grid(path: Path, planes: list[Plane], masks: list[Mask], stack: Stack) -> tuple[Mask, str]:
    """Place frames into the grid of an image: frame by frame if they are its slices, else resampled as a volume."""
    result = np.zeros(stack.shape, np.bool_)
    inverse = np.linalg.inv(stack.affine)
    for plane, mask in zip(planes, masks, strict=True):
        index = _slice_of(path, plane, inverse, stack)
        if index is None:
            return _resampled(
                path, planes, masks, stack
            ), "segments are on another grid: resampled to the nearest voxel"
        if 0 <= index < stack.shape[2]:
            result[:, :, index] |= mask.T
    return result, ""


def _slice_of(path: Path, plane: Plane, inverse: NDArray[Any], stack: Stack) -> int | None:
    """The number of the slice whose pixels a frame's correspond to, which may be outside; None if they don't."""
    if not (plane.position and plane.orientation and plane.spacing):
        raise FileError(path, "has a frame without position, orientation or spacing; export it again")
    if plane.shape != stack.planes[0].shape:
        return None
    rows, columns = plane.shape
    row, column = np.array(plane.orientation[:3]), np.array(plane.orientation[3:])
    right, down = row * plane.spacing[1] * (columns - 1), column * plane.spacing[0] * (rows - 1)
    first = np.array(plane.position)
    corners = np.stack([first, first + right, first + down, first + right + down]) * (-1, -1, 1)
    indices = corners @ inverse[:3, :3].T + inverse[:3, 3]
    index = round(float(indices[0, 2]))
    expected = [(0, 0, index), (columns - 1, 0, index), (0, rows - 1, index), (columns - 1, rows - 1, index)]
    return index if np.abs(indices - expected).max() < SAME_GRID else None


def _resampled(path: Path, planes: list[Plane], masks: list[Mask], stack: Stack) -> Mask:
    """Look up each voxel of the image in the volume of a segment's frames."""
    from scipy.ndimage import affine_transform

    by_frame = {plane.frame: mask for plane, mask in zip(planes, masks, strict=True)}
    built = build_stacks(planes)
    if len(built.stacks) != 1 or built.rejected:
        reason = built.rejected[0].reason if built.rejected else "its frames have several orientations"
        raise FileError(path, f"is not on its image's grid, and can't be resampled: {reason}")
    segment = built.stacks[0]
    volume = np.stack([by_frame[plane.frame].T for plane in segment.planes], axis=2).astype(np.uint8)
    matrix = np.linalg.inv(segment.affine) @ stack.affine
    return np.asarray(affine_transform(volume, matrix, output_shape=stack.shape, order=0) > 0)
