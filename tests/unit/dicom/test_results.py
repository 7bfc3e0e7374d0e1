"""DICOM in, DICOM out: a segmentation is on its series' own frames, a report has the numbers, and nothing leaks."""

from __future__ import annotations

import json
import shutil
import subprocess
import zipfile
from collections.abc import Callable
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pydicom
import pytest
import requests
from numpy.typing import NDArray
from PIL import Image
from pydicom.dataset import Dataset

from medloop.commands.hosting.invoking import JSON, Prediction
from medloop.commands.hosting.studies import DICOM, NIFTI, StudyOptions, is_study, open_archive, predict_study
from medloop.dicom.results import Algorithm
from medloop.dicom.web import fetch, open_client, store
from medloop.errors import DataError, SettingError
from medloop.imaging.nifti import nifti_labels, read_nifti
from tests.unit.dicom.orthanc import run_orthanc
from tests.unit.dicom.scanners import CORONAL, SAGITTAL, MadeSeries, multi_frame, oblique, save
from tests.unit.importing.importer import read_volume, run

ALGORITHM = Algorithm("medloop-segmentation", "7 sha256:0123456789ab", "0.1.0")
SECRET = "Zaphod-Q42"  # noqa: S105
HIGH = 3000
SERIES = {
    "axial": MadeSeries(),
    "feet first": MadeSeries(orientation=(-1, 0, 0, 0, -1, 0)),
    "coronal": MadeSeries(modality="MR", orientation=CORONAL, intercept=0),
    "sagittal": MadeSeries(modality="MR", orientation=SAGITTAL, intercept=0),
    "oblique": MadeSeries(modality="MR", orientation=oblique(12, -7, 31), intercept=0),
    "gantry tilt": MadeSeries(shear=0.4),
}


class Endpoint:
    """A segmentation model: `bright` voxels are above a threshold, `dark` ones below another.

    Args:
        names: Its classes, without the background.
        has_header: Send the volumes next to a label map, as real-time endpoints do.
    """

    def __init__(self, names: tuple[str, ...] = ("bright", "dark"), *, has_header: bool = True) -> None:
        self.names = names
        self.has_header = has_header
        self.accepted: list[str] = []

    def __call__(self, file: Path, accept: str) -> Prediction:
        """Respond to a request."""
        self.accepted.append(accept)
        if file.suffix == ".png":
            with Image.open(file) as image:
                self.shape = image.size[::-1]
            content = {"probabilities": {"benign": 0.25, "malignant": 0.75}, "operating_point": {"malignant": 0.6}}
            return Prediction(JSON, json.dumps(content).encode(), "")
        volume = read_nifti(file)
        labels = threshold(np.asarray(volume.voxels))
        edge = abs(float(np.linalg.det(volume.affine[:3, :3]))) / 1000
        sizes = {name: edge * int((labels == number).sum()) for number, name in enumerate(self.names, 1)}
        summary = json.dumps({"unit": "ml", "volumes": sizes})
        if accept == JSON:
            return Prediction(JSON, summary.encode(), "")
        return Prediction(accept, nifti_labels(labels, volume, None), summary if self.has_header else "")


def threshold(voxels: NDArray[Any]) -> NDArray[np.uint8]:
    """The labels that the endpoint gives to values."""
    return ((voxels > voxels.max() * 0.7) + 2 * (voxels < voxels.min() + 200)).astype(np.uint8)


def predict(study: Path, out: str = "seg.dcm", endpoint: Endpoint | None = None, **options: Any) -> Dataset:
    """The result of a study as a dataset."""
    warnings: list[str] = options.pop("warnings", [])
    chosen = StudyOptions(out=Path(out), **options)
    response = predict_study(study, chosen, endpoint or Endpoint(), lambda: ALGORITHM, warnings.append)
    assert response.content_type == DICOM
    return pydicom.dcmread(BytesIO(response.body))


