"""DICOM in, DICOM out: a segmentation is on its series' own frames, a report has the numbers, and nothing leaks."""

from __future__ import annotations

import gzip
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset

from medloop.commands.hosting.invoking import JSON, Prediction
from medloop.commands.hosting.studies import NIFTI, StudyOptions, predict_study
from medloop.errors import DataError, SettingError
from medloop.imaging.nifti import nifti_labels, read_nifti
from tests.unit.dicom.predictions import (
    ALGORITHM,
    SECRET,
    SERIES,
    Endpoint,
    hide,
    points_in,
    points_of,
    predict,
    strip,
    threshold,
)
from tests.unit.dicom.scanners import MadeSeries, multi_frame, oblique, save


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
    series = MadeSeries()
    series.write(tmp_path, strip)

    warnings: list[str] = []
    result = predict(tmp_path, warnings=warnings)

    assert points_of(result, 1) == points_in(series, 1)
    assert result.PatientID in ("", None)
    assert result.FrameOfReferenceUID
    assert result.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0].SliceThickness == 2.5
    assert [text for text in warnings if "FrameOfReferenceUID is missing" in text]


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

    labels = nib.Nifti1Image.from_bytes(gzip.decompress(send(out=Path("x.nii.gz")).body))
    np.testing.assert_array_equal(np.asanyarray(labels.dataobj), threshold(series.values))
    np.testing.assert_allclose(labels.affine, series.affine, atol=1e-4)
    assert set(send().summary["volumes"]) == {"bright", "dark"}


def test_a_label_map_on_another_grid_is_refused(tmp_path: Path) -> None:
    """It would be drawn over the wrong voxels."""
    MadeSeries().write(tmp_path)

    def send(file: Path, accept: str) -> Prediction:
        volume = read_nifti(file)
        moved = replace(volume, affine=volume.affine + np.eye(4)[:, [3, 3, 3, 0]])
        return Prediction(accept, nifti_labels(threshold(np.asarray(volume.voxels)), moved, None), "")

    with pytest.raises(DataError, match="label map is on another grid"):
        predict_study(tmp_path, StudyOptions(out=Path("seg.dcm")), send, lambda: ALGORITHM, print)
