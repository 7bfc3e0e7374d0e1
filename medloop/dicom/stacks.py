"""Volumes of a series: slices sorted by position, and what is odd about their positions. Torch-free.

Positions decide, never file names or InstanceNumber. Coordinates are DICOM's (LPS, mm) as in PS3.3 C.7.6.2.1.1.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from medloop.dicom.instances import REPETITION_NAMES, Plane

SAME_DIRECTION = 1e-3
"""Difference of cosines below which two slices are parallel."""
SAME_SPACING = 1e-3
"""Relative difference of pixel spacings below which two slices have one grid."""
SAME_POSITION = 1e-3
"""Millimetres below which two slices are at one position."""
SILENT, TOLERATED = 0.01, 0.1
"""Relative difference of a distance of slices from the median: rounding; uneven, and reported; above, a gap."""
DISPLACED = 0.5
"""Voxels between a slice's position and its voxels' in an even volume, from which another voxel is nearer."""
NOTICED_TILT = 0.1
"""Degrees."""
NOT_SQUARE = 1e-2
"""Cosine between rows and columns, and relative error of a direction's length, that is no rounding."""
RAS_FROM_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])
Affine = NDArray[np.float64]


@dataclass(frozen=True)
class Stack:
    """The slices of one volume.

    Attributes:
        planes: Sorted along the normal of the slices.
        affine: Voxel index (column, row, slice) to mm, RAS, 4x4.
        warnings: What is odd about the positions.
        part: Distinguishes the volumes of one series; "" if there is one.
    """

    planes: tuple[Plane, ...]
    affine: Affine
    warnings: tuple[str, ...] = ()
    part: str = ""

    @property
    def shape(self) -> tuple[int, int, int]:
        """Columns, rows, slices."""
        rows, columns = self.planes[0].shape
        return columns, rows, len(self.planes)


@dataclass(frozen=True)
class Rejected:
    """Slices of which no volume can be made.

    Attributes:
        planes: They.
        reason: The reason and the fix.
    """

    planes: tuple[Plane, ...]
    reason: str


@dataclass
class SeriesStacks:
    """The volumes of a series, what is left out, and warnings about the series as a whole."""

    stacks: list[Stack] = field(default_factory=list)
    rejected: list[Rejected] = field(default_factory=list)


def build_stacks(planes: Sequence[Plane]) -> SeriesStacks:
    """Sort a series' slices into volumes.

    Slices of another orientation, size or pixel spacing are another volume, as are repetitions at the same positions
    (echoes, b-values, phases). Copies of one slice (the same SOPInstanceUID and frame) count once.
    """
    result = SeriesStacks()
    unique = list({(plane.instance or str(plane.path), plane.frame): plane for plane in reversed(planes)}.values())[
        ::-1
    ]
    copies = len(planes) - len(unique)
    usable = [plane for plane in unique if plane.position and plane.orientation and plane.spacing]
    if len(usable) < len(unique):
        rest = tuple(plane for plane in unique if not (plane.position and plane.orientation and plane.spacing))
        reason = f"{_missing(rest[0])} is missing or malformed, so that positions are unknown; export the series again"
        result.rejected.append(Rejected(rest, reason))
    for group in _parallel(usable):
        for part in _repetitions(group):
            built = _build(part)
            if isinstance(built, Rejected):
                result.rejected.append(built)
            else:
                result.stacks.append(built)
    result.stacks = _label_parts(result.stacks, copies)
    return result


def _missing(plane: Plane) -> str:
    if not plane.position:
        return "ImagePositionPatient"
    return "PixelSpacing" if plane.orientation else "ImageOrientationPatient"


def _label_parts(stacks: list[Stack], copies: int) -> list[Stack]:
    """Number the volumes of a series with several, and mention copies."""
    notes = (f"{copies} copies of slices (the same SOPInstanceUID) are ignored",) if copies else ()
    if len(stacks) == 1:
        return [replace(stacks[0], warnings=(*notes, *stacks[0].warnings))]
    numbered = []
    for number, stack in enumerate(stacks, 1):
        note = f"the series has {len(stacks)} volumes, and this is number {number}{_why(stack, stacks)}"
        numbered.append(replace(stack, warnings=(note, *notes, *stack.warnings), part=str(number)))
    return numbered


