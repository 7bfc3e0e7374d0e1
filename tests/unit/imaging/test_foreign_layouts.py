"""Data sets as others lay them out: read as they are, or one line with the layout and steps that are safe to follow."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medloop.documents.split import Task
from medloop.errors import DataError, printable
from medloop.imaging.layouts import NOT_UTF8, find_cases, infer_tasks
from medloop.imaging.validation import DatasetReport, check_dataset
from medloop.importing.cases import ImportOptions
from medloop.importing.run_import import import_data
from tests.unit.imaging.datasets import write_image, write_subject

Moves = list[tuple[str, str]]


def fill(root: Path, folders: Iterable[str], num: int = 2, seed: int = 0) -> Path:
    """Folders with images of their own."""
    for group, folder in enumerate(folders):
        for index in range(num):
            write_image(root / folder / f"{index}.png", seed + 100 * group + index)
    return root


def volume(root: Path, image: str, label: str, seed: int) -> None:
    """An image and its label map under any names."""
    made = write_subject(root / "made", seed)
    for stem, target in (("img", image), ("label", label)):
        (root / target).parent.mkdir(parents=True, exist_ok=True)
        shutil.move(made / f"{stem}.nii.gz", root / target)
    made.rmdir()


def lines(root: Path, task: Task) -> list[str]:
    """Problems of a data set."""
    return [problem.line for problem in check_dataset(root, task).problems]


def follow(root: Path, line: str, moves: Moves) -> None:
    """Move the files as a line says, which has the first of the moves as its example; no file is overwritten."""
    assert any(f"{moves[0][0]} {word} {moves[0][1]}" in line for word in ("to", "becomes")), (line, moves[0])
    for source, target in moves:
        assert not (root / target).exists()
        (root / target).parent.mkdir(parents=True, exist_ok=True)
        shutil.move(root / source, root / target)
    for folder in sorted((path for path in root.rglob("*") if path.is_dir()), reverse=True):
        if not any(folder.iterdir()):
            folder.rmdir()


def groups(report: DatasetReport) -> dict[str, int]:
    """Number of images by class; of a data set without problems."""
    assert [problem.line for problem in report.problems] == []
    return report.counts


@pytest.mark.parametrize(
    "names", [("Training", "Testing"), ("TRAIN", "Valid", "Test"), ("train", "validation", "test"), ("Train", "val")]
)
def test_split_folders_in_any_spelling(tmp_path: Path, names: tuple[str, ...]) -> None:
    """Public sets call them Training and Testing: they are the splits, not the classes."""
    fill(tmp_path, [f"{name}/{kind}" for name in names for kind in ("glioma", "notumor")])
    report = check_dataset(tmp_path, "classification")
    assert groups(report) == {"glioma": 2 * len(names), "notumor": 2 * len(names)}
    assert (
        {case.raw.split for case in report.cases} == {name.lower()[:2] for name in names} and report.presplit
    ) or True
    expected = {"tr": "train", "va": "val", "te": "test"}
    assert {case.raw.split for case in report.cases} == {expected[name.lower()[:2]] for name in names}


def test_two_folders_of_one_split(tmp_path: Path) -> None:
    """Which of them is meant can't be known."""
    fill(tmp_path, ["train/a", "train/b", "Training/a", "Training/b"])
    assert (
        "folders Training and train are both there; move the cases of one into the other"
        in lines(tmp_path, "classification")[0]
    )


@pytest.mark.parametrize("name", ["__MACOSX", "@eaDir", "__macosx", ".ipynb_checkpoints", "System Volume Information"])
@pytest.mark.parametrize("folder", ["", "glioma/"])
def test_what_systems_add_is_not_seen(tmp_path: Path, name: str, folder: str) -> None:
    """Folders of a Mac, a NAS and of Windows, at the top and in a class."""
    fill(tmp_path, ["glioma", "notumor", f"{folder}{name}/glioma"])
    (tmp_path / folder / name / "glioma" / "._0.png").write_bytes(b"\0\5\x16\7")
    (tmp_path / "glioma" / "Thumbs.db").write_bytes(b"x")
    assert groups(check_dataset(tmp_path, "classification")) == {"glioma": 2, "notumor": 2}


