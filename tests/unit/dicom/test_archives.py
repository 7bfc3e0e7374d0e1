"""Results are valid DICOM, and an archive takes and returns them: dciodvfy and Orthanc as real counterparts."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
import requests
from pydicom.dataset import Dataset

from medloop.commands.hosting.studies import StudyOptions, open_archive, predict_study
from medloop.dicom.web import fetch, open_client, store
from medloop.errors import DataError
from tests.unit.dicom.orthanc import run_orthanc
from tests.unit.dicom.predictions import (
    ALGORITHM,
    SERIES,
    Endpoint,
    hide,
    strip,
    threshold,
)
from tests.unit.dicom.scanners import MadeSeries, multi_frame, save
from tests.unit.importing.importer import read_volume, run


class Archive:
    """A server that refuses."""

    def __init__(self, failure: Any) -> None:
        self.failure = failure

    def store_instances(self, datasets: Any) -> Dataset:
        """STOW."""
        if isinstance(self.failure, Exception):
            raise self.failure
        response = Dataset()
        if self.failure:
            item = Dataset()
            item.FailureReason = self.failure
            response.FailedSOPSequence = [item]
        return response


def http_error(status: int) -> Exception:
    """The library's error for a status."""
    response = requests.Response()
    response.status_code = status
    return requests.HTTPError(response=response)


@pytest.mark.parametrize(
    ("failure", "message"),
    [
        (0x0122, "refuses the result (FailureReason 0122h); check that it takes SEG"),
        (http_error(409), "responds with status 409; check the URL, and that the server takes SEG"),
        (http_error(403), "refuses access (status 403); set MEDLOOP_DICOMWEB_TOKEN"),
        (requests.ConnectionError(), "can't be reached"),
    ],
)
def test_a_server_that_refuses_a_result_is_one_line(failure: Any, message: str) -> None:
    """The URL, the reason, the fix."""
    result = Dataset()
    result.Modality = "SEG"
    store(Archive(None), "http://a/dicom-web", result)  # type: ignore[arg-type]
    with pytest.raises(DataError) as caught:
        store(Archive(failure), "http://a/dicom-web", result)  # type: ignore[arg-type]
    assert str(caught.value).startswith("http://a/dicom-web: ")
    assert message in str(caught.value)


def errors_of(result: bytes, folder: Path) -> list[str]:
    """Errors that dciodvfy reports."""
    if not shutil.which("dciodvfy"):
        pytest.skip("dciodvfy is not installed (apt-get install dicom3tools)")
    (folder / "result").write_bytes(result)
    checked = subprocess.run(["dciodvfy", str(folder / "result")], capture_output=True, text=True, check=False)
    return [line for line in (checked.stdout + checked.stderr).splitlines() if line.startswith("Error")]


def write_enhanced(folder: Path) -> None:
    """A multi-frame CT."""
    save(multi_frame(MadeSeries()), folder / "multi.dcm")


def write_image(folder: Path) -> None:
    """A radiograph."""
    save(MadeSeries(modality="DX", shape=(9, 8, 1)).dataset(0), folder / "IM1")


STUDIES: dict[str, Callable[[Path], object]] = {
    **{name: series.write for name, series in SERIES.items()},
    "enhanced": write_enhanced,
    "image": write_image,
    "stripped": lambda folder: MadeSeries().write(folder, strip),
    "odd header": lambda folder: MadeSeries().write(folder, hide),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", STUDIES)
@pytest.mark.parametrize("out", ["seg.dcm", "sr.dcm"])
def test_results_are_valid_dicom(tmp_path: Path, name: str, out: str) -> None:
    """dciodvfy, an independent validator, finds no error that isn't the source's own."""
    STUDIES[name](tmp_path / "study")
    options = StudyOptions(out=Path(out))
    endpoint = Endpoint(("bright", "Leber \u809d"))
    response = predict_study(tmp_path / "study", options, endpoint, lambda: ALGORITHM, print)
    assert [error for error in errors_of(response.body, tmp_path) if "Patient's Sex" not in error] == []


@pytest.mark.slow
def test_a_segmentation_goes_into_orthanc_and_comes_back(tmp_path: Path) -> None:
    """Series and SEG by STOW, back by WADO: an import matches them, and the label map is the model's, in the world."""
    made = [replace(SERIES[name], seed=number, patient=f"P{number}") for number, name in enumerate(SERIES, 1)]
    with run_orthanc(tmp_path) as url:
        client: Any = open_client(url)
        for series in made:
            folder = series.write(tmp_path / series.patient)
            client.store_instances([pydicom.dcmread(file) for file in sorted(folder.iterdir())])
            for out in ("seg.dcm", "sr.dcm"):
                options = StudyOptions(out=Path(out), store=url)
                open_archive(url)(predict_study(folder, options, Endpoint(), lambda: ALGORITHM, print))
        for series in made:
            filters = {"PatientID": series.patient}
            fetched = fetch(client, url, tmp_path / f"{series.patient} back", filters, lambda *_: None)
            assert fetched.num_new == 7, series.patient
            report = run(tmp_path / f"{series.patient} back", tmp_path / f"{series.patient} out", unlabelled=False)
            labels, affine = read_volume(report, tmp_path / f"{series.patient} out", stem="label")
            np.testing.assert_array_equal(labels, threshold(series.values), err_msg=series.patient)
            np.testing.assert_allclose(affine, series.affine, atol=1e-4)
