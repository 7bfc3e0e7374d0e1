"""The validator: sound data sets pass, each problem is one line that names the file or field and the fix."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Literal

import nibabel as nib
import numpy as np
import pytest
from PIL import Image

from medloop.errors import DataError
from medloop.imaging.validation import DatasetReport, check_dataset
from tests.unit.imaging.datasets import write_classes, write_image, write_patients, write_subject, write_subjects

Task = Literal["classification", "segmentation"]


def lines(report: DatasetReport) -> list[str]:
    """All problems, names included."""
    return [problem.line for problem in report.problems]


def test_sound_images(tmp_path: Path) -> None:
    """Class folders with spaces and non-ASCII letters, PNG and JPEG, hidden files and documents: no problem."""
    write_classes(tmp_path, classes=("Zyste, gutartig", "ohne Befund ü"))
    write_image(tmp_path / "ohne Befund ü" / "aufnahme ß.JPG".replace("JPG", "jpg"), 77)
    for name in (".DS_Store", "README.md", "ohne Befund ü/.hidden.png", "ohne Befund ü/Thumbs.db"):
        (tmp_path / name).write_text("x")
    seen: list[tuple[int, int]] = []
    report = check_dataset(tmp_path, "classification", progress=lambda done, total: seen.append((done, total)))

    assert lines(report) == []
    assert report.counts == {"Zyste, gutartig": 5, "ohne Befund ü": 6}
    assert (report.num_patients, report.presplit, report.identified) == (11, False, False)
    assert seen[-1] == (11, 11)


def test_cases_without_a_table_share_what_is_empty(tmp_path: Path) -> None:
    """A million empty dictionaries would take 64 MB."""
    write_classes(tmp_path)
    cases = check_dataset(tmp_path, "classification").cases
    assert len({id(case.raw.attributes) for case in cases}) == 1


def test_sound_volumes(tmp_path: Path) -> None:
    """Subject folders: classes come from the label values, or have the names given."""
    write_subjects(tmp_path)
    write_subject(tmp_path / "with two", 50, (0, 1, 2))

    report = check_dataset(tmp_path, "segmentation")
    assert lines(report) == []
    assert report.classes == ["background", "label 1", "label 2"]
    assert report.counts == {"background": 5, "label 1": 5, "label 2": 1}
    assert check_dataset(tmp_path, "segmentation", ["none", "grey", "white"]).counts["white"] == 1


def test_links_are_followed(tmp_path: Path) -> None:
    """A data set of links (as jobs get their inputs) reads as the files do; a broken link is a problem."""
    write_subjects(tmp_path / "real", 3)
    (tmp_path / "links").symlink_to(tmp_path / "real")
    assert lines(check_dataset(tmp_path / "links", "segmentation")) == []

    (tmp_path / "real" / "Müller 0" / "img.nii.gz").unlink()
    (tmp_path / "real" / "Müller 0" / "img.nii.gz").symlink_to(tmp_path / "nowhere")
    assert "Müller 0/img.nii.gz: is missing" in lines(check_dataset(tmp_path / "links", "segmentation"))[0]


def _regrid(root: Path, label: np.ndarray, affine: np.ndarray) -> None:
    nib.save(nib.Nifti1Image(label, affine), root / "Müller 1" / "label.nii.gz")


GRID = np.diag([2.0, 2.0, 3.0, 1.0])
SHIFTED = GRID + np.eye(4, k=3) * 1.5
LABEL = np.resize(np.array([0, 1], dtype=np.float32), (6, 5, 4))


def _set_units(root: Path, image: str, label: str) -> None:
    """Give the first subject's headers units; the grid stays as it is in mm, or as its numbers are."""
    for stem, unit in (("img", image), ("label", label)):
        path = root / "Müller 1" / f"{stem}.nii.gz"
        old = nib.load(path)
        factor = {"micron": 1e3, "meter": 1e-3}.get(unit, 1)
        new = nib.Nifti1Image(np.asarray(old.dataobj), np.vstack([GRID[:3] * factor, GRID[3:]]))
        new.header.set_xyzt_units(unit)
        nib.save(new, path)


@pytest.mark.parametrize("units", [("mm", "micron"), ("meter", "mm"), ("mm", "unknown"), ("unknown", "mm")])
def test_one_grid_in_two_units(tmp_path: Path, units: tuple[str, str]) -> None:
    """Image and label share one grid, in any unit of each header; none is taken for the other's numbers in mm."""
    write_subjects(tmp_path)
    _set_units(tmp_path, *units)
    assert lines(check_dataset(tmp_path, "segmentation")) == []