def points_of(result: Dataset, number: int) -> set[tuple[float, ...]]:
    """World coordinates (LPS, mm) of a segment's voxels, by PS3.3's formula on the SEG's own elements."""
    points: set[tuple[float, ...]] = set()
    shared = result.SharedFunctionalGroupsSequence[0]
    orientation = np.array(shared.PlaneOrientationSequence[0].ImageOrientationPatient, float)
    down, right = map(float, shared.PixelMeasuresSequence[0].PixelSpacing)
    frames = result.pixel_array.reshape(-1, result.Rows, result.Columns)
    for groups, mask in zip(result.PerFrameFunctionalGroupsSequence, frames, strict=True):
        if groups.SegmentIdentificationSequence[0].ReferencedSegmentNumber != number:
            continue
        origin = np.array(groups.PlanePositionSequence[0].ImagePositionPatient, float)
        for row, column in zip(*np.nonzero(mask), strict=True):
            point = origin + orientation[:3] * right * column + orientation[3:] * down * row
            points.add(tuple(np.round(point, 2) + 0.0))
    return points


def points_in(series: MadeSeries, number: int) -> set[tuple[float, ...]]:
    """World coordinates (LPS, mm) of the voxels that the endpoint gives a label."""
    indices = np.argwhere(threshold(series.values) == number)
    points = indices @ series.affine[:3, :3].T + series.affine[:3, 3]
    return {tuple(np.round(point * (-1, -1, 1), 2) + 0.0) for point in points}


@pytest.mark.parametrize("name", SERIES)
def test_a_segmentation_is_where_its_voxels_are(tmp_path: Path, name: str) -> None:
    """In each orientation, and with files in reverse order, by world coordinates."""
    series = SERIES[name]
    series.write(tmp_path, lambda index, dataset: setattr(dataset, "InstanceNumber", 100 - index))

    result = predict(tmp_path)

    assert [segment.SegmentLabel for segment in result.SegmentSequence] == ["bright", "dark"]
    for number in (1, 2):
        assert points_in(series, number)
        assert points_of(result, number) == points_in(series, number)
    assert result.FrameOfReferenceUID == series.uid("frame")
    for groups in result.PerFrameFunctionalGroupsSequence:
        source = groups.DerivationImageSequence[0].SourceImageSequence[0]
        (index,) = [index for index in range(5) if series.uid(f"slice {index}") == source.ReferencedSOPInstanceUID]
        position = groups.PlanePositionSequence[0].ImagePositionPatient
        np.testing.assert_allclose(np.array(position, float), series.origin + index * series.step, atol=1e-6)


@pytest.mark.parametrize("order", [None, [3, 0, 4, 1, 2]])
def test_frames_of_an_enhanced_image_are_referred_to_by_number(tmp_path: Path, order: list[int] | None) -> None:
    """In any order of the frames."""
    series = MadeSeries()
    save(multi_frame(series, order), tmp_path / "multi.dcm")

    result = predict(tmp_path / "multi.dcm")

    assert points_of(result, 1) == points_in(series, 1)
    for groups in result.PerFrameFunctionalGroupsSequence:
        source = groups.DerivationImageSequence[0].SourceImageSequence[0]
        assert source.ReferencedSOPInstanceUID == series.uid("multi")
        index = (order or range(5))[source.ReferencedFrameNumber - 1]
        position = np.array(groups.PlanePositionSequence[0].ImagePositionPatient, float)
        np.testing.assert_allclose(position, series.origin + index * series.step, atol=1e-6)
    (reference,) = result.ReferencedSeriesSequence[0].ReferencedInstanceSequence
    assert reference.ReferencedSOPClassUID == "1.2.840.10008.5.1.4.1.1.2.1"


def hide(index: int, dataset: Dataset) -> None:
    """Plant an identifier wherever a hospital may write one, except in the patient module's identification."""
    dataset.PatientName, dataset.PatientSex = "M\u00fcller^J\u00f6rg=\u5c71\u7530", "U"
    dataset.SpecificCharacterSet = "ISO_IR 192"
    for keyword in (
        "PatientComments", "ImageComments", "SeriesDescription", "InstitutionName", "OperatorsName", "StationName",
        "ProtocolName", "AdditionalPatientHistory", "Occupation", "PerformingPhysicianName", "Manufacturer",
        "DeviceSerialNumber", "RequestedProcedureDescription", "NameOfPhysiciansReadingStudy", "InstitutionAddress",
    ):  # fmt: skip
        setattr(dataset, keyword, SECRET)
    block = dataset.private_block(0x0029, SECRET, create=True)
    block.add_new(0x10, "LO", SECRET)


