"""Advice on label values is safe to follow for each common form of labels."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from medloop.imaging.label_values import advise_gaps
from medloop.imaging.validation import check_dataset
from tests.unit.imaging.datasets import write_subject

RENUMBER = "renumber them 0, 1, 2, ... in all labels"


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        ([(0, 255), (0, 255), (0,)], "a mask that is stored as 0 and 255: write 1 for 255"),
        ([(0, 1, 255), (0, 1)], "255 is the number of voxels to ignore in other tools, which medloop can't: write the"),
        ([(0, 1, 2, 255), (0, 2)], "255 is the number of voxels to ignore in other tools"),
        ([(0, 1), (0, 255)], "1 labels have 255 where others have 1: if it is the same structure, write 1 for 255; if"),
        ([(0, 128, 255)], RENUMBER),
        ([(0, 2, 255)], RENUMBER),
        ([(0, 1, 3)], RENUMBER),
        ([(1, 2, 4)], RENUMBER),
    ],
)
def test_advice_on_gaps(labels: list[tuple[int, ...]], expected: str) -> None:
    """Renumbering voxels to ignore would teach a structure that isn't there."""
    advice = advise_gaps(labels)
    assert advice.startswith(expected)
    assert ("renumber that" in advice) == ("ignore" in advice)


@pytest.mark.parametrize(
    ("values", "names", "expected"),
    [
        ((0, 255), ["background", "lesion"], "write 1 for 255 in all labels"),
        ((0, 1, 255), ["background", "lesion"], "255 is the number of voxels to ignore in other tools"),
        ((-1, 0, 1), None, "-1 is the number of voxels to ignore in other tools"),
        ((0, 1, 65535), None, "65535 is the number of voxels to ignore in other tools"),
        ((0.0, 0.25, 0.5, 1.0), None, "it is a map of probabilities, or was interpolated: threshold it"),
        ((0.0, 1.5, 2.0), None, "resample labels by the nearest voxel, and write whole numbers"),
        ((0, 1, 2, 3), ["background", "lesion"], "; renumber the labels"),
    ],
)
def test_advice_on_values_without_a_class(
    tmp_path: Path, values: tuple[float, ...], names: list[str] | None, expected: str
) -> None:
    """By the values of the file."""
    for number in range(3):
        write_subject(tmp_path / f"s{number}", number)
    path = tmp_path / "s0" / "label.nii.gz"
    label = nib.load(path)
    voxels = np.resize(np.array(values, dtype=np.float32), label.shape)
    nib.save(nib.Nifti1Image(voxels, label.affine), path)
    [line] = [problem.line for problem in check_dataset(tmp_path, "segmentation", names).problems if problem.path]
    assert expected in line
