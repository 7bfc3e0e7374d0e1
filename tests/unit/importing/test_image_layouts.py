"""Layouts of 2D images with classes: imported pixels, classes, splits and patients are those of the source."""

from __future__ import annotations

import csv
import io
import json
import os
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from medloop.documents.import_report import ImportReport
from medloop.errors import DataError, SettingError, TargetError
from medloop.imaging.validation import check_dataset
from medloop.importing.cases import ImportOptions
from medloop.importing.run_import import import_data
from tests.unit.importing.test_volume_layouts import made, read, save

OPTIONS = ImportOptions(key=b"k" * 32, attributes=("sex", "age_group", "scanner"))


def run(source: Path, target: Path, options: ImportOptions = OPTIONS) -> ImportReport:
    """Import a source."""
    return import_data(source, target, options)


def require_sound(target: Path, report: ImportReport) -> None:
    """`data check` has no problem."""
    checked = check_dataset(target, report.task, report.labels or None)
    assert [problem.line for problem in checked.problems] == []
    assert len(checked.cases) == len(report.cases)


def picture(path: Path, seed: int, *, colour: bool = False) -> np.ndarray[Any, Any]:
    """A picture of noise in the format of its suffix."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (9, 8, 3) if colour else (9, 8), dtype=np.uint8)
    image = Image.fromarray(pixels)
    image.save(path, lossless=True) if path.suffix == ".webp" else image.save(path)
    return pixels


def medmnist(*, colour: bool, number: int = 6) -> dict[str, np.ndarray[Any, Any]]:
    """Arrays as MedMNIST stores them."""
    rng = np.random.default_rng(3)
    arrays: dict[str, np.ndarray[Any, Any]] = {}
    for split in ("train", "val", "test"):
        arrays[f"{split}_images"] = rng.integers(0, 256, (number, 28, 28, 3) if colour else (number, 28, 28), np.uint8)
        arrays[f"{split}_labels"] = np.arange(number, dtype=np.uint8)[:, None] % 3
    return arrays


@pytest.mark.parametrize("colour", [False, True])
@pytest.mark.parametrize("labels", [None, ("a", "b", "c")])
def test_medmnist(tmp_path: Path, colour: bool, labels: tuple[str, ...] | None) -> None:
    """Each image of each split, in the folder of its class, bit by bit."""
    (tmp_path / "src").mkdir()
    arrays = medmnist(colour=colour)
    np.savez_compressed(tmp_path / "src/pathmnist.npz", **arrays)
    report = run(
        tmp_path / "src" / ("pathmnist.npz" if labels else ""), tmp_path / "out", replace(OPTIONS, labels=labels)
    )
    assert report.source == "medmnist"
    assert len(report.cases) == 18
    for split in ("train", "val", "test"):
        for index, (pixels, label) in enumerate(zip(arrays[f"{split}_images"], arrays[f"{split}_labels"], strict=True)):
            name = labels[label[0]] if labels else label[0]
            np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / f"out/{split}/{name}/{index}.png")), pixels)
    require_sound(tmp_path / "out", report)
    assert not any(
        case.is_new
        for case in run(
            tmp_path / "src/pathmnist.npz", tmp_path / "out", OPTIONS if not labels else replace(OPTIONS, labels=labels)
        ).cases
    )


class Bomb:
    """An object that must never be unpickled."""

    def __reduce__(self) -> tuple[Callable[[str], int], tuple[str]]:
        """Leave a trace."""
        return (os.system, ("touch unpickled",))


def _zeros_of(shape: tuple[int, ...]) -> bytes:
    file = io.BytesIO()
    header = {"descr": "|u1", "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(file, header)
    return file.getvalue() + bytes(1000)


@pytest.mark.parametrize(
    ("array", "value", "message"),
    [
        ("train_images", np.zeros((6, 28, 28, 28), np.uint8), "train_images: has shape (6, 28, 28, 28): 3D volumes"),
        ("train_images", np.zeros((6, 28, 28), np.float32), "train_images: contains float32; save it as uint8"),
        ("train_labels", np.zeros((6, 14), np.uint8), "train_labels: has shape (6, 14) of uint8: several labels"),
        ("val_labels", np.zeros((5, 1), np.uint8), "val_labels: has 5 labels for 6 images; save the file again"),
        ("test_labels", np.zeros((6, 1), np.float64), "test_labels: has shape (6, 1) of float64"),
        ("test_images", np.array([Bomb()] * 6, object), "array test_images contains no plain numbers"),
        ("test_labels", np.array(["a"] * 6), "array test_labels contains no plain numbers"),
        ("val_images", _zeros_of((60000, 9000, 9000)), "array val_images expands to more than 200 times its size"),
        ("val_images", _zeros_of((600, 90, 90)), "array val_images is truncated or damaged"),
        ("val_images", b"\x93NUMPY\x01\x00\xff\xff" + b"(" * 70000, "array val_images is truncated or damaged"),
        ("val_images", b"", "array val_images is truncated or damaged"),
    ],
)
def test_hostile_arrays_are_refused_by_name(
    tmp_path: Path, array: str, value: np.ndarray[Any, Any] | bytes, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is unpickled, and nothing allocated that the file doesn't contain."""
    monkeypatch.chdir(tmp_path)
    arrays = {**medmnist(colour=False), array: value}
    with zipfile.ZipFile(tmp_path / "x.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in arrays.items():
            file = io.BytesIO()
            if isinstance(content, np.ndarray):
                np.save(file, content, allow_pickle=True)
            archive.writestr(f"{name}.npy", file.getvalue() if isinstance(content, np.ndarray) else content)
    with pytest.raises(DataError) as caught:
        run(tmp_path / "x.npz", tmp_path / "out")
    assert message in str(caught.value)
    assert str(caught.value).startswith("x.npz")
    assert not (tmp_path / "unpickled").exists()


def test_no_npz_and_several(tmp_path: Path) -> None:
    """A line names the arrays, or the files."""
    (tmp_path / "src").mkdir()
    (tmp_path / "bad.npz").write_bytes(b"PK\3\4 no zip")
    with pytest.raises(DataError, match="array train_images is truncated or damaged"):
        run(tmp_path / "bad.npz", tmp_path / "out")
    for name in ("a", "b"):
        np.savez(tmp_path / "src" / name, **medmnist(colour=False))
    with pytest.raises(DataError, match=r"has 2 MedMNIST files \(a.npz, b.npz\); give one of them"):
        run(tmp_path / "src", tmp_path / "out2")


def test_class_folders_in_all_formats(tmp_path: Path) -> None:
    """What the product reads is linked, the rest becomes PNG; splits and patients stay; names stay apart."""
    rows = ["path,patient,sex"]
    ends = (".png", ".gif", ".tga", ".pgm", ".bmp", ".tif", ".webp", ".jp2")
    pixels = {}
    for split in ("train", "test"):
        for group in ("Test", "cyst"):
            for number, end in enumerate(ends):
                path = f"{split}/{group}/x{end}"
                pixels[path] = picture(tmp_path / "src" / path, len(pixels))
                rows.append(f"{path},P{number}{split},F")
    (tmp_path / "src/patients.csv").write_text("\n".join(rows))
    (tmp_path / "src/train/cyst/readme.doc").write_text("x")
    (tmp_path / "src/train/cyst/deeper").mkdir()

    report = run(tmp_path / "src", tmp_path / "out")

    assert report.source == "classes"
    assert len(report.cases) == len(pixels)
    assert os.path.samefile(tmp_path / "out/train/cyst/x.png", tmp_path / "src/train/cyst/x.png")
    files = {
        path.name: np.asarray(Image.open(path).convert("L")) for path in (tmp_path / "out/test/case-Test").iterdir()
    }
    assert sorted(files) == ["x-2.png", "x-3.png", "x-4.png", "x-5.png", "x.bmp", "x.png", "x.tif", "x.webp"]
    contents = {value.tobytes() for value in files.values()}
    expected = {
        value.tobytes()
        for path, value in pixels.items()
        if path.startswith("test/Test") and "jp2" not in path and "webp" not in path
    }
    assert expected <= contents
    assert report.num_patients == 16
    reasons = {omission.path: omission.reason for omission in report.left_out}
    assert set(reasons) == {"train/cyst/deeper", "train/cyst/readme.doc"}
    checked = check_dataset(tmp_path / "out", "classification")
    assert [problem.line for problem in checked.problems] == []


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("bad.png", b"\x89PNG\r\n\x1a\n", "is truncated or damaged"),
        ("bad.gif", b"GIF89a" + bytes(10), "damaged"),
        ("bad.pgm", b"P5 60000 60000 255\n", "pixels"),
        ("bad.tga", bytes(3), "damaged"),
        ("bad.jpg", b"", "is empty"),
    ],
)
def test_a_bad_picture_doesnt_stop_the_others(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    """One line with file and reason; a link out of the source is one, too."""
    for seed, path in enumerate(("a/1.png", "a/2.png", "b/1.png", "b/2.png")):
        picture(tmp_path / "src" / path, seed)
    (tmp_path / "src/a" / name).write_bytes(content)
    picture(tmp_path / "outside.png", 9)
    (tmp_path / "src/b/link.png").symlink_to(tmp_path / "outside.png")
    report = run(tmp_path / "src", tmp_path / "out")
    reasons = {omission.path: omission.reason for omission in report.left_out}
    assert set(reasons) == {f"a/{name}", "b/link.png"}
    assert message in reasons[f"a/{name}"]
    assert "is a link that leads out of the source" in reasons["b/link.png"]
    require_sound(tmp_path / "out", report)


ROWS = [
    ("imgs/0.png", "cyst", "P\u00a01", "train", "F", "34"),
    ("imgs/1.png", "cyst", "P 1", "train", "F", "34"),
    ("imgs/2.png", "normal", "P2", "train", "M", "91"),
    ("imgs/3.png", "normal", "P3", "train", "M", "55"),
    ("imgs/4.gif", "cyst", "P4", "Testing", "n/a", "x"),
    ("imgs/5.png", "normal", "P5", "test", "F", "10"),
]
HEADING = ("path", "label", "patient", "split", "sex", "age")


def write_table(path: Path, rows: list[tuple[str, ...]], heading: tuple[str, ...] = HEADING, sign: str = ",") -> None:
    """A table as its suffix says."""
    if path.suffix == ".parquet":
        pq.write_table(pa.table(dict(zip(heading, map(list, zip(*rows, strict=True)), strict=True))), path)
        return
    text = io.StringIO()
    csv.writer(text, delimiter=sign).writerows([heading, *rows])
    path.write_text(text.getvalue(), encoding="utf-8")


def images(root: Path) -> Path:
    """The images of ROWS."""
    for seed, row in enumerate(ROWS):
        picture(root / row[0], seed)
    return root


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


def test_pictures_and_masks_are_no_classes(tmp_path: Path) -> None:
    """Images and their masks of two folders would be learnt as two classes."""
    for seed in range(3):
        picture(tmp_path / f"src/images/{seed}.png", seed)
        picture(tmp_path / f"src/masks/{seed}_mask.png", 9 + seed)
    with pytest.raises(DataError, match=r"src: contains images and their masks \(images, masks\), not classes"):
        run(tmp_path / "src", tmp_path / "out")
