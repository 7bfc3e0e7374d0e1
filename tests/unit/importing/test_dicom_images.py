"""2D images of DICOM in class folders, PET's values, and the patients of both."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence as DicomSequence

from medloop.errors import SettingError
from medloop.imaging.validation import check_dataset
from tests.unit.dicom.scanners import MadeSeries, item, save, set_pixels
from tests.unit.importing.importer import read_volume, reasons, run

RAMP = np.arange(64, dtype=np.uint16).reshape(8, 8) * 64
"""Values of 12 bits."""


def picture(
    seed: int = 1, pixels: NDArray[Any] = RAMP, patient: str = "", modality: str = "DX", **elements: Any
) -> Dataset:
    """A radiograph."""
    series = MadeSeries(modality=modality, seed=seed, patient=patient or f"P{seed}")
    dataset = series.common()
    dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = series.uid("image")
    set_pixels(dataset, pixels, 12 if pixels.dtype == np.uint16 else None)
    for keyword, value in elements.items():
        setattr(dataset, keyword, value)
    return dataset


def written(tmp_path: Path, dataset: Dataset, **options: Any) -> NDArray[Any]:
    """The PNG of one image."""
    save(dataset, tmp_path / "src" / "cyst" / "1")
    report = run(tmp_path / "src", tmp_path / "out", class_by="folder", **options)
    assert reasons(report) == []
    return np.asarray(Image.open(tmp_path / "out" / report.cases[0].name))


def test_grey_values_take_the_range_of_16_bits(tmp_path: Path) -> None:
    """Without a window the stored range is stretched, regardless of the values that occur."""
    pixels = written(tmp_path, picture())
    assert pixels.dtype == np.uint16
    np.testing.assert_array_equal(pixels, np.rint(RAMP / 4095 * 65535))


def test_monochrome1_is_inverted(tmp_path: Path) -> None:
    """The smallest value is white."""
    pixels = written(tmp_path, picture(PhotometricInterpretation="MONOCHROME1"))
    np.testing.assert_array_equal(pixels, np.rint((1 - RAMP / 4095) * 65535))


@pytest.mark.parametrize(
    ("elements", "low", "high"),
    [
        ({"WindowCenter": 2000.5, "WindowWidth": 1001}, 1500, 2500),
        ({"WindowCenter": [2000.5, 40], "WindowWidth": [1001, 400]}, 1500, 2500),
        ({"WindowCenter": 2000, "WindowWidth": 1000, "VOILUTFunction": "LINEAR_EXACT"}, 1500, 2500),
        ({"WindowCenter": 976.5, "WindowWidth": 1001, "RescaleIntercept": -1024, "RescaleSlope": 1}, 1500, 2500),
    ],
)
def test_the_first_window_is_applied(tmp_path: Path, elements: dict[str, Any], low: int, high: int) -> None:
    """After the rescale, to all of the 16 bits."""
    expected = np.rint(np.clip((RAMP.astype(float) - low) / (high - low), 0, 1) * 65535)
    np.testing.assert_allclose(written(tmp_path, picture(**elements)), expected, atol=1)


def test_a_sigmoid_window(tmp_path: Path) -> None:
    """PS3.3 C.11.2.1.3.1."""
    elements = {"WindowCenter": 2000, "WindowWidth": 1000, "VOILUTFunction": "SIGMOID"}
    expected = 65535 / (1 + np.exp(-4 * (RAMP.astype(float) - 2000) / 1000))
    np.testing.assert_allclose(written(tmp_path, picture(**elements)), expected, atol=1)


def test_look_up_tables(tmp_path: Path) -> None:
    """A modality LUT, then a VOI LUT."""
    modality = item(
        LUTDescriptor=[4096, 0, 16], ModalityLUTType="US", LUTData=np.arange(4095, -1, -1, dtype="<u2").tobytes()
    )
    voi = item(LUTDescriptor=[4096, 0, 16], LUTData=(16 * np.arange(4096)).astype("<u2").tobytes())
    dataset = picture(ModalityLUTSequence=DicomSequence([modality]), VOILUTSequence=DicomSequence([voi]))
    np.testing.assert_allclose(written(tmp_path, dataset), (4095 - RAMP.astype(int)) * 16, atol=1)


def test_colour_ultrasound_and_cine(tmp_path: Path) -> None:
    """RGB stays; of a loop the middle frame is taken, or each."""
    frames = np.random.default_rng(1).integers(0, 256, (5, 8, 8, 3), np.uint8)
    dataset = picture(modality="US", pixels=frames[0])
    dataset.NumberOfFrames, dataset.PixelData = 5, frames.tobytes()
    save(dataset, tmp_path / "src" / "cyst" / "1")

    refused = run(tmp_path / "src", tmp_path / "out", class_by="folder")
    middle = run(tmp_path / "src", tmp_path / "out", class_by="folder", accept_burned_in=True)
    every = run(tmp_path / "src", tmp_path / "out2", class_by="folder", accept_burned_in=True, frames="all")

    assert "ultrasound images mostly show the patient's name" in refused.left_out[0].reason
    assert refused.cases == []
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "out" / middle.cases[0].name)), frames[2])
    assert middle.cases[0].warnings == ["is frame 3 of 5; --frames all imports each"]
    images = [np.asarray(Image.open(tmp_path / "out2" / case.name)) for case in every.cases]
    np.testing.assert_array_equal(images, frames)


def test_ybr_colour_becomes_rgb(tmp_path: Path) -> None:
    """YBR_FULL of pure red."""
    pixels = np.broadcast_to(np.array([76, 85, 255], np.uint8), (8, 8, 3)).copy()
    dataset = picture(modality="US", pixels=pixels, PhotometricInterpretation="YBR_FULL")
    colour = written(tmp_path, dataset, accept_burned_in=True)[0, 0]
    np.testing.assert_allclose(colour, (254, 0, 0), atol=2)


def test_classes_by_folder_only_if_folders_cant_be_patients(tmp_path: Path) -> None:
    """Folders of one patient each may be patients; then the user says where the class is."""
    for seed in range(4):
        save(picture(seed), tmp_path / "src" / f"folder {seed}" / "1")
        save(picture(seed + 10), tmp_path / "sure" / ("cyst" if seed % 2 else "normal") / "x" / str(seed))

    unsure = run(tmp_path / "src", tmp_path / "out")
    chosen = run(tmp_path / "src", tmp_path / "out2", class_by="folder")
    sure = run(tmp_path / "sure", tmp_path / "out3")

    assert unsure.cases == []
    assert "its class is not known; give --class-by folder" in reasons(unsure)[0]
    assert {case.name.split("/")[0] for case in chosen.cases} == {f"folder {seed}" for seed in range(4)}
    assert {case.name.split("/")[0] for case in sure.cases} == {"cyst", "normal"}
    assert sure.task == "classification"


def test_classes_by_a_header_field(tmp_path: Path) -> None:
    """A keyword of DICOM; an unknown one is refused."""
    for seed, view in enumerate(["PA", "LL", "PA", "L/L"]):
        save(picture(seed, np.roll(RAMP, seed), ViewPosition=view), tmp_path / "src" / str(seed))

    report = run(tmp_path / "src", tmp_path / "out", class_by="ViewPosition")

    assert sorted(case.name.split("/")[0] for case in report.cases) == ["L-L", "LL", "PA", "PA"]
    with pytest.raises(SettingError, match="--class-by View: is no element of DICOM"):
        run(tmp_path / "src", tmp_path / "out3", class_by="View")


def rows_of(target: Path) -> list[dict[str, str]]:
    """The rows of patients.csv."""
    return list(csv.DictReader((target / "patients.csv").open(encoding="utf-8")))


def test_patients_csv_has_pseudonyms_and_chosen_attributes(tmp_path: Path) -> None:
    """One value a patient: the youngest age, and nothing where scanners differ; the check agrees."""
    for seed, (patient, age, model) in enumerate(
        [("A", "039Y", "M1"), ("A", "040Y", "M1"), ("B", "011M", "M1"), ("B", "011M", "M2"), ("C", "099Y", "M1")]
    ):
        dataset = picture(seed, np.roll(RAMP, seed), patient, PatientAge=age, ManufacturerModelName=model)
        save(dataset, tmp_path / "src" / ("cyst" if seed % 2 else "normal") / str(seed))

    report = run(tmp_path / "src", tmp_path / "out", attributes=("sex", "age_group", "scanner"))

    rows = {row["patient"]: row for row in rows_of(tmp_path / "out")}
    assert len(rows) == report.num_patients == 3
    assert sorted(row["age_group"] for row in rows.values()) == ["0-9", "30-39", "90+"]
    assert sorted(row["scanner"] for row in rows.values()) == ["", "Maker M1", "Maker M1"]
    assert {row["sex"] for row in rows.values()} == {"F"}
    assert "scanner differs within 1 patients and is left empty for them" in report.warnings
    assert check_dataset(tmp_path / "out", "classification").problems == []


@pytest.mark.parametrize(
    ("age", "birth", "study", "group"),
    [
        ("045Y", "", "", "40-49"),
        ("", "19600305", "20210304", "60-69"),
        ("", "19610305", "20210304", "50-59"),
        ("095Y", "", "", "90+"),
        ("020D", "", "", "0-9"),
        ("", "", "20210304", ""),
        ("old", "196", "20210304", ""),
    ],
)
def test_age_groups(tmp_path: Path, age: str, birth: str, study: str, group: str) -> None:
    """By age, else by the dates of birth and study; neither is written."""
    save(picture(PatientAge=age, PatientBirthDate=birth, StudyDate=study), tmp_path / "src" / "cyst" / "1")
    run(tmp_path / "src", tmp_path / "out", class_by="folder", attributes=("age_group",))
    assert [row.get("age_group", "") for row in rows_of(tmp_path / "out")] == [group]


def test_an_unknown_attribute(tmp_path: Path) -> None:
    """The known ones are named."""
    save(picture(), tmp_path / "src" / "1")
    with pytest.raises(SettingError, match="--attributes PatientName: is unknown; one or more of sex,age_group"):
        run(tmp_path / "src", tmp_path / "out", attributes=("PatientName",))


def test_no_identifier_is_written(tmp_path: Path) -> None:
    """Neither name, number, dates nor UIDs of the headers are in any file of the data set, apart from source paths."""
    series = MadeSeries(patient="MRN-4711", extra={"PatientComments": "Jane Doe", "OtherPatientIDs": "SSN-123"})
    series.write(tmp_path / "src")
    save(picture(5, patient="MRN-4711"), tmp_path / "src2" / "cyst" / "1")

    run(tmp_path / "src", tmp_path / "out", attributes=("sex", "age_group", "scanner"))
    run(tmp_path / "src2", tmp_path / "out2", class_by="folder", attributes=("sex", "age_group"))

    import gzip

    secrets = (b"4711", b"Doe", b"19600203", b"SSN", series.uid("series").encode(), series.uid("study").encode())
    for path in [*tmp_path.glob("out*/**/*")]:
        content = path.read_bytes() if path.is_file() else b""
        content = gzip.decompress(content) if path.suffix == ".gz" else content
        assert [secret for secret in secrets if secret in content + str(path.relative_to(tmp_path)).encode()] == []


def test_notes_are_for_the_owner_alone(tmp_path: Path) -> None:
    """The report names source files."""
    save(picture(), tmp_path / "src" / "Doe" / "1")
    run(tmp_path / "src", tmp_path / "out", class_by="folder")
    assert (tmp_path / "out" / ".medloop-import").stat().st_mode & 0o777 == 0o700


def tracer(**changes: Any) -> dict[str, Any]:
    """Elements of an FDG PET: 370 MBq an hour before the scan, 74 kg."""
    information = item(RadionuclideTotalDose=370e6, RadionuclideHalfLife=6586.2, RadiopharmaceuticalStartTime="110000")
    elements = {
        "Units": "BQML", "DecayCorrection": "START", "PatientWeight": 74, "SeriesDate": "20210304",
        "SeriesTime": "120000", "AcquisitionDate": "20210304", "AcquisitionTime": "120000",
        "RadiopharmaceuticalInformationSequence": DicomSequence([information]),
    }  # fmt: skip
    return {**elements, **changes}


FACTOR = 74_000 / (370e6 * 2 ** (-3600 / 6586.2))


@pytest.mark.parametrize(
    ("changes", "factor"),
    [
        ({}, FACTOR),
        ({"DecayCorrection": "ADMIN"}, 74_000 / 370e6),
        ({"Units": "GML"}, 1.0),
        ({"SeriesTime": "150000"}, FACTOR),
    ],
    ids=["START", "ADMIN", "GML", "a series made later"],
)
def test_pet_becomes_suv(tmp_path: Path, changes: dict[str, Any], factor: float) -> None:
    """By body weight, with each slice's own rescale."""
    series = MadeSeries(modality="PT", intercept=0, extra=tracer(**changes))
    series.write(tmp_path / "src", lambda index, dataset: setattr(dataset, "RescaleSlope", 0.5 + index))

    voxels, _ = read_volume(run(tmp_path / "src", tmp_path / "out"), tmp_path / "out")

    expected = series.values * (0.5 + np.arange(5)) * factor
    np.testing.assert_allclose(voxels, expected, rtol=1e-5)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"PatientWeight": None}, "PatientWeight is missing"),
        ({"PatientWeight": 0}, "PatientWeight is 0"),
        ({"Units": "CNTS"}, "Units is CNTS"),
        ({"DecayCorrection": "NONE"}, "DecayCorrection is NONE"),
        ({"RadiopharmaceuticalInformationSequence": DicomSequence([])}, "RadionuclideTotalDose is missing"),
        ({"SeriesTime": "", "AcquisitionTime": ""}, "SeriesTime is missing"),
    ],
)
def test_pet_without_what_suv_needs(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    """The field is named; `--pet stored` takes the values as they are."""
    series = MadeSeries(modality="PT", intercept=0, extra=tracer(**changes))
    series.write(tmp_path / "src")

    refused = run(tmp_path / "src", tmp_path / "out")
    stored = run(tmp_path / "src", tmp_path / "out2", pet="stored")

    assert message in reasons(refused)[0]
    np.testing.assert_allclose(read_volume(stored, tmp_path / "out2")[0], series.values)