def test_a_grid_whose_unit_one_header_lacks(tmp_path: Path) -> None:
    """Metres in one file, no unit in the other: which of the two is right can't be known."""
    write_subjects(tmp_path)
    _set_units(tmp_path, "meter", "meter")
    path = tmp_path / "Müller 1" / "label.nii.gz"
    label = nib.load(path)
    label.header.set_xyzt_units("unknown")
    nib.save(nib.Nifti1Image(np.asarray(label.dataobj), None, label.header), path)
    line = lines(check_dataset(tmp_path, "segmentation"))[0]
    assert line.startswith("Müller 1/label.nii.gz: is on another grid than its image: corresponding voxels are up to")
    assert "; their units are meter and unknown)" in line
    assert line.endswith("; correct the unit in a header (xyzt_units)")


def _all_empty(root: Path) -> None:
    for index in range(4):
        write_subject(root / f"Müller {index}", index, (0,))


def _twice(path: Path) -> None:
    nib.save(nib.Nifti1Image(LABEL, GRID), path)


def _twin_subject(root: Path) -> None:
    write_subject(root / "Schmidt", 1)


@pytest.mark.parametrize(
    ("spoil", "expected"),
    [
        (lambda root: (root / "Müller 1" / "img.nii.gz").write_bytes(b"\x1f\x8b cut"), "Müller 1/img.nii.gz: is trunc"),
        (lambda root: (root / "Müller 1" / "label.nii.gz").unlink(), "Müller 1/label.nii.gz: is missing"),
        (lambda root: _twice(root / "Müller 1" / "img.nii"), "Müller 1/img.nii.gz: is next to img.nii"),
        (lambda root: _regrid(root, LABEL[:5], GRID), "Müller 1/label.nii.gz: has shape (5, 5, 4) where"),
        (lambda root: _regrid(root, LABEL, SHIFTED), "Müller 1/label.nii.gz: is on another grid"),
        (lambda root: _regrid(root, LABEL * 0.5, GRID), "Müller 1/label.nii.gz: has label values 0.5"),
        (lambda root: _regrid(root, LABEL * -1, GRID), "Müller 1/label.nii.gz: has label values -1"),
        (lambda root: _regrid(root, LABEL * 300, GRID), "Müller 1/label.nii.gz: has label values 300"),
        (lambda root: _regrid(root, LABEL * np.nan, GRID), "Müller 1/label.nii.gz: has voxels that are NaN"),
        (lambda root: _regrid(root, LABEL * 7, GRID), "data set: label values 0, 1, 7 leave gaps"),
        (_all_empty, "data set: every label is empty"),
        (_twin_subject, "Müller 1: shows the same voxels as Schmidt"),
        (lambda root: (root / "loose.nii.gz").write_bytes(b"x"), "loose.nii.gz: is outside a subject's folder"),
    ],
)
def test_spoilt_volumes(tmp_path: Path, spoil: Callable[[Path], object], expected: str) -> None:
    """Each fault of a segmentation data set is reported first, by name."""
    write_subjects(tmp_path)
    spoil(tmp_path)

    assert expected in lines(check_dataset(tmp_path, "segmentation"))[0]


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["none", "grey", "cyst"], "contain values 0 (none), 1 (grey), and no voxel of 2 (cyst); name those alone"),
        (["none", "grey", "b", "c"], "and no voxel of 2 (b), 3 (c); name those alone, or add subjects with the others"),
    ],
)
def test_names_without_voxels(tmp_path: Path, names: list[str], expected: str) -> None:
    """Training can't learn a structure that no label has: the values that occur are listed with their names."""
    write_subjects(tmp_path)
    assert expected in lines(check_dataset(tmp_path, "segmentation", names))[0]
    write_subject(tmp_path / "gap", 70, (0, 4))
    [line] = lines(check_dataset(tmp_path, "segmentation", ["none", "grey", "b", "c", "d"]))
    assert "renumber those without gaps" in line


def test_labels_outside_the_named_classes(tmp_path: Path) -> None:
    """With names given, a value beyond them is refused."""
    write_subjects(tmp_path)
    write_subject(tmp_path / "odd", 50, (0, 2))

    report = check_dataset(tmp_path, "segmentation", ["background", "gland"])
    assert lines(report) == [
        "odd/label.nii.gz: has label values 2 that are no whole numbers from 0 to 1 (background, gland); "
        "renumber the labels"
    ]
    assert report.problems[0].case == "odd"


def _twin_class(root: Path) -> None:
    write_image(root / "normal" / "twin.png", 0)


def _class_next_to_split(root: Path) -> None:
    write_image(root / "train" / "cyst" / "a.png", 500)


