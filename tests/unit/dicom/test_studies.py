"""The series of a study that is predicted: chosen, in a folder or an archive, or refused by name."""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from medloop.commands.hosting.studies import StudyOptions, is_study
from medloop.errors import DataError, SettingError
from tests.unit.dicom.predictions import (
    Endpoint,
    points_in,
    points_of,
    predict,
)
from tests.unit.dicom.scanners import MadeSeries, save


def archive(folder: Path) -> Path:
    """A zip file of a folder."""
    with zipfile.ZipFile(folder.parent / "study.zip", "w") as archive:
        for file in folder.iterdir():
            archive.write(file, f"export/{file.name}")
    return folder.parent / "study.zip"


@pytest.mark.parametrize("form", [lambda folder: folder, archive])
def test_a_series_of_several_is_chosen_by_name(tmp_path: Path, form: Callable[[Path], Path]) -> None:
    """Without a choice they are listed; a choice that isn't there is refused."""
    first, second = MadeSeries(), MadeSeries(modality="MR", seed=2, intercept=0)
    first.write(tmp_path / "study")
    for index, dataset in enumerate(second.datasets()):
        save(dataset, tmp_path / "study" / f"MR{index}")
    study = form(tmp_path / "study")

    with pytest.raises(DataError, match=r"has 2 series; choose one by --series: .* \(CT, 5 files\), .* \(MR, 5 files"):
        predict(study)
    with pytest.raises(DataError, match=r"--series 1\.2: is not in"):
        predict(study, series="1.2")
    assert points_of(predict(study, series=second.uid("series")), 1) == points_in(second, 1)


def test_a_volume_of_several_in_a_series_is_chosen(tmp_path: Path) -> None:
    """Two echoes at the same positions."""
    first, second = MadeSeries(modality="MR", intercept=0), MadeSeries(modality="MR", intercept=0, seed=2)
    for number, series in enumerate((first, second)):
        for index, dataset in enumerate(series.datasets()):
            dataset.SeriesInstanceUID, dataset.EchoTime = first.uid("series"), 5 * (number + 1)
            save(dataset, tmp_path / f"{number}-{index}.dcm")
    uid = first.uid("series")

    with pytest.raises(DataError, match=f'has 2 volumes; choose one: --series "{uid}:1", --series "{uid}:2"'):
        predict(tmp_path)
    assert points_of(predict(tmp_path, series=f"{uid}:2"), 1) == points_in(second, 1)


def without(*indices: int) -> Callable[[Path], Path]:
    """A series with slices missing."""

    def make(folder: Path) -> Path:
        MadeSeries().write(folder)
        for index in indices:
            (folder / f"IM{index:04d}.dcm").unlink()
        return folder

    return make


def mixed(folder: Path) -> Path:
    """A series of two patients."""
    return MadeSeries().write(folder, lambda index, dataset: setattr(dataset, "PatientID", f"P{index}"))


def empty(folder: Path) -> Path:
    """A folder without DICOM."""
    folder.mkdir()
    (folder / "readme.txt").write_text("x")
    return folder


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (without(2), "1 slice is missing"),
        (without(1, 2, 3, 4), "is a single slice"),
        (mixed, "PatientID differs"),
        (empty, "no DICOM"),
    ],
)
def test_series_that_make_no_volume_are_refused(tmp_path: Path, make: Callable[[Path], Path], message: str) -> None:
    """In one line with the study's name, before anything is sent."""
    endpoint = Endpoint()
    with pytest.raises(DataError, match=f"study: .*{message}"):
        predict(make(tmp_path / "study"), endpoint=endpoint)
    assert endpoint.accepted == []


def test_files_of_models_formats_are_no_studies(tmp_path: Path) -> None:
    """They go as they are; options of DICOM are refused with them."""
    for name in ("a.nii.gz", "a.png", "a.txt", "missing.dcm"):
        if not name.startswith("missing"):
            (tmp_path / name).write_bytes(b"x")
        assert not is_study(tmp_path / name)
    assert is_study(tmp_path)
    with pytest.raises(SettingError, match="--store http://a: is for DICOM"):
        StudyOptions(store="http://a").require_file(Path("a.png"))
    with pytest.raises(SettingError, match="is no DICOM file, which --store sends"):
        _ = StudyOptions(store="http://a", out=Path("x.nii.gz")).is_dicom
