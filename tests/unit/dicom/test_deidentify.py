"""De-identified files have nothing that identifies a patient, and still belong together."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from pydicom.datadict import DicomDictionary
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence as DicomSequence

from medloop.dicom.deidentify import Retained, deidentify
from medloop.dicom.image_elements import CODES, DATES, DEVICE, EMPTY, IMAGE_ELEMENTS, TIMES
from medloop.dicom.library import load_pydicom
from medloop.importing.deidentify_files import deidentify_files
from tests.unit.dicom.scanners import MadeSeries, item, save, segmentation, set_pixels

KEY = b"k" * 32
SECRET = "Zzyx"  # noqa: S105 (a patient's name)
PLANTED: dict[str, Any] = {
    **dict.fromkeys(("AE", "LO", "LT", "PN", "SH", "ST", "UC", "UT"), f"{SECRET}^Jane"),
    **{"CS": f"{SECRET}", "UR": f"https://{SECRET}.org", "UI": "1.2.3.4711.4711", "AS": "047Y"},
    **{"DA": "19470711", "DT": "19470711120000", "TM": "114711"},
    **{"DS": "4711.4711", "IS": "47114711", "FD": 4711.4711, "FL": 4711.4711},
    **{"SL": 47114711, "UL": 47114711, "SS": 4711, "US": 4711, "SV": 47114711, "UV": 47114711, "AT": 0x47114711},
    **dict.fromkeys(("OB", "OW", "UN", "OF", "OD", "OL", "OV"), f"{SECRET}{SECRET}".encode()),
}
"""A value of each type (VR) that identifies someone."""
TYPES = sorted(PLANTED)
LISTED = IMAGE_ELEMENTS | CODES | DATES | DEVICE | TIMES | {"PatientName", "PatientID"}


def plant(dataset: Dataset) -> None:
    """Put a value into every element that isn't listed to stay, and into private ones of each type."""
    for tag, (vr, _, _, _, keyword) in DicomDictionary.items():
        group = tag >> 16
        if keyword in LISTED or keyword in EMPTY or group in (0x0000, 0x0002, 0xFFFE) or tag & 0xFFFF == 0:
            continue
        first = vr.split(" or ")[0]
        if first == "SQ":
            dataset[tag] = DataElement(tag, "SQ", DicomSequence([item(PatientName=f"{SECRET}^In")]))
        elif first in PLANTED:
            dataset[tag] = DataElement(tag, first, PLANTED[first])
    for keyword in EMPTY:
        if keyword not in LISTED:
            vr = pydicom.datadict.dictionary_VR(pydicom.datadict.tag_for_keyword(keyword))
            setattr(dataset, keyword, PLANTED[vr])
    block = dataset.private_block(0x0047, "MAKER", create=True)
    for number, vr in enumerate(TYPES):
        block.add_new(number, vr, PLANTED[vr])
    dataset.PatientName, dataset.PatientID = f"{SECRET}^Name", f"{SECRET}-ID"
    dataset.add_new(0x60003000, "OW", SECRET.encode() * 2)


def content(dataset: Dataset) -> bytes:
    """The bytes of the file."""
    buffer = io.BytesIO()
    dataset.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


@pytest.fixture(scope="module")
def planted() -> Dataset:
    """A CT slice with identifiers everywhere, as it is read from a file."""
    load_pydicom()
    dataset = MadeSeries().dataset(0)
    plant(dataset)
    inner = item(PatientComments=SECRET, PixelMeasuresSequence=[item(OperatorsName=SECRET, SliceThickness=1)])
    dataset.SharedFunctionalGroupsSequence = [inner]
    return pydicom.dcmread(io.BytesIO(content(dataset)))


@pytest.mark.parametrize(
    "retained", [Retained(), Retained(dates=True), Retained(device=True), Retained(dates=True, device=True)]
)
def test_no_planted_identifier_is_left(planted: Dataset, retained: Retained) -> None:
    """Of all elements of the dictionary, of each type, private, in sequences, in overlays, and behind the pixels."""
    planted.PixelData = MadeSeries().stored[0].tobytes() + SECRET.encode()
    assert SECRET.encode() in content(planted)

    cleaned = content(deidentify(planted, KEY, retained))

    for secret in (SECRET.encode(), b"4711", b"19470711", b"114711", np.float64(4711.4711).tobytes()):
        assert secret not in cleaned
    assert not any(element.tag.is_private for element in pydicom.dcmread(io.BytesIO(cleaned)))


@pytest.mark.parametrize(
    "keyword", sorted(IMAGE_ELEMENTS & {"SliceThickness", "Rows", "ImageType", "BodyPartExamined", "KVP"})
)
def test_text_in_an_element_of_another_type(keyword: str) -> None:
    """An element that stays, written with a type in which any text fits, goes."""
    dataset = MadeSeries().dataset(0)
    tag = pydicom.datadict.tag_for_keyword(keyword)
    assert tag is not None
    dataset[tag] = DataElement(tag, "LO", f"{SECRET}^Jane")
    assert SECRET not in str(deidentify(dataset, KEY))