@pytest.mark.parametrize(
    ("spoil", "expected"),
    [
        (lambda root: (root / "cyst" / "scan 0.png").write_text("text"), "cyst/scan 0.png: is no PNG or JPEG"),
        (
            lambda root: (root / "cyst" / "scan.dcm").write_text("x"),
            "cyst/scan.dcm: is no .png or .jpg or .webp or .bmp or .tif file",
        ),
        (lambda root: (root / "cyst" / "more").mkdir(), "cyst/more: is a folder inside a class folder"),
        (lambda root: (root / "benign").mkdir(), "benign: class folder is empty"),
        (lambda root: write_image(root / "loose.png", 9), "loose.png: is outside a class folder"),
        (_twin_class, "cyst/scan 0.png: shows the same pixels as normal/twin.png of another class"),
        (_class_next_to_split, "cyst: is next to the folder train"),
    ],
)
def test_spoilt_images(tmp_path: Path, spoil: Callable[[Path], object], expected: str) -> None:
    """Each fault of a classification data set is reported first, by name."""
    write_classes(tmp_path)
    spoil(tmp_path)

    assert expected in lines(check_dataset(tmp_path, "classification"))[0]


@pytest.mark.parametrize("task", ["classification", "segmentation"])
def test_empty_folder(tmp_path: Path, task: Task) -> None:
    """An empty folder says what should be in it; an absent one or a file is refused."""
    assert "contains no usable case" in lines(check_dataset(tmp_path, task))[0]
    (tmp_path / "file").touch()
    for name in ("absent", "file"):
        with pytest.raises(DataError, match="is no folder"):
            check_dataset(tmp_path / name, task)


def test_one_class_and_few_patients(tmp_path: Path) -> None:
    """One class can't be classified; two patients can't fill three splits."""
    write_classes(tmp_path, classes=("cyst",))
    assert lines(check_dataset(tmp_path, "classification")) == [
        "data set: has one class only; add a folder with images of another class"
    ]

    write_classes(tmp_path)
    write_patients(tmp_path, ["cyst,anna", "normal,bert"])
    assert lines(check_dataset(tmp_path, "classification")) == ["data set: has 2 patients for 3 splits; add patients"]


def test_same_pixels_under_two_patients(tmp_path: Path) -> None:
    """Both files are named; the same pixels twice of one patient, or unnamed in one class, are no fault."""
    write_classes(tmp_path)
    write_image(tmp_path / "cyst" / "twin.png", 0)
    report = check_dataset(tmp_path, "classification")
    assert lines(report) == []
    assert report.num_patients == 10
    assert report.patients["cyst/twin.png"] == report.patients["cyst/scan 0.png"]

    rows = [f"{case.path},{case.path}" for case in report.cases]
    write_patients(tmp_path, rows)
    assert [line.split(";")[0] for line in lines(check_dataset(tmp_path, "classification"))] == [
        "cyst/scan 0.png: shows the same pixels as cyst/twin.png of another patient",
        "cyst/twin.png: shows the same pixels as cyst/scan 0.png of another patient",
    ]


@pytest.mark.parametrize("rows", [["cyst,anna", "normal,NaN"], ["/abs/a.png,anna"], ["x,anna,3"]])
def test_a_broken_table_certifies_nothing(tmp_path: Path, rows: list[str]) -> None:
    """Leakage isn't "none" where no patient is known."""
    write_patients(write_classes(tmp_path), rows)
    report = check_dataset(tmp_path, "classification")
    assert report.problems
    assert (report.patients_known, report.leakage.status) == (False, "unknown")


@pytest.mark.parametrize("folder", ["", "train/", "train/cyst/"])
def test_a_table_in_another_folder_is_not_read(tmp_path: Path, folder: str) -> None:
    """A warning says where it belongs."""
    for split in ("train", "val", "test"):
        write_classes(tmp_path / split)
    (tmp_path / folder / "patients.csv").write_text("path,patient\ntrain,a\nval,b\ntest,c\n")
    report = check_dataset(tmp_path, "classification")
    lines = [warning.line for warning in report.warnings if "is not read" in warning.line]
    text = "is not read; write its rows into patients.csv in the data set's folder, with paths from there"
    assert lines == ([f"{folder}patients.csv: {text}"] if folder else [])


def test_a_duplicate_names_one_of_another_class(tmp_path: Path) -> None:
    """Of two equal images in one class and one in another, each line names an image that is elsewhere."""
    write_classes(tmp_path)
    for path in ("cyst/twin.png", "normal/twin.png"):
        write_image(tmp_path / path, 0)
    assert [line.split(";")[0] for line in lines(check_dataset(tmp_path, "classification"))] == [
        "cyst/scan 0.png: shows the same pixels as normal/twin.png of another class",
        "cyst/twin.png: shows the same pixels as normal/twin.png of another class",
        "normal/twin.png: shows the same pixels as cyst/scan 0.png of another class",
    ]