def _why(stack: Stack, stacks: Sequence[Stack]) -> str:
    """The values by which a volume differs from the others."""
    values = [each.planes[0].repetition for each in stacks]
    named = [
        f"{name} {stack.planes[0].repetition[index]}"
        for index, name in enumerate(REPETITION_NAMES)
        if len({value[index] for value in values}) > 1 and stack.planes[0].repetition[index] and "time" not in name
    ]
    return f" ({', '.join(named[:3])})" if named else ""


def _parallel(planes: Sequence[Plane]) -> Iterator[list[Plane]]:
    """Groups of slices with one orientation, size and pixel spacing, in the order of their first slices."""
    groups: list[list[Plane]] = []
    for plane in planes:
        for group in groups:
            if _fits(group[0], plane):
                group.append(plane)
                break
        else:
            groups.append([plane])
    yield from groups


def _fits(first: Plane, second: Plane) -> bool:
    if first.shape != second.shape:
        return False
    turned = np.abs(np.subtract(first.orientation, second.orientation)).max()
    return bool(turned < SAME_DIRECTION and np.allclose(first.spacing, second.spacing, rtol=SAME_SPACING, atol=0))


def _directions(plane: Plane) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Unit vectors along a row, along a column, and along the normal."""
    row, column = np.array(plane.orientation[:3]), np.array(plane.orientation[3:])
    row, column = row / np.linalg.norm(row), column / np.linalg.norm(column)
    normal = np.cross(row, column)
    return row, column, normal / np.linalg.norm(normal)


def _is_square(plane: Plane) -> bool:
    """True if a slice's directions are two unit vectors, perpendicular to each other, and its spacings are positive."""
    row, column = np.array(plane.orientation[:3]), np.array(plane.orientation[3:])
    lengths = np.array([np.linalg.norm(row), np.linalg.norm(column)])
    return bool(np.abs(lengths - 1).max() < NOT_SQUARE and abs(row @ column) < NOT_SQUARE and min(plane.spacing) > 0)


def _repetitions(planes: Sequence[Plane]) -> list[list[Plane]]:
    """Divide slices that are several times at each position, by the first values of the headers that divide them."""
    if not _is_square(planes[0]) or not _repeats(planes):
        return [list(planes)]
    for index in range(len(REPETITION_NAMES)):
        groups = _group(planes, [index])
        if len(groups) > 1 and all(not _repeats(group) for group in groups):
            return groups
    # Times of single slices would divide a volume into slices, so they don't take part.
    groups = _group(planes, [index for index, name in enumerate(REPETITION_NAMES) if "time" not in name])
    return groups if all(not _repeats(group) for group in groups) else [list(planes)]


def _group(planes: Sequence[Plane], indices: Sequence[int]) -> list[list[Plane]]:
    groups: dict[tuple[str, ...], list[Plane]] = defaultdict(list)
    for plane in planes:
        groups[tuple(plane.repetition[index] for index in indices)].append(plane)
    sizes = {len(group) for group in groups.values()}
    # Groups of one slice each are no volumes: the value is another one in each slice.
    return list(groups.values()) if max(sizes) > 1 else [list(planes)]


def _sorted(planes: Sequence[Plane]) -> tuple[list[Plane], NDArray[np.float64], NDArray[np.float64]]:
    """Slices along their normal, their positions [N, 3], and their distances along the normal [N]."""
    normal = _directions(planes[0])[2]
    positions = np.array([plane.position for plane in planes])
    order = np.argsort(positions @ normal, kind="stable")
    return [planes[index] for index in order], positions[order], (positions @ normal)[order]


def _repeats(planes: Sequence[Plane]) -> bool:
    distances = _sorted(planes)[2]
    return bool((np.diff(distances) < SAME_POSITION).any())