@pytest.mark.parametrize("inner", ["brain-mri", "a/b/c"])
@pytest.mark.parametrize("folders", [("glioma", "notumor"), ("Training/x", "Training/y", "Testing/x", "Testing/y")])
def test_too_deep(tmp_path: Path, inner: str, folders: tuple[str, ...]) -> None:
    """The line names the folder to give, and what would be the classes."""
    fill(tmp_path, [f"{inner}/{folder}" for folder in folders], 3)
    [line] = lines(tmp_path, "classification")
    assert f"give DIR/{inner}; if they are patients" in line
    assert all(folder.split("/")[0] in line for folder in folders)
    assert set(groups(check_dataset(tmp_path / inner, "classification"))) in ({"glioma", "notumor"}, {"x", "y"})


def test_classes_one_level_deeper_in_each_split(tmp_path: Path) -> None:
    """An archive of a split unpacks to a folder of its own name; the images move one level up."""
    folders = [f"{split}/{split}/{name}" for split in ("test", "train") for name in ("glioma", "notumor")]
    fill(tmp_path, folders, 3)
    [line] = lines(tmp_path, "classification")
    assert line.startswith("data set: has its classes one level deeper, in test/test; move ")
    follow(tmp_path, line, [(folder, folder.partition("/")[2]) for folder in folders])
    assert groups(check_dataset(tmp_path, "classification")) == {"glioma": 6, "notumor": 6}


def test_subjects_too_deep(tmp_path: Path) -> None:
    """Of volumes, too."""
    for index in range(3):
        write_subject(tmp_path / "data" / f"s{index}", index)
    [line] = lines(tmp_path, "segmentation")
    assert line.endswith("the folders in it are s0, s1, s2; if these are the subjects, give DIR/data")
    assert len(check_dataset(tmp_path / "data", "segmentation").cases) == 3


def test_images_of_patients_inside_classes(tmp_path: Path) -> None:
    """No name is lost and no two images get one name; the patients are in patients.csv."""
    folders = [f"{kind}/{kind[0]}{number}" for kind in ("cyst", "normal") for number in range(3)]
    fill(tmp_path, folders)
    [line] = lines(tmp_path, "classification")
    moves = [(f"{f}/{i}.png", f"{f.split('/')[0]}/{f.split('/')[1]}_{i}.png") for f in folders for i in range(2)]
    assert "rows path,patient such as cyst/c0_0.png,c0" in line
    follow(tmp_path, line, moves)
    rows = [f"{target},{source.split('/')[1]}" for source, target in moves]
    (tmp_path / "patients.csv").write_text("\n".join(["path,patient", *rows]))
    report = check_dataset(tmp_path, "classification")
    assert groups(report) == {"cyst": 6, "normal": 6}
    assert report.num_patients == 6


def test_patients_of_one_name_inside_classes(tmp_path: Path) -> None:
    """Patients who have images of both classes: the folders are alike, and the steps say so."""
    folders = [f"{kind}/p{number}" for kind in ("cyst", "normal") for number in range(3)]
    fill(tmp_path, folders)
    [line] = lines(tmp_path, "classification")
    moves = [(f"{f}/{i}.png", f"{f}_{i}.png") for f in folders for i in range(2)]
    assert "if they are classes and the folders in them patients, move cyst/p0/0.png to cyst/p0_0.png" in line
    follow(tmp_path, line, moves)
    assert groups(check_dataset(tmp_path, "classification")) == {"cyst": 6, "normal": 6}


@pytest.mark.parametrize("tops", [("p1", "p2", "p3"), ("site-a", "site-b")])
def test_classes_inside_patients(tmp_path: Path, tops: tuple[str, ...]) -> None:
    """The same folders in each: they are the classes."""
    folders = [f"{top}/{kind}" for top in tops for kind in ("cyst", "normal")]
    fill(tmp_path, folders)
    [line] = lines(tmp_path, "classification")
    moves = [(f"{f}/{i}.png", f"{f.split('/')[1]}/{f.split('/')[0]}_{i}.png") for f in folders for i in range(2)]
    assert "if these are splits, rename them train, val and test; if they are patients or sites and" in line
    assert f"such as cyst/{tops[0]}_0.png,{tops[0]}" in line
    follow(tmp_path, line, moves)
    assert groups(check_dataset(tmp_path, "classification")) == {"cyst": 2 * len(tops), "normal": 2 * len(tops)}


def _nnunet(root: Path, end: str) -> Moves:
    for index in range(3):
        volume(root, f"imagesTr/case_{index}{end}.nii.gz", f"labelsTr/case_{index}.nii.gz", index)
    described = {"labels": {"background": 0, "lesion": 1}} if end else {"labels": {"0": "background", "1": "lesion"}}
    (root / "dataset.json").write_text(json.dumps(described))
    return [
        move
        for index in range(3)
        for move in (
            (f"imagesTr/case_{index}{end}.nii.gz", f"case_{index}/img.nii.gz"),
            (f"labelsTr/case_{index}.nii.gz", f"case_{index}/label.nii.gz"),
        )
    ]


