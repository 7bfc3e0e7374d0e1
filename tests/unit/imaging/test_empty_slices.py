"""Slices of one value: lost ones are named, margins are not."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from medloop.imaging.empty_slices import describe_empty_slices
from medloop.imaging.files import Volume
from medloop.imaging.validation import check_dataset
from tests.unit.imaging.datasets import write_subjects

SHAPE = (40, 36, 12)


def noise() -> np.ndarray:
    """No slice is empty."""
    return np.random.default_rng(0).integers(1, 999, SHAPE).astype(np.int16)


def head() -> np.ndarray:
    """Noise in a ball, zero around it: with empty slices at all ends."""
    grid = np.stack(np.meshgrid(*(np.linspace(-1, 1, edge) for edge in SHAPE), indexing="ij"))
    return noise() * (np.linalg.norm(grid, axis=0) < 0.7)


def lose(voxels: np.ndarray, axis: int, *slices: int, value: int = 0) -> np.ndarray:
    """Set slices to one value."""
    np.moveaxis(voxels, axis, 0)[list(slices)] = value
    return voxels


@pytest.mark.parametrize(
    ("voxels", "spacing", "expected"),
    [
        (noise(), (1, 1, 5), ""),
        (head(), (1, 1, 5), ""),
        (lose(noise(), 2, 5), (1, 1, 5), "1 slice of one value (z = 5)"),
        (lose(noise(), 2, 5, 6, value=-1024), (1, 1, 5), "2 slices of one value (z = 5, 6)"),
        (lose(head(), 2, 5), (1, 1, 5), "1 slice of one value (z = 5)"),
        (lose(noise(), 2, 0, 11), (1, 1, 5), "2 slices of one value (z = 0, 11)"),
        (lose(noise(), 1, 7), (1, 5, 1), "1 slice of one value (y = 7)"),
        (lose(noise(), 0, 39), (3, 1, 1), "1 slice of one value (x = 39)"),
        (lose(noise(), 2, *range(1, 10)), (1, 1, 1), "9 slices of one value (z = 1, 2, 3, 4, 5, ...)"),
        (lose(noise(), 0, 20), (1, 1, 5), ""),
        (np.zeros(SHAPE), (1, 1, 5), ""),
    ],
)
def test_slices(voxels: np.ndarray, spacing: tuple[float, ...], expected: str) -> None:
    """Along the axis of the slices; a plane of air between two legs is none."""
    text = describe_empty_slices(Volume(voxels, np.diag([*spacing, 1.0])))
    assert text == (f"has {expected}; check that no slice was lost" if expected else "")


def test_a_slice_with_one_other_voxel_is_not_empty() -> None:
    """Every voxel is compared in the end."""
    voxels = lose(noise(), 2, 5)
    voxels[1, 1, 5] = 1
    assert describe_empty_slices(Volume(voxels, np.diag([1, 1, 5, 1.0]))) == ""


def test_the_check_warns_and_does_not_refuse(tmp_path: Path) -> None:
    """The warning names the file, which is used; a volume of one value is refused, as it shows nothing."""
    write_subjects(tmp_path)
    for index, slices in ((1, slice(1, 2)), (2, slice(None))):
        path = tmp_path / f"Müller {index}" / "img.nii.gz"
        image = nib.load(path)
        voxels = np.asarray(image.dataobj).copy()
        voxels[:, :, slices] = 0
        nib.save(nib.Nifti1Image(voxels, image.affine), path)
    report = check_dataset(tmp_path, "segmentation")
    assert [problem.line for problem in report.problems] == [
        "Müller 2/img.nii.gz: has one value everywhere; replace or remove it"
    ]
    assert [warning.line for warning in report.warnings if warning.path] == [
        "Müller 1/img.nii.gz: has 1 slice of one value (z = 1); check that no slice was lost"
    ]
