"""Compare the grids of an image and its label by how far corresponding voxels are apart. Torch-free.

Affines are compared by the displacement of the volume's corners, along each axis in the image's voxels: a small angle
moves the last slice of a long volume further than a rounded origin moves any. Other programs compare numbers of the
header: ITK's filters to 1e-6 of the spacing, nnU-Net's check to 1e-5 with a warning.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

import numpy as np
from numpy.typing import NDArray

from medloop.imaging.files import Volume
from medloop.imaging.nifti_header import MILLIMETRES

Affine = NDArray[np.float64]
UNCHANGED = np.array([[0, 1], [1, 1], [2, 1]])
"""The orientation that reorders nothing."""
SAME_GRID = 0.05
"""Voxels: what rounding in an exporter does. Below it grids are the same."""
SAME_VOXELS = 0.5
"""Voxels: below it the nearest voxel of the label is the corresponding one, so resampling would change nothing."""


@dataclass(frozen=True)
class GridDifference:
    """A label's grid is not its image's.

    Attributes:
        message: The difference and its fix, without the file's name.
        corresponds: True if the label's array fits the image's all the same.
        axes: The orientation, as nibabel has them, that brings the label's array to the image's axes; None if it is
            in their order.
    """

    message: str
    corresponds: bool
    axes: NDArray[np.float64] | None = None


def compare_grids(image: Volume, label: Volume) -> GridDifference | None:
    """Compare a label's grid with its image's; None if they are the same.

    The array of a label that is displaced by less than half a voxel corresponds to the image's, in the order of its
    axes or in another; so does that of a label on the image's other transform: a program that reads the qform drew it.
    """
    shapes = image.voxels.shape, label.voxels.shape
    if shapes[0] != shapes[1]:
        text = f"has shape {shapes[1]} where its image has {shapes[0]}; export the label on its image's grid"
        return _in_another_order(image, label) or GridDifference(text, False)
    apart = displacement(image.affine, label.affine, shapes[0])
    if apart <= SAME_GRID:
        return None
    fields = ", ".join(differing_fields(image.affine, label.affine, shapes[0]))
    if apart < SAME_VOXELS:
        text = f"is up to {apart:.2g} voxels from its image's grid ({fields}); the image's is used, as each voxel's "
        return GridDifference(f"{text}nearest is the corresponding one; correct the label's header", True)
    # The qform first: where it mirrors the sform's grid, a label on it was drawn on this array, and isn't mirrored.
    return (
        _on_the_other_transform(image, label)
        or _on_an_unused_transform(image, label)
        or _in_another_order(image, label)
        or GridDifference(_other_grid(image, label, apart, fields), False)
    )


def displacement(first: Affine, second: Affine, shape: tuple[int, ...]) -> float:
    """Largest distance of corresponding corner voxels along an axis of the first grid, in its voxels."""
    corners = np.array([(*corner, 1) for corner in product(*((0, edge - 1) for edge in shape))]).T
    return float(np.abs(np.linalg.solve(first, second @ corners)[:3] - corners[:3]).max())


def differing_fields(first: Affine, second: Affine, shape: tuple[int, ...]) -> list[str]:
    """Name what moves voxels by more than SAME_GRID by itself: origin, spacing, direction."""
    parts = [_parts(first), _parts(second)]
    (origin, spacing, direction), other = parts
    changed = {
        "origin": (other[0], spacing, direction),
        "spacing": (origin, other[1], direction),
        "direction": (origin, spacing, other[2]),
    }
    moved = {name: displacement(first, _assemble(*values), shape) for name, values in changed.items()}
    # Two small differences may add up to a large one.
    return [name for name, apart in moved.items() if apart > SAME_GRID] or [max(moved, key=lambda name: moved[name])]


def _parts(affine: Affine) -> tuple[Affine, Affine, Affine]:
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    return affine[:3, 3], spacing, affine[:3, :3] / spacing


def _assemble(origin: Affine, spacing: Affine, direction: Affine) -> Affine:
    affine = np.eye(4)
    affine[:3, :3], affine[:3, 3] = direction * spacing, origin
    return affine


def _in_another_order(image: Volume, label: Volume) -> GridDifference | None:
    """The same grid with axes permuted or reversed, as a program writes it that turns volumes to R, A, S."""
    from nibabel import orientations

    axes = orientations.ornt_transform(*(orientations.io_orientation(volume.affine) for volume in (label, image)))
    shape = label.voxels.shape
    turned = tuple(shape[int(axis)] for axis in np.argsort(axes[:, 0]))
    if np.array_equal(axes, UNCHANGED) or turned != image.voxels.shape:
        return None
    affine = label.affine @ orientations.inv_ornt_aff(axes, shape)
    if displacement(image.affine, affine, image.voxels.shape) >= SAME_VOXELS:
        return None
    codes = ["".join(map(str, orientations.aff2axcodes(volume.affine))) for volume in (label, image)]
    return GridDifference(f"has axes {codes[0]} where its image has {codes[1]}; its voxels are reordered", True, axes)


def _on_the_other_transform(image: Volume, label: Volume) -> GridDifference | None:
    shape = image.voxels.shape
    for name, owner, other in (("image", image, label), ("label", label, image)):
        qform = owner.second_affine
        if qform is None or displacement(qform, other.affine, shape) >= SAME_VOXELS:
            continue
        apart = displacement(owner.affine, qform, shape)
        fields = ", ".join(differing_fields(owner.affine, qform, shape))
        text = "is on its image's qform" if name == "image" else "has its image's grid as its qform"
        return GridDifference(
            f"{text}, and the {name}'s sform and qform are up to {apart:.3g} voxels apart ({fields}); its voxels are "
            "taken to correspond to the image's; give it the image's header (sform and qform) and don't resample it",
            True,
        )
    return None


def _on_an_unused_transform(image: Volume, label: Volume) -> GridDifference | None:
    """A label that a program drew which ignores the codes of the image's transforms."""
    shape = image.voxels.shape
    for name, affine in image.unused_affines:
        if displacement(affine, label.affine, shape) < SAME_VOXELS:
            apart = displacement(image.affine, affine, shape)
            fields = ", ".join(differing_fields(image.affine, affine, shape))
            return GridDifference(
                f"is on its image's {name}, up to {apart:.3g} voxels from the image's grid ({fields}); its voxels are "
                "taken to correspond to the image's; give it the image's header (sform and qform), don't resample it",
                True,
            )
    return None


def _has_equal_numbers(image: Volume, label: Volume) -> bool:
    """True if the grids were the same in one unit."""
    affine = label.affine.copy()
    affine[:3] *= MILLIMETRES[image.unit] / MILLIMETRES[label.unit]
    return displacement(image.affine, affine, image.voxels.shape) < SAME_VOXELS


def _other_grid(image: Volume, label: Volume, apart: float, fields: str) -> str:
    text = f"is on another grid than its image: corresponding voxels are up to {apart:.3g} voxels apart ({fields}"
    if image.unit != label.unit and _has_equal_numbers(image, label):
        return f"{text}; their units are {image.unit} and {label.unit}); correct the unit in a header (xyzt_units)"
    return (
        f"{text}); if it fits the image voxel by voxel, give it the image's header, else export it on the image's grid"
    )