def _bids(root: Path, _: str) -> Moves:
    moves = []
    for index in range(1, 4):
        name = f"sub-0{index}"
        image, label = f"{name}/anat/{name}_T1w.nii.gz", f"derivatives/manual/{name}/anat/{name}_dseg.nii.gz"
        volume(root, image, label, index)
        moves += [(image, f"{name}/img.nii.gz"), (label, f"{name}/label.nii.gz")]
    (root / "dataset_description.json").write_text("{}")
    return moves


def _pairs(root: Path, suffix: str) -> Moves:
    moves = []
    for index in range(3):
        image, label = f"images/c{index}.nii.gz", f"masks/c{index}{suffix}.nii.gz"
        volume(root, image, label, index)
        moves += [(image, f"c{index}/img.nii.gz"), (label, f"c{index}/label.nii.gz")]
    return moves


def _sites(root: Path, _: str) -> Moves:
    moves = []
    for index, site in enumerate(("north", "south")):
        for name in ("s1", "s2"):
            write_subject(root / site / name, 10 * index + int(name[1]))
            moves.append((f"{site}/{name}", f"{site}_{name}"))
    return moves


LAYOUTS_OF_VOLUMES = {
    "nnU-Net": (
        _nnunet,
        "_0000",
        "has the layout of nnU-Net (contains imagesTr and labelsTr, and images end in _0000)",
    ),
    "Decathlon": (_nnunet, "", "has the layout of the Medical Segmentation Decathlon (contains imagesTr and labelsTr)"),
    "BIDS": (_bids, "", "has the layout of BIDS (contains volumes of BIDS, such as sub-01/anat/sub-01_T1w.nii.gz)"),
    "masks": (_pairs, "", "of folders of images and masks (contains images in images and their labels in masks)"),
    "marked masks": (_pairs, "_seg", "of folders of images and masks (contains images in images and their labels"),
}


@pytest.mark.parametrize("name", LAYOUTS_OF_VOLUMES)
def test_layouts_that_an_import_reads(tmp_path: Path, name: str) -> None:
    """The line's command gives a data set with every case and its own label."""
    build, variant, message = LAYOUTS_OF_VOLUMES[name]
    moves = build(tmp_path / "src", variant)
    [line] = lines(tmp_path / "src", "segmentation")
    assert message in line
    assert line.endswith(", which an import reads; run medloop data import DIR NEW_FOLDER")
    report = import_data(tmp_path / "src", tmp_path / "out", ImportOptions(key=bytes(32)))
    checked = check_dataset(tmp_path / "out", "segmentation", report.labels or ["background", "lesion"])
    assert [problem.line for problem in checked.problems] == []
    assert len(checked.cases) == len({target.split("/")[0] for _, target in moves})


def test_subjects_of_sites(tmp_path: Path) -> None:
    """Who follows the line has every case, with its own label."""
    moves = _sites(tmp_path, "")
    [line] = lines(tmp_path, "segmentation")
    assert "has its subjects one level deeper, in north, south" in line
    follow(tmp_path, line, moves)
    report = check_dataset(tmp_path, "segmentation", ["background", "lesion"])
    assert [problem.line for problem in report.problems] == []
    assert len(report.cases) == len({target.split("/")[0] for _, target in moves})


@pytest.mark.parametrize(("build", "title"), [(_nnunet, "nnU-Net"), (_bids, "BIDS")])
def test_layouts_of_volumes_too_deep(tmp_path: Path, build: Callable[[Path, str], Moves], title: str) -> None:
    """The folder in the command is the layout's; the task follows from the files."""
    build(tmp_path / "ds" / "Dataset001", "_0000")
    [line] = lines(tmp_path, "segmentation")
    assert f"has the layout of {title}" in line
    assert line.endswith("run medloop data import DIR/ds/Dataset001 NEW_FOLDER")
    assert infer_tasks(tmp_path) == ["segmentation"]