@pytest.mark.parametrize("value", [0, 255])
def test_blank_images_are_warned_of_in_any_class(tmp_path: Path, value: int) -> None:
    """Two blank images show the same pixels, and say nothing about patients or classes."""
    write_classes(tmp_path)
    for name in ("cyst", "normal"):
        Image.fromarray(np.full((8, 8), value, np.uint8)).save(tmp_path / name / "blank.png")
    write_patients(tmp_path, [f"{path.relative_to(tmp_path)},{path}" for path in sorted(tmp_path.glob("*/*.png"))])
    report = check_dataset(tmp_path, "classification")
    assert (lines(report), len(report.cases), report.leakage.status) == ([], 12, "none")
    blank = [warning.path for warning in report.warnings if "has one value everywhere" in warning.line]
    assert blank == ["cyst/blank.png", "normal/blank.png"]


def test_presplit_folders(tmp_path: Path) -> None:
    """train, valid and test are taken as they are; a class that training lacks is a fault."""
    for index, split in enumerate(("train", "valid", "test")):
        write_image(tmp_path / split / "cyst" / "a.png", 10 * index)
        write_image(tmp_path / split / "normal" / "b.png", 10 * index + 1)
    report = check_dataset(tmp_path, "classification")
    assert lines(report) == []
    assert [case.raw.split for case in report.cases] == ["test", "test", "train", "train", "val", "val"]

    write_image(tmp_path / "test" / "benign" / "c.png", 99)
    assert lines(check_dataset(tmp_path, "classification")) == [
        "data set: class benign has no image in folder train; add some or remove the class"
    ]
    (tmp_path / "val").mkdir()
    assert "valid: folders val and valid are both there; move the cases of one into the other" in lines(
        check_dataset(tmp_path, "classification")
    )


@pytest.mark.parametrize(
    ("table", "expected"),
    [
        ("file,patient\ncyst,a\n", "has no column path"),
        ("path|patient\ncyst|a\n", "has no column path and no column patient"),
        ("", "has no column path"),
        ("path,patient,sex,sex\n", "column 'sex' twice"),
        ("path,,patient\n", "column without a name (number 2)"),
        ("path,patient,Birth Date\n", "column Birth Date may reveal who"),
        ("path,patient,PatientID\n", "column PatientID may reveal who"),
        ("path,patient,Patient's Name\n", "column Patient's Name may reveal who"),
        ("path,patient\n../other,a\n", "row 2: column path leaves the data set"),
        ("path,patient\n/etc/passwd,a\n", "row 2: column path leaves the data set"),
        ("path,patient\ncyst,a\ncyst/,b\n", "row 3: column path repeats row 2"),
        ("path,patient\ncyst, \n", "row 2: column patient is empty"),
        ("path,patient\ncyst\n", "row 2: has 1 cells"),
        ("path,patient\ncyst,a\nnormal,b\nother,c\n", "row 4: column path names no file"),
        ("path,patient,sex\ncyst,a,f\nnormal,a,m\n", "row 3: other attributes than row 2"),
        ('path,patient\n"cyst,a\n', "is no comma-separated table"),
        ("path,patient\ncyst,Jürgen\n".encode("latin-1"), "is not in UTF-8"),
    ],
)
def test_hostile_patients_csv(tmp_path: Path, table: str | bytes, expected: str) -> None:
    """A faulty table is reported by column and row, without a patient's name."""
    write_classes(tmp_path)
    (tmp_path / "patients.csv").write_bytes(table if isinstance(table, bytes) else table.encode())

    problems = [line for line in lines(check_dataset(tmp_path, "classification")) if line.startswith("patients.csv")]
    assert expected in problems[0]
    assert "passwd" not in problems[0]


def test_patients_csv_of_folders_and_files(tmp_path: Path) -> None:
    """Rows name files or folders, the nearest one applies; byte-order mark, back slashes, blank lines don't matter."""
    write_classes(tmp_path)
    text = "\ufeffpath,patient,sex\r\ncyst,anna,f\r\ncyst\\scan 1.png,bert,m\r\n\r\n./normal,carla,\r\n"
    (tmp_path / "patients.csv").write_bytes(text.encode())

    report = check_dataset(tmp_path, "classification")
    assert lines(report) == []
    assert report.patients["cyst/scan 0.png"] == "anna"
    assert report.patients["cyst/scan 1.png"] == "bert"
    assert {case.raw.patient: case.raw.attributes for case in report.cases}["carla"] == {}

    subjects = tmp_path / "subjects"
    write_subjects(subjects, 3)
    decomposed = "Mu\u0308ller"
    write_patients(subjects, [f"{decomposed} 0/img.nii.gz,a", "Müller 1,b", "Müller 2/label.nii.gz,c"])
    report = check_dataset(subjects, "segmentation")
    assert report.patients == {"Müller 0": "a", "Müller 1": "b"}
    assert lines(report)[0] == "Müller 2: has no row in patients.csv; add one"
