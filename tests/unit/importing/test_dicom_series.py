"""Series of several scanners become volumes: the voxels, and where they are in the world."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from functools import partial
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from pydicom.dataset import Dataset

from tests.unit.dicom.scanners import AXIAL, CORONAL, SAGITTAL, MadeSeries, multi_frame, oblique, save
from tests.unit.importing.importer import read_volume, run


def reversed_numbers(index: int, dataset: Dataset) -> None:
    """InstanceNumber and the files' order run against the positions."""
    dataset.InstanceNumber = 100 - index


SCANNERS: dict[str, MadeSeries] = {
    "axial": MadeSeries(),
    "axial head first, feet up": MadeSeries(orientation=(-1, 0, 0, 0, -1, 0)),
    "coronal": MadeSeries(modality="MR", orientation=CORONAL, intercept=0),
    "sagittal": MadeSeries(modality="MR", orientation=SAGITTAL, intercept=0),
    "oblique": MadeSeries(modality="MR", orientation=oblique(12, -7, 31), intercept=0),
    "double oblique, sheared": MadeSeries(orientation=oblique(40, 3, 5), shear=0.7),
    "gantry tilt": MadeSeries(orientation=AXIAL, shear=0.4, extra={"GantryDetectorTilt": 9.09}),
    "signed": MadeSeries(signed=True, bits=16, intercept=0),
    "large rescale": MadeSeries(slope=7.0, intercept=-30000.0),
    "fractional rescale": MadeSeries(slope=0.25, intercept=-3.5),
    "negative slope": MadeSeries(slope=-1.0, intercept=4095.0),
}
UNSHEARED = {"double oblique, sheared"}
"""dcm2niix writes an affine without the shear unless the slices are axial."""


@pytest.mark.parametrize("name", SCANNERS)
def test_a_series_has_its_voxels_at_their_positions(tmp_path: Path, name: str) -> None:
    """Values are rescaled, and the affine is that of PS3.3, to rounding."""
    series = SCANNERS[name]
    series.write(tmp_path / "src")

    report = run(tmp_path / "src", tmp_path / "out")

    voxels, affine = read_volume(report, tmp_path / "out")
    np.testing.assert_allclose(voxels, series.values)
    np.testing.assert_allclose(affine, series.affine, atol=1e-4)


@pytest.mark.parametrize(
    "change",
    [reversed_numbers, lambda index, dataset: delattr(dataset, "InstanceNumber")],
    ids=["reversed", "without number"],
)
def test_positions_decide_the_order_of_slices(tmp_path: Path, change: Callable[[int, Dataset], object]) -> None:
    """Numbers and names of files don't."""
    series = MadeSeries()
    for index, dataset in enumerate(series.datasets()):
        change(index, dataset)
        save(dataset, tmp_path / "src" / f"{9 - index}")

    voxels, affine = read_volume(run(tmp_path / "src", tmp_path / "out"), tmp_path / "out")

    np.testing.assert_allclose(voxels, series.values)
    np.testing.assert_allclose(affine, series.affine, atol=1e-4)


@pytest.mark.parametrize("modality", ["CT", "MR"])
def test_frames_of_an_enhanced_image_are_slices(tmp_path: Path, modality: str) -> None:
    """Their positions are in functional groups, in any order."""
    series = MadeSeries(modality=modality, orientation=oblique(0, 10, 0))
    save(multi_frame(series, [3, 1, 0, 4, 2]), tmp_path / "src" / "multi")

    voxels, affine = read_volume(run(tmp_path / "src", tmp_path / "out"), tmp_path / "out")

    np.testing.assert_allclose(voxels, series.values)
    np.testing.assert_allclose(affine, series.affine, atol=1e-4)


def test_a_second_import_writes_only_what_is_missing(tmp_path: Path) -> None:
    """Cases are recognised by their files' sizes and times; one that is gone or changed is written again."""
    for number in range(3):
        MadeSeries(seed=number, patient=f"P{number}").write(tmp_path / "src" / str(number))
    first = run(tmp_path / "src", tmp_path / "out")
    shutil.rmtree(tmp_path / "out" / first.cases[0].name)
    (tmp_path / "out" / first.cases[1].name / "img.nii.gz").write_bytes(b"changed")

    second = run(tmp_path / "src", tmp_path / "out")

    assert [case.is_new for case in first.cases] == [True, True, True]
    assert [case.is_new for case in second.cases] == [True, True, False]
    assert [case.name for case in second.cases] == [case.name for case in first.cases]
    assert read_volume(second, tmp_path / "out", 1)[0].shape == (6, 7, 5)


def test_a_bad_file_doesnt_stop_the_others(tmp_path: Path) -> None:
    """It is left out with a reason, and so is its series."""
    MadeSeries(seed=1, patient="P1").write(tmp_path / "src" / "a")
    MadeSeries(seed=2, patient="P2").write(tmp_path / "src" / "b")
    broken = tmp_path / "src" / "b" / "IM0002.dcm"
    broken.write_bytes(broken.read_bytes()[:-20])

    report = run(tmp_path / "src", tmp_path / "out")

    assert len(report.cases) == 1
    [left_out] = report.left_out
    assert (left_out.path, left_out.num_files) == ("b/IM0002.dcm", 5)
    assert left_out.reason.startswith("is truncated")


@pytest.mark.skipif(not shutil.which("dcm2niix"), reason="dcm2niix is not installed (apt-get install dcm2niix)")
@pytest.mark.parametrize("name", sorted(SCANNERS.keys() - UNSHEARED))
def test_dcm2niix_agrees(tmp_path: Path, name: str) -> None:
    """An independent converter finds the same voxels at the same positions, in world coordinates."""
    series = SCANNERS[name]
    series.write(tmp_path / "src")
    voxels, affine = read_volume(run(tmp_path / "src", tmp_path / "out"), tmp_path / "out")
    (tmp_path / "other").mkdir()

    subprocess.run(
        ["dcm2niix", "-z", "n", "-f", "x", "-b", "n", "-o", tmp_path / "other", tmp_path / "src"],
        check=True,
        capture_output=True,
    )

    image = nib.load(tmp_path / "other" / "x.nii")  # type: ignore[attr-defined]
    other, origin = np.asanyarray(image.dataobj), image.affine
    to_other = partial(nib.affines.apply_affine, np.linalg.inv(origin) @ affine)
    indices = np.array(list(np.ndindex(voxels.shape)))
    there = to_other(indices)
    np.testing.assert_allclose(there, np.rint(there), atol=1e-3)
    np.testing.assert_allclose(other[tuple(np.rint(there).astype(int).T)], voxels[tuple(indices.T)], rtol=1e-5)