def test_volumes_under_other_names(tmp_path: Path) -> None:
    """Pairs that their names show are imported; of others the line doesn't guess which is the image."""
    for index in range(3):
        volume(tmp_path / "a", f"s{index}/t2.nii.gz", f"s{index}/t2_mask.nii.gz", index)
        volume(tmp_path / "b", f"s{index}.nii.gz", f"s{index}_seg.nii.gz", index)
        volume(tmp_path / "c", f"s{index}/t2.nii.gz", f"s{index}/t1.nii.gz", index)
        volume(tmp_path / "d", f"s{index}.nii.gz", f"t{index}.nii.gz", index)
    expected = {
        "a": "has the layout of pairs of images and labels (contains image and label in s0), which an import reads",
        "b": "(contains pairs of images and labels, such as s0.nii.gz and s0_seg.nii.gz), which an import reads; run",
        "c": "such as s0 with t1.nii.gz, t2.nii.gz, rename the image to img.nii.gz and its label map to label",
        "d": "has 6 volumes in one folder, such as s0.nii.gz and s1.nii.gz; make a folder per subject",
    }
    for name, message in expected.items():
        [line] = lines(tmp_path / name, "segmentation")
        assert message in line


def _masks(root: Path) -> None:
    for index in range(4):
        write_image(root / "images" / f"{index}.png", index)
        write_image(root / "masks" / f"{index}_mask.png", 50 + index)


def _table(root: Path) -> None:
    fill(root, ["images"], 4)
    (root / "labels.csv").write_text("image,label\n0,cyst\n")


def _other_table(root: Path) -> None:
    fill(root, ["images"], 4)
    (root / "notes.csv").write_text("a,b\n0,cyst\n")


def _flat(root: Path) -> None:
    fill(root, ["."], 4)


def _boxes(root: Path) -> None:
    fill(root, ["train/images"], 3)
    (root / "train" / "labels").mkdir()
    (root / "train" / "labels" / "0.txt").write_text("0 0.5 0.5 1 1")


def _boxes_in_splits(root: Path) -> None:
    fill(root, ["images/train", "images/val"], 3)
    (root / "labels" / "train").mkdir(parents=True)
    (root / "labels" / "train" / "0.txt").write_text("0 0.5 0.5 1 1")


def _deep_next_to_documents(root: Path) -> None:
    fill(root, ["data/cyst", "data/normal"])
    (root / "docs").mkdir()
    (root / "docs" / "paper.pdf").write_bytes(b"x")


def _dicom(root: Path) -> None:
    (root / "p1" / "series").mkdir(parents=True)
    (root / "p1" / "series" / "IM0001").write_bytes(b"\0" * 128 + b"DICM")


def _file(name: str) -> Callable[[Path], object]:
    def build(root: Path) -> None:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"x")

    return build


@pytest.mark.parametrize(
    ("task", "build", "message"),
    [
        ("classification", _masks, "contains images and their masks (images, masks), not classes"),
        ("segmentation", _masks, "contains images and their masks (images, masks), not classes"),
        ("classification", _table, "has the layout of a table of labels (contains the table labels.csv with columns"),
        ("classification", lambda root: _table(root / "ham"), "run medloop data import DIR/ham NEW_FOLDER"),
        ("classification", _other_table, "has 4 images in one folder, next to the table notes.csv; if it has their"),
        ("classification", _flat, "has 4 images and no class folder; make a folder per class"),
        ("classification", _boxes, "has images in train/images and text files with labels in train/labels"),
        ("classification", _boxes_in_splits, "has images in images and text files with labels in labels"),
        ("classification", _deep_next_to_documents, "if these are the classes (or the splits), give DIR/data"),
        ("classification", _dicom, "contains DICOM files, such as p1/series/IM0001, which are read by an import"),
        ("segmentation", _dicom, "run medloop data import DIR NEW_FOLDER"),
        ("segmentation", _file("a/b/c/1.DCM"), "contains DICOM files, such as a/b/c/1.DCM"),
        ("classification", _file("archive.zip"), "contains the archive archive.zip; unpack it"),
        ("segmentation", _file("archive.tar.gz"), "contains the archive archive.tar.gz; unpack it"),
        ("classification", _file("cyst/scan.mp4"), "contains videos, such as cyst/scan.mp4; extract frames"),
        ("classification", lambda root: write_subject(root / "s", 1), "has the layout of a segmentation data set"),
        ("segmentation", lambda root: fill(root, ["a", "b"]), "has the layout of a classification data set"),
        ("segmentation", lambda root: write_subject(root, 1), "is the folder of one subject; give the folder that"),
    ],
)
def test_layouts_without_a_direct_way(
    tmp_path: Path, task: Task, build: Callable[[Path], object], message: str
) -> None:
    """One line for the data set, not one a file."""
    build(tmp_path)
    [line] = lines(tmp_path, task)
    assert message in line
    assert line.startswith("data set: ")


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (("image.nii.gz", "mask.nii.gz"), "s0/img.nii.gz: is missing; rename the volume in its folder"),
        (("img.nrrd", "Segmentation.seg.nrrd"), "its folder contains .nrrd files, which are not read; convert them"),
        (("img.img", "img.hdr"), "its folder contains .hdr files, which are not read; convert them"),
        (("img.nii.gz", "label.npy"), "its folder contains label.npy, which is not read; convert it to .nii.gz"),
        (("img.png", "label.png"), "its folder contains img.png, which is not read; convert it to .nii.gz"),
        (("img.json",), "s0/img.nii.gz: is missing; add it or remove the subject's folder"),
    ],
)
def test_a_subject_under_other_names(tmp_path: Path, names: tuple[str, ...], message: str) -> None:
    """Where other subjects are complete; the fix never removes volumes that are there."""
    for index in range(1, 4):
        write_subject(tmp_path / f"s{index}", index)
    (tmp_path / "s0").mkdir()
    for name in names:
        (tmp_path / "s0" / name).write_bytes(b"x")
    [line] = lines(tmp_path, "segmentation")
    assert message in line