@pytest.mark.parametrize("out", ["seg.dcm", "sr.dcm"])
def test_patient_and_study_are_the_sources_and_nothing_else(tmp_path: Path, out: str) -> None:
    """Archives file a result by them; an identifier that is elsewhere in the source stays there."""
    MadeSeries(seed=3).write(tmp_path, hide)
    source = pydicom.dcmread(tmp_path / "IM0000.dcm")

    result = predict(tmp_path, out)

    for keyword in (
        "PatientName", "PatientID", "PatientBirthDate", "PatientSex", "StudyInstanceUID", "StudyID", "StudyDate",
        "StudyTime", "AccessionNumber", "ReferringPhysicianName",
    ):  # fmt: skip
        assert result[keyword].value == source[keyword].value, keyword
    buffer = BytesIO()
    result.save_as(buffer)
    assert SECRET.encode() not in buffer.getvalue()
    assert result.SeriesInstanceUID != source.SeriesInstanceUID
    assert "not for diagnosis" in result.SeriesDescription


def test_elements_that_a_header_lacks_are_no_failure(tmp_path: Path) -> None:
    """Old and de-identified files have neither patient nor study's elements, nor a frame of reference."""

    def strip(index: int, dataset: Dataset) -> None:
        for keyword in (
            "PatientName", "PatientID", "PatientSex", "PatientBirthDate", "StudyID", "StudyDate", "StudyTime",
            "AccessionNumber", "ReferringPhysicianName", "FrameOfReferenceUID", "SeriesNumber", "SliceThickness",
        ):  # fmt: skip
            delattr(dataset, keyword)

    series = MadeSeries()
    series.write(tmp_path, strip)

    result = predict(tmp_path)

    assert points_of(result, 1) == points_in(series, 1)
    assert result.PatientID in ("", None)


def test_the_result_names_its_model(tmp_path: Path) -> None:
    """Version and digest, in each segment and as the equipment."""
    result = predict(MadeSeries().write(tmp_path))
    identification = result.SegmentSequence[1].SegmentationAlgorithmIdentificationSequence[0]
    assert (identification.AlgorithmName, identification.AlgorithmVersion) == (ALGORITHM.name, ALGORITHM.version)
    assert (result.Manufacturer, result.ManufacturerModelName) == ("medloop", ALGORITHM.name)
    assert result.ContentLabel == "NOT_DIAGNOSTIC"


def test_codes_are_those_of_the_file_else_private(tmp_path: Path) -> None:
    """SNOMED by default, numbers without quotes; a name that no class has is warned of."""
    codes = tmp_path / "codes.yaml"
    codes.write_text(
        "classes:\n  bright: {value: 10200004, meaning: Liver, category: {value: 123037004, meaning: Body structure}}\n"
        "  lung: {value: 39607008, meaning: Lung}\n"
    )
    warnings: list[str] = []

    result = predict(MadeSeries().write(tmp_path / "study"), codes=codes, warnings=warnings)

    bright, dark = result.SegmentSequence
    code = bright.SegmentedPropertyTypeCodeSequence[0]
    assert (code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning) == ("10200004", "SCT", "Liver")
    assert bright.SegmentedPropertyCategoryCodeSequence[0].CodeValue == "123037004"
    code = dark.SegmentedPropertyTypeCodeSequence[0]
    assert (code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning) == ("dark", "99MEDLOOP", "dark")
    assert result.CodingSchemeIdentificationSequence[0].CodingSchemeDesignator == "99MEDLOOP"
    assert warnings == [f"--codes {codes}: lung is no class of the model, which has bright, dark"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("classes: {a: {value: 12345678901234567, meaning: X}}", "value"),
        ("classes: {a: {value: 1}}", "meaning"),
        ("classes: {a: {value: 1, meaning: X, colour: red}}", "colour"),
        ("- a", "must be a mapping"),
        ("a: [", "correct the YAML"),
    ],
)
def test_a_file_of_codes_is_refused_by_field(tmp_path: Path, text: str, message: str) -> None:
    """Before anything is sent."""
    (tmp_path / "codes.yaml").write_text(text)
    endpoint = Endpoint()
    with pytest.raises(SettingError, match=message):
        predict(MadeSeries().write(tmp_path / "study"), endpoint=endpoint, codes=tmp_path / "codes.yaml")
    assert endpoint.accepted == []