def test_voxels_positions_and_values_stay() -> None:
    """A viewer and an import see the same image."""
    dataset = MadeSeries().dataset(2)
    cleaned = deidentify(dataset, KEY)
    for keyword in ("PixelData", "ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "RescaleSlope"):
        assert cleaned[keyword].value == dataset[keyword].value
    assert cleaned.file_meta.TransferSyntaxUID == dataset.file_meta.TransferSyntaxUID
    assert cleaned.SOPClassUID == dataset.SOPClassUID


def test_files_still_belong_together() -> None:
    """By UIDs and patients, in each run with the key; with another key they are others."""
    first, second = (deidentify(dataset, KEY) for dataset in MadeSeries().datasets()[:2])
    again, other = deidentify(MadeSeries().dataset(0), KEY), deidentify(MadeSeries().dataset(0), b"x" * 32)
    for keyword in ("StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID", "PatientID"):
        assert first[keyword].value == second[keyword].value == again[keyword].value
        assert first[keyword].value not in (other[keyword].value, MadeSeries().dataset(0)[keyword].value)
    assert first.SOPInstanceUID != second.SOPInstanceUID
    assert len(first.SOPInstanceUID) <= 64


def test_dates_move_together_within_a_patient() -> None:
    """By days that are the patient's; a date of birth goes in any case."""

    def dates(patient: str, study: str) -> tuple[str, str, str]:
        series = MadeSeries(patient=patient, extra={"StudyDate": study, "AcquisitionDateTime": f"{study}101112.5+0100"})
        cleaned = deidentify(series.dataset(0), KEY, Retained(dates=True))
        return cleaned.StudyDate, cleaned.AcquisitionDateTime, cleaned.PatientBirthDate

    first, later, other = dates("A", "20200228"), dates("A", "20200301"), dates("B", "20200228")
    days = [pydicom.valuerep.DA(text[0]) for text in (first, later)]
    assert (days[1] - days[0]).days == 2
    assert first[0] < "20200228"
    assert first[1] == f"{first[0]}101112.5+0100"
    assert first[0] != other[0]
    assert first[2] == ""


def test_the_method_is_stated() -> None:
    """As the profile requires."""
    cleaned = deidentify(MadeSeries().dataset(0), KEY, Retained(device=True))
    assert cleaned.PatientIdentityRemoved == "YES"
    assert [code.CodeValue for code in cleaned.DeidentificationMethodCodeSequence] == ["113100", "113109"]
    assert cleaned.LongitudinalTemporalInformationModified == "REMOVED"
    assert (cleaned.Manufacturer, cleaned.ManufacturerModelName) == ("Maker", "Model 3")
    assert deidentify(MadeSeries().dataset(0), KEY).Manufacturer == ""


def test_a_segmentation_still_fits_its_series(tmp_path: Path) -> None:
    """References get the UIDs of the de-identified files; codes stay, with the dictionary's meanings."""
    series, masks = MadeSeries(), np.zeros((5, 7, 6), np.uint8)
    masks[1:3, 2:4, 2:4] = 1
    label = segmentation(series.datasets(), masks, [f"{SECRET}'s tumour"])
    label.SegmentSequence[0].SegmentedPropertyTypeCodeSequence[0].CodeMeaning = SECRET

    cleaned = deidentify(label, KEY)

    assert SECRET not in str(cleaned)
    assert cleaned.ReferencedSeriesSequence[0].SeriesInstanceUID == deidentify(series.dataset(0), KEY).SeriesInstanceUID
    assert cleaned.SegmentSequence[0].SegmentedPropertyTypeCodeSequence[0].CodeMeaning.startswith("Liver ")
    assert cleaned.PixelData == label.PixelData


def test_a_folder_is_deidentified(tmp_path: Path) -> None:
    """What can't be cleaned is left out: ultrasound, reports, damaged files and others."""
    MadeSeries().write(tmp_path / "src" / "Doe Jane")
    ultrasound = MadeSeries(modality="US", seed=3).dataset(0)
    set_pixels(ultrasound, np.zeros((8, 8, 3), np.uint8))
    save(ultrasound, tmp_path / "src" / "us")
    report = MadeSeries(seed=4).common()
    report.SOPClassUID = report.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.88.11"
    report.SOPInstanceUID = report.file_meta.MediaStorageSOPInstanceUID = "1.2.3"
    report.Modality = "SR"
    save(report, tmp_path / "src" / "sr")
    (tmp_path / "src" / "notes.txt").write_text("Doe")

    result = deidentify_files(tmp_path / "src", tmp_path / "out", KEY, Retained())

    assert len(result.written) == len(list((tmp_path / "out").rglob("*.dcm"))) == 5
    assert {omission.files[0] for omission in result.left_out} == {"us", "sr", "notes.txt"}
    assert not [path for path in (tmp_path / "out").rglob("*") if path.is_file() and b"Doe" in path.read_bytes()]