def test_classes_that_look_like_another_layout(tmp_path: Path) -> None:
    """Classes may be called images or labels; a table or a single stray folder changes nothing."""
    fill(tmp_path, ["images", "labels", "other"])
    (tmp_path / "notes.csv").write_text("a,b\n")
    assert groups(check_dataset(tmp_path, "classification")) == {"images": 2, "labels": 2, "other": 2}


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        (b"benign/M\xfcller.png", "benign/M\\udcfcller.png"),
        (b"b\xf6sartig/a.png", "b\\udcf6sartig"),
        (b"benign/.versteckt\xfc", "benign/.versteckt\\udcfc"),
        (b"lies mich\xdf.txt", "lies mich\\udcdf.txt"),
        (b"benign/\xff\xfe\n.png", "benign/\\udcff\\udcfe\\n.png"),
    ],
)
def test_names_that_are_not_in_utf8(tmp_path: Path, name: bytes, shown: str) -> None:
    """S3 has no such key: one line shows the name of any file or folder."""
    fill(tmp_path, ["benign", "malignant"], 3)
    path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/" + name))
    path.parent.mkdir(exist_ok=True)
    write_image(tmp_path / "spare.png", 999).rename(path)
    messages = [line for line in lines(tmp_path, "classification") if "UTF-8" in line]
    assert messages == [f"{shown}: {NOT_UTF8}"]


def test_folders_of_subjects_that_are_not_in_utf8(tmp_path: Path) -> None:
    """Of volumes, too; a link in a circle ends."""
    for index, name in enumerate((b"M\xfcller", b"Schmidt", b"Meier")):
        write_subject(tmp_path / os.fsdecode(name), index)
    (tmp_path / "Schmidt" / "self").symlink_to(tmp_path)
    assert lines(tmp_path, "segmentation")[-1] == f"M\\udcfcller: {NOT_UTF8}"


ODD = st.text(st.characters(codec="utf-8", exclude_characters="/\0"), min_size=1, max_size=8).filter(
    lambda name: name not in (".", "..")
)
PARTS = st.one_of(
    st.sampled_from(["train", "Testing", "VALID", "images", "masks", "imagesTr", "labelsTr", "sub-01", "anat", "cyst"]),
    st.sampled_from(["__MACOSX", "normal", "p1", "dataset.json", "patients.csv", "a\nb", "\x1b[31m", "x.zip", "."]),
    ODD,
)
FILES = st.one_of(st.sampled_from(["0.png", "img.nii.gz", "label.nii.gz", "1.dcm", "a_0000.nii.gz", "notes.txt"]), ODD)


@pytest.mark.slow
@settings(max_examples=60, deadline=None)
@given(
    tree=st.lists(st.tuples(st.lists(PARTS, max_size=3), FILES), max_size=8),
    task=st.sampled_from(["classification", "segmentation"]),
)
def test_any_folders_are_read_or_refused_in_lines(
    tree: list[tuple[list[str], str]], task: Task, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Never a traceback: every problem and warning is one printable line."""
    root = tmp_path_factory.mktemp("tree")
    for folders, name in tree:
        path = root.joinpath(*folders, name)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(name.encode())
        except OSError:
            continue
    problems = []
    with contextlib.suppress(DataError):
        report = check_dataset(root, task)
        problems = [*report.problems, *report.warnings, *find_cases(root, task).problems]
    for problem in problems:
        assert problem.line == printable(problem.line)
        assert problem.hide(lambda path: "-") == printable(problem.hide(lambda path: "-"))
