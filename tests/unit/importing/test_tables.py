"""Tables of labels: class, split, patient and attributes of each row; bad rows are named."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from medloop.errors import DataError, SettingError, TargetError
from tests.unit.importing.image_sources import (
    HEADING,
    OPTIONS,
    ROWS,
    images,
    picture,
    require_sound,
    run,
    write_table,
)
from tests.unit.importing.volume_sources import made, read, save


@pytest.mark.parametrize(
    ("name", "sign"), [("labels.csv", ","), ("train.csv", ";"), ("x.tsv", "\t"), ("t.parquet", "")]
)
@pytest.mark.parametrize("as_file", [False, True])
def test_tables_of_images(tmp_path: Path, name: str, sign: str, as_file: bool) -> None:
    """Class, split, patient in normal form and chosen attributes of each row."""
    source = images(tmp_path / "src")
    write_table(source / name, ROWS, sign=sign)
    report = run(source / name if as_file else source, tmp_path / "out")
    assert report.source == "table"
    assert [case.name for case in report.cases] == [
        *("test/cyst/4.png", "test/normal/5.png", "train/cyst/0.png", "train/cyst/1.png"),
        *("train/normal/2.png", "train/normal/3.png"),
    ]
    assert (tmp_path / "out/patients.csv").read_text().splitlines() == [
        *("path,patient,age_group,sex", "test/cyst/4.png,P4,,", "test/normal/5.png,P5,10-19,F"),
        *("train/cyst/0.png,P 1,30-39,F", "train/cyst/1.png,P 1,30-39,F"),
        *("train/normal/2.png,P2,90+,M", "train/normal/3.png,P3,50-59,M"),
    ]
    np.testing.assert_array_equal(
        np.asarray(Image.open(tmp_path / "out/train/cyst/1.png")), picture(tmp_path / "1.png", 1)
    )
    require_sound(tmp_path / "out", report)


def test_paths_in_tables(tmp_path: Path) -> None:
    """Absolute, of another computer, without a suffix, with backslashes: each names its file."""
    source = images(tmp_path / "src")
    paths = [str(source / "imgs/0.png"), "/data/old/imgs/1.png", "2", r"imgs\3.png", "./imgs//4.gif", "5.png"]
    write_table(
        source / "labels.csv", [(path, *row[1:2]) for path, row in zip(paths, ROWS, strict=True)], ("Image ID", "dx")
    )
    report = run(source, tmp_path / "out")
    assert [case.name for case in report.cases] == [
        "cyst/0.png",
        "cyst/1.png",
        "cyst/4.png",
        "normal/2.png",
        "normal/3.png",
        "normal/5.png",
    ]
    assert not report.left_out


def test_bad_rows_are_named_and_the_others_imported(tmp_path: Path) -> None:
    """By row and column; files without a row, too."""
    source = images(tmp_path / "src")
    picture(source / "imgs/6.png", 66)
    picture(tmp_path / "secret.png", 67)
    rows = [
        *ROWS,
        ("../secret.png", "cyst", "P9", "train", "F", "1"),
        ("imgs/../../secret.png", "cyst", "P9", "train", "F", "1"),
        ("/etc/passwd", "cyst", "P9", "train", "F", "1"),
        ("imgs/no.png", "cyst", "P9", "train", "F", "1"),
        ("imgs/1.png", "normal", "P 1", "train", "F", "34"),
        ("imgs/2.png", "normal", "P2", "train", "M", "91"),
        ("imgs/6.png", "", "P9", "train", "F", "1"),
        ("imgs/6.png", "cyst", "n/a", "train", "F", "1"),
        ("imgs/6.png", "cyst", "P9", "extra", "F", "1"),
        ("a\0b", "cyst", "P9", "train", "F", "1"),
    ]
    text = io.StringIO()
    csv.writer(text).writerows([HEADING, *rows])
    (source / "labels.csv").write_text(text.getvalue() + "imgs/6.png,cyst\n")
    report = run(source, tmp_path / "out")
    assert [omission.reason for omission in report.left_out] == [
        "row 18: has another number of cells than the first line; quote cells that contain commas",
        "rows 8, 9: column path contains .., and paths are in the source; correct it",
        "rows 10, 11: column path names no file of the source; correct the path, or remove the row",
        "row 14: column label is empty; write the label, or remove the row",
        "row 15: column patient is empty; give each file its patient, or remove the column",
        "row 16: column split is none of train, val and test; correct it",
        "row 17: column path is empty or no path; correct it",
        "rows 3, 12: repeats a file with another label, patient or split; remove the wrong rows",
        "row 13: repeats a row; remove one",
        "has no row in labels.csv that can be used",
    ]
    assert [case.name for case in report.cases if "1.png" in case.name] == []
    assert len(report.cases) == 5


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"a,b\n1,2\n", "has no table with columns path and label (tables: labels.csv)"),
        (b"path,label,label\nx,y,z\n", "labels.csv: has column 'label' twice; rename one"),
        (b"path,label\nx,\xff\xfe\n", "labels.csv: row 2: is not in UTF-8; save the table as UTF-8"),
        (b'path,label\n"x,y\n', "labels.csv: row 2: is no comma-separated table"),
    ],
)
def test_a_table_that_cant_be_used_is_refused_by_name(tmp_path: Path, content: bytes, message: str) -> None:
    """One line."""
    source = images(tmp_path / "src")
    (source / "labels.csv").write_bytes(content)
    with pytest.raises(DataError) as caught:
        run(source / "labels.csv", tmp_path / "out")
    assert message in str(caught.value)


def test_no_parquet(tmp_path: Path) -> None:
    """A file that pyarrow refuses."""
    source = images(tmp_path / "src")
    (source / "labels.parquet").write_bytes(b"PAR1" + bytes(50) + b"PAR1")
    with pytest.raises(DataError, match=r"labels.parquet: is no Parquet file .*; save it again, or as CSV"):
        run(source / "labels.parquet", tmp_path / "out")


def test_attributes_of_tables_are_chosen_by_a_list(tmp_path: Path) -> None:
    """Others are named and never read; differing ones of a patient are left empty; names are refused."""
    source = images(tmp_path / "src")
    rows = [(*row[:3], site, "Doe") for row, site in zip(ROWS, "AABCDE", strict=True)]
    rows[1] = (*rows[1][:3], "Z", "Doe")
    write_table(source / "labels.csv", rows, ("path", "label", "patient", "site", "name"))
    report = run(source, tmp_path / "out", replace(OPTIONS, attributes=("site",)))
    assert "labels.csv columns name are not imported; --attributes A,B names those that are" in report.warnings
    assert "site differs within 1 patients and is left empty for them" in report.warnings
    assert "Doe" not in (tmp_path / "out/patients.csv").read_text()
    require_sound(tmp_path / "out", report)
    with pytest.raises(SettingError, match="--attributes name: may reveal who a patient is"):
        run(source, tmp_path / "out", replace(OPTIONS, attributes=("name",)))


def test_tables_of_volumes(tmp_path: Path) -> None:
    """A label may be the path of a label map."""
    for index in range(3):
        image, label = made(index)
        save(tmp_path / f"src/v/a{index}.nii.gz", image)
        save(tmp_path / f"src/l/b{index}.nii.gz", label)
    rows = [(f"v/a{index}.nii.gz", f"l/b{index}.nii.gz", f"P{index}") for index in range(3)]
    write_table(tmp_path / "src/labels.csv", rows, ("image", "mask", "subject"))
    report = run(tmp_path / "src", tmp_path / "out")
    assert (report.task, report.num_patients) == ("segmentation", 3)
    np.testing.assert_array_equal(read(tmp_path / "out", "a2")[0][1], made(2)[1])
    require_sound(tmp_path / "out", report)


def test_a_table_is_not_imported_into_its_own_folder(tmp_path: Path) -> None:
    """The data set's files would be taken for the source's."""
    source = images(tmp_path / "src")
    write_table(source / "labels.csv", ROWS)
    with pytest.raises(TargetError, match="is in the source"):
        run(source / "labels.csv", source / "out")


def test_a_folder_too_deep_is_named(tmp_path: Path) -> None:
    """The line gives the folder."""
    nested = images(tmp_path / "src/data/v1")
    write_table(nested / "labels.csv", ROWS)
    with pytest.raises(DataError, match=f"contains the data in data/v1; give {nested}"):
        run(tmp_path / "src", tmp_path / "out")


def test_the_report_names_what_was_done(tmp_path: Path) -> None:
    """report.json in the hidden folder."""
    source = images(tmp_path / "src")
    write_table(source / "labels.csv", ROWS)
    run(source, tmp_path / "out")
    report = json.loads((tmp_path / "out/.medloop-import/report.json").read_text())
    assert (report["source"], report["evidence"]) == (
        *("table", "contains the table labels.csv with columns path and label"),
    )


def test_names_of_numbered_classes(tmp_path: Path) -> None:
    """--labels gives them, by number; classes with names need none."""
    source = images(tmp_path / "src")
    rows = [(row[0], str(seed % 2)) for seed, row in enumerate(ROWS)]
    write_table(source / "labels.csv", rows, ("image", "class"))
    report = run(source, tmp_path / "out", replace(OPTIONS, labels=("normal", "cyst")))
    assert {case.name.split("/")[0] for case in report.cases} == {"normal", "cyst"}
    assert "cyst/1.png" in [case.name for case in report.cases]
    with pytest.raises(SettingError, match=r"--labels: names classes by number, and the source has 1; omit it"):
        run(source, tmp_path / "out", replace(OPTIONS, labels=("normal",)))


def test_equal_names_in_many_folders(tmp_path: Path) -> None:
    """Each image is named by its path, in any order of rows."""
    rows = [(f"p{number}/img.png", "ab"[number % 2], f"p{number}") for number in range(6)]
    for seed, row in enumerate(rows):
        picture(tmp_path / "src" / row[0], seed)
    write_table(tmp_path / "src/labels.csv", rows, ("path", "label", "patient"))
    report = run(tmp_path / "src", tmp_path / "out")
    assert [case.name for case in report.cases] == [
        *(f"a/p{number}_img.png" for number in (0, 2, 4)),
        *(f"b/p{number}_img.png" for number in (1, 3, 5)),
    ]
    write_table(tmp_path / "src/labels.csv", rows[::-1], ("path", "label", "patient"))
    assert not any(case.is_new for case in run(tmp_path / "src", tmp_path / "out").cases)


def test_attributes_need_patients(tmp_path: Path) -> None:
    """A table without patients has none."""
    source = images(tmp_path / "src")
    write_table(source / "labels.csv", [(row[0], row[1], row[4]) for row in ROWS], ("path", "label", "sex"))
    with pytest.raises(SettingError, match=r"labels.csv has no column patient, which attributes belong to; add it"):
        run(source, tmp_path / "out", replace(OPTIONS, attributes=("sex",)))


def test_classes_of_one_folder_are_refused(tmp_path: Path) -> None:
    """Two classes never become one."""
    source = images(tmp_path / "src")
    rows = [(row[0], ("a/b", "a-b")[seed % 2]) for seed, row in enumerate(ROWS)]
    write_table(source / "labels.csv", rows, ("path", "label"))
    with pytest.raises(DataError, match="classes 'a/b' and 'a-b' would share the folder a-b; rename one"):
        run(source, tmp_path / "out")