def test_long_and_foreign_names_of_classes(tmp_path: Path) -> None:
    """A backslash separates values in DICOM, and a label has 64 characters; codes stay distinct."""
    long = "x" * 100
    result = predict(MadeSeries().write(tmp_path), endpoint=Endpoint((f"{long}1", "Leber \\ \u809d\u81d3")))
    first, second = result.SegmentSequence
    assert first.SegmentLabel == "x" * 64
    assert second.SegmentLabel == "Leber / \u809d\u81d3"
    assert len({each.SegmentedPropertyTypeCodeSequence[0].CodeValue for each in (first, second)}) == 2


def test_names_are_requested_where_a_queue_has_no_header(tmp_path: Path) -> None:
    """An asynchronous label map comes without its volumes."""
    endpoint = Endpoint(has_header=False)
    result = predict(MadeSeries().write(tmp_path), endpoint=endpoint)
    assert [segment.SegmentLabel for segment in result.SegmentSequence] == ["bright", "dark"]
    assert endpoint.accepted == [NIFTI, JSON]


def find_numbers(result: Dataset) -> dict[tuple[str, str], float]:
    """Numbers of a report by (tracking identifier, name of the measurement)."""
    (measurements,) = [item for item in result.ContentSequence if name_of(item) == "Imaging Measurements"]
    numbers: dict[tuple[str, str], float] = {}
    for group in measurements.ContentSequence:
        (identifier,) = [item.TextValue for item in group.ContentSequence if name_of(item) == "Tracking Identifier"]
        for item in group.ContentSequence:
            if item.ValueType == "NUM":
                numbers[identifier, name_of(item)] = float(item.MeasuredValueSequence[0].NumericValue)
            elif item.ValueType == "CODE" and name_of(item).startswith("Probability"):
                numbers[identifier, "called"] = float(item.ConceptCodeSequence[0].CodeMeaning == "Yes")
    return numbers


def name_of(item: Dataset) -> str:
    """The meaning of an item's name."""
    return str(item.ConceptNameCodeSequence[0].CodeMeaning)


def test_a_report_has_the_volumes(tmp_path: Path) -> None:
    """In ml, and with the series' files as evidence."""
    series = MadeSeries()
    result = predict(series.write(tmp_path), "case-sr.dcm")
    edge = abs(np.linalg.det(series.affine[:3, :3])) / 1000
    expected = {
        (name, "Volume"): pytest.approx(edge * (threshold(series.values) == number).sum(), rel=1e-5)
        for number, name in ((1, "bright"), (2, "dark"))
    }
    assert find_numbers(result) == expected
    assert (result.Modality, result.CompletionFlag, result.VerificationFlag) == ("SR", "COMPLETE", "UNVERIFIED")
    (evidence,) = result.CurrentRequestedProcedureEvidenceSequence
    assert len(evidence.ReferencedSeriesSequence[0].ReferencedSOPSequence) == 5


def test_an_image_is_classified_into_a_report(tmp_path: Path) -> None:
    """Probabilities, operating points where there are some, and what is called by them."""
    file = save(MadeSeries(modality="DX", shape=(9, 8, 1)).dataset(0), tmp_path / "IM1")
    endpoint = Endpoint()

    result = predict(file, "result.dcm", endpoint)

    assert find_numbers(result) == {
        ("benign", "Probability"): 0.25,
        ("malignant", "Probability"): 0.75,
        ("malignant", "Operating point"): 0.6,
        ("malignant", "called"): 1.0,
    }
    assert endpoint.shape == (9, 8)


def test_other_forms_are_the_endpoints(tmp_path: Path) -> None:
    """NIfTI on the series' grid; a table without a file."""
    series = MadeSeries(orientation=oblique(12, -7, 31))
    series.write(tmp_path)

    def send(**options: Any) -> Prediction:
        return predict_study(tmp_path, StudyOptions(**options), Endpoint(), lambda: ALGORITHM, print)

    labels = nib.Nifti1Image.from_bytes(__import__("gzip").decompress(send(out=Path("x.nii.gz")).body))
    np.testing.assert_array_equal(np.asanyarray(labels.dataobj), threshold(series.values))
    np.testing.assert_allclose(labels.affine, series.affine, atol=1e-4)
    assert set(send().summary["volumes"]) == {"bright", "dark"}


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
