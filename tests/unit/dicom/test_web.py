"""Files of a DICOMweb server: each once, resumed, within the folder; Orthanc as the real counterpart."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import requests
from pydicom.dataset import Dataset

from medloop.dicom.web import Fetched, fetch, open_client
from medloop.errors import DataError, UserError
from tests.unit.dicom.orthanc import run_orthanc
from tests.unit.dicom.scanners import MadeSeries, segmentation
from tests.unit.importing.importer import read_volume, run

URL = "http://server/dicom-web"
Records = list[dict[str, Any]]


class Server:
    """Some series behind QIDO and WADO, in memory.

    Args:
        datasets: The instances.
        ignores_offset: Send the first results again for each page, as some servers do.
    """

    def __init__(self, datasets: list[Dataset], *, ignores_offset: bool = False) -> None:
        self.datasets = datasets
        self.ignores_offset = ignores_offset
        self.sent: list[str] = []
        self.lost: set[str] = set()

    def search_for_studies(self, *, limit: int, offset: int, search_filters: dict[str, Any]) -> Records:
        """QIDO."""
        rows = [each for each in self.datasets if each.Modality == search_filters.get("Modality", each.Modality)]
        return self._page("0020000D", [each.StudyInstanceUID for each in rows], limit, offset)

    def search_for_series(self, study: str, *, limit: int, offset: int) -> Records:
        """QIDO."""
        rows = [each.SeriesInstanceUID for each in self.datasets if each.StudyInstanceUID == study]
        return self._page("0020000E", rows, limit, offset)

    def search_for_instances(self, study: str, series: str, *, limit: int, offset: int) -> Records:
        """QIDO."""
        rows = [each.SOPInstanceUID for each in self.datasets if each.SeriesInstanceUID == series]
        return self._page("00080018", rows, limit, offset)

    def iter_series(self, study: str, series: str, *, media_types: Any) -> Iterator[Dataset]:
        """WADO."""
        for each in self.datasets:
            if each.SeriesInstanceUID == series and each.SOPInstanceUID not in self.lost:
                self.sent.append(each.SOPInstanceUID)
                yield each

    def retrieve_instance(self, study: str, series: str, instance: str, *, media_types: Any) -> Dataset:
        """WADO."""
        self.sent.append(instance)
        return next(each for each in self.datasets if each.SOPInstanceUID == instance)

    def _page(self, tag: str, uids: list[str], limit: int, offset: int) -> Records:
        unique = list(dict.fromkeys(uids))
        start = 0 if self.ignores_offset else offset
        return [{tag: {"vr": "UI", "Value": [uid]}} for uid in unique[start : start + limit]]


def get(server: Any, folder: Path, **filters: str) -> Fetched:
    """Fetch into a folder."""
    return fetch(server, URL, folder, filters, lambda done, total: None)


@pytest.mark.parametrize("ignores_offset", [False, True])
def test_files_are_fetched_once(tmp_path: Path, ignores_offset: bool) -> None:
    """A second fetch gets only what is missing, by itself."""
    series = MadeSeries(), MadeSeries(modality="MR", seed=2)
    server = Server([each for made in series for each in made.datasets()], ignores_offset=ignores_offset)

    first = get(server, tmp_path, Modality="CT")
    next(tmp_path.rglob("*.dcm")).unlink()
    server.sent.clear()
    second = get(server, tmp_path)

    assert first == Fetched(5, 5, 0)
    assert second == Fetched(10, 6, 0)
    assert len(server.sent) == 6
    assert len(list(tmp_path.rglob("*.dcm"))) == 10


def test_files_that_the_server_doesnt_send_are_counted(tmp_path: Path) -> None:
    """They are listed, and didn't come."""
    server = Server(MadeSeries().datasets())
    server.lost = {server.datasets[3].SOPInstanceUID}
    assert get(server, tmp_path) == Fetched(5, 4, 1)


def test_a_uid_that_is_a_path_is_refused(tmp_path: Path) -> None:
    """It would name a file outside of the folder."""
    dataset = MadeSeries().dataset(0)
    dataset.SOPInstanceUID = "../../evil"
    with pytest.raises(DataError, match="its response is no DICOMweb"):
        get(Server([dataset]), tmp_path / "a" / "b")
    assert list(tmp_path.rglob("*evil*")) == []


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (requests.ConnectionError(), "can't be reached"),
        (requests.Timeout(), "can't be reached"),
        (401, "refuses access (status 401); set MEDLOOP_DICOMWEB_TOKEN"),
        (404, "responds with status 404; check the URL"),
        (ValueError("no JSON"), "its response is no DICOMweb"),
    ],
)
def test_errors_of_the_server_are_one_line(tmp_path: Path, error: Any, message: str) -> None:
    """The URL and the fix."""

    class Broken(Server):
        def search_for_studies(self, *, limit: int, offset: int, search_filters: dict[str, Any]) -> Records:
            if isinstance(error, int):
                response = requests.Response()
                response.status_code = error
                raise requests.HTTPError(response=response)
            raise error

    with pytest.raises(DataError) as caught:
        get(Broken([]), tmp_path)
    assert str(caught.value).startswith(URL)
    assert message in str(caught.value)


def test_urls(tmp_path: Path) -> None:
    """A password stays out of it."""
    with pytest.raises(UserError, match="leave name and password out of the URL"):
        open_client("https://jane:secret@pacs/dicom-web")
    with pytest.raises(UserError, match="is no URL of a DICOMweb server"):
        open_client("http://")


@pytest.fixture
def orthanc(tmp_path: Path) -> Iterator[str]:
    """The URL of Orthanc's DICOMweb."""
    with run_orthanc(tmp_path) as url:
        yield url


@pytest.mark.slow
def test_a_study_of_orthanc_is_imported(tmp_path: Path, orthanc: str) -> None:
    """Stored by STOW, fetched by QIDO and WADO: the same voxels and labels."""
    from dicomweb_client.web import DICOMwebClient

    series, numbers = MadeSeries(), np.zeros((5, 7, 6), np.uint8)
    numbers[1:3, 2:5, 1:4] = 1
    stored = [*series.datasets(), segmentation(series.datasets(), numbers, ["Liver"])]
    for dataset in stored:
        dataset.preamble = bytes(128)  # Orthanc stores the bytes as they come.
    DICOMwebClient(orthanc).store_instances(stored)

    fetched = fetch(open_client(orthanc), orthanc, tmp_path / "dicom", {"PatientID": series.patient}, lambda *_: None)
    report = run(tmp_path / "dicom", tmp_path / "out", unlabelled=False)

    assert fetched == Fetched(6, 6, 0)
    np.testing.assert_allclose(read_volume(report, tmp_path / "out")[0], series.values)
    np.testing.assert_array_equal(read_volume(report, tmp_path / "out", stem="label")[0].transpose(2, 1, 0), numbers)