def _build(planes: Sequence[Plane]) -> Stack | Rejected:
    """Sort the slices and compute the affine."""
    reason = _reason_against(planes)
    if reason:
        return Rejected(tuple(planes), reason)
    ordered, positions, distances = _sorted(planes)
    gaps = np.diff(distances)
    step = (positions[-1] - positions[0]) / (len(ordered) - 1)
    row, column, normal = _directions(ordered[0])
    affine = np.eye(4)
    affine[:3, :3] = np.stack([row * ordered[0].spacing[1], column * ordered[0].spacing[0], step], axis=1)
    affine[:3, 3] = positions[0]
    even = positions[0] + np.outer(np.arange(len(ordered)), step)
    displaced = np.abs(np.linalg.solve(affine[:3, :3], (positions - even).T)).max()
    if displaced > DISPLACED:
        return Rejected(
            tuple(ordered), f"slices are shifted against each other by {displaced:.1f} voxels; export the series again"
        )
    warnings = (*_describe_gaps(gaps), *_describe_tilt(step, normal))
    return Stack(tuple(ordered), RAS_FROM_LPS @ affine, warnings)


def _reason_against(planes: Sequence[Plane]) -> str:
    """The reason for which no volume can be made of slices; "" if there is none."""
    first = planes[0]
    if not _is_square(first):
        return "ImageOrientationPatient or PixelSpacing is impossible (no right angle, or a length of 0); export again"
    if any("LOCALIZER" in plane.repetition[0] for plane in planes):
        return "is a localizer (ImageType), no volume"
    if any("MOSAIC" in plane.repetition[0] for plane in planes):
        return "is a mosaic (ImageType), the slices of which have no positions; export as enhanced MR, or convert it"
    if len(planes) < 2:
        return "is a single slice, no volume"
    gaps = np.diff(_sorted(planes)[2])
    repeated = int((gaps < SAME_POSITION).sum())
    if repeated:
        return (
            f"{repeated} of {len(planes)} slices are at the position of another one, and nothing in their headers "
            "(echo, b-value, acquisition, ...) tells them apart; export the series again, or remove the copies"
        )
    return _describe_missing(gaps)


def _describe_missing(gaps: NDArray[np.float64]) -> str:
    """The reason if slices are missing, or distances too uneven for one voxel size."""
    usual = float(np.median(gaps))
    wide = np.flatnonzero(gaps > (1 + TOLERATED) * usual)
    if not len(wide) and (gaps >= (1 - TOLERATED) * usual).all():
        return ""
    multiples = gaps / usual
    if (np.abs(multiples - np.round(multiples)) < TOLERATED).all():
        missing, after = int(np.round(multiples[wide] - 1).sum()), ", ".join(str(each + 1) for each in wide[:3])
        more = ", ..." if len(wide) > 3 else ""
        noun = "slices are" if missing > 1 else "slice is"
        text = f"{missing} {noun} missing (after slice {after}{more} of {len(gaps) + 1})"
        return f"{text}; export the complete series"
    return (
        f"slices are {gaps.min():.4g} to {gaps.max():.4g} mm apart, which is no even volume; export a reconstruction "
        "with even distances"
    )


def _describe_gaps(gaps: NDArray[np.float64]) -> Iterator[str]:
    usual = float(np.median(gaps))
    if np.abs(gaps - usual).max() > max(SILENT * usual, SAME_POSITION):
        yield f"slices are {gaps.min():.4g} to {gaps.max():.4g} mm apart; the mean is used"


def _describe_tilt(step: NDArray[np.float64], normal: NDArray[np.float64]) -> Iterator[str]:
    cosine = float(step @ normal / np.linalg.norm(step))
    tilt = float(np.degrees(np.arccos(min(1.0, abs(cosine)))))
    if tilt > NOTICED_TILT:
        yield f"slices are tilted by {tilt:.1f} degrees (gantry tilt): the affine is sheared, the voxels are as scanned"
