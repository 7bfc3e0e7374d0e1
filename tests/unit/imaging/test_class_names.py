"""Class folders: one class if their names look the same, a warning if they look alike."""

from __future__ import annotations

from pathlib import Path

import pytest

from medloop.imaging.validation import DatasetReport, check_dataset
from tests.unit.imaging.datasets import write_image, write_patients, write_subject

COMPOSED, DECOMPOSED = "Zyste \u00fc", "Zyste u\u0308"


def check(root: Path, *folders: str) -> DatasetReport:
    """Check a data set of four images in each folder."""
    for number, folder in enumerate(folders):
        for index in range(4):
            write_image(root / folder / f"{number} {index}.png", 10 * number + index)
    return check_dataset(root, "classification")


@pytest.mark.parametrize("other", [DECOMPOSED, f"{COMPOSED} ", "Zyste\u00a0\u00fc", "Zyste \u00fc\u200b"])
def test_folders_that_look_the_same_are_one_class(tmp_path: Path, other: str) -> None:
    """The warning writes out the signs: a reader can't distinguish the names."""
    report = check(tmp_path, COMPOSED, other, "normal")

    assert report.problems == []
    assert report.counts == {COMPOSED: 8, "normal": 4}
    [warning] = [warning for warning in report.warnings if "one class" in warning.message]
    assert repr(COMPOSED).isprintable()
    assert ascii(COMPOSED) in warning.line
    assert ascii(other) in warning.line
    assert "one name" in warning.hide(lambda path: "p1")
    assert "Zyste" not in warning.hide(lambda path: "p1")


def test_a_ready_made_split_with_one_class_in_two_forms(tmp_path: Path) -> None:
    """Train came from another computer than test: the class is in both."""
    report = check(tmp_path, f"train/{COMPOSED}", "train/normal", f"test/{DECOMPOSED}", "test/normal")
    assert report.problems == []
    assert report.classes == [COMPOSED, "normal"]


def test_patients_of_a_class_in_two_forms(tmp_path: Path) -> None:
    """Rows name either folder by its own form or the other."""
    write_patients(tmp_path, [f"{COMPOSED}/0 0.png,a", f"{DECOMPOSED},b", "normal,c"])
    report = check(tmp_path, DECOMPOSED, "normal", "other class")
    assert report.patients[f"{DECOMPOSED}/0 0.png"] == "a"
    assert report.patients[f"{DECOMPOSED}/0 1.png"] == "b"


@pytest.mark.parametrize(("name", "alike"), [("Benign", "benign"), ("grade 1", "grade-01"), ("m\u00b2", "m2")])
def test_alike_classes_are_reported(tmp_path: Path, name: str, alike: str) -> None:
    """They stay two classes; the warning has both names."""
    report = check(tmp_path, name, alike, "normal")
    assert len(report.classes) == 3
    [warning] = [warning for warning in report.warnings if "may be one" in warning.message]
    first, second = sorted((name, alike))
    assert warning.line == f"data set: classes {first!r} and {second!r} may be one; give one class one name"


def test_alike_labels_are_reported(tmp_path: Path) -> None:
    """Names of a segmentation's labels, too."""
    from tests.unit.imaging.datasets import write_subject

    for index in range(4):
        write_subject(tmp_path / f"s{index}", index, (0, 1, 2))
    report = check_dataset(tmp_path, "segmentation", ["background", "Tumour", "tumour"])
    assert any("classes 'Tumour' and 'tumour' may be one" in warning.line for warning in report.warnings)
    plain = check_dataset(tmp_path, "segmentation")
    assert not any("may be one" in warning.line for warning in plain.warnings)


def test_a_class_that_train_lacks_in_this_case_is_not_to_be_removed(tmp_path: Path) -> None:
    """Benign in train, benign in test: the advice is one name, never to remove the images."""
    report = check(tmp_path, "train/Benign", "train/normal", "test/benign", "test/normal")
    [problem] = report.problems
    assert problem.line.endswith(
        "class benign has no image in folder train, which has class Benign; give one class one name"
    )


@pytest.mark.parametrize(
    ("names", "warned"),
    [
        (("patient01", "patient02", "patient03"), True),
        (("Case 1", "Case 2", "Case 3", "Case 10"), True),
        (("sub-01", "sub-02", "sub-03"), True),
        (("grade1", "grade2", "grade3"), False),
        (("case1", "control1", "other"), False),
        (("subject1", "subject2"), False),
    ],
)
def test_classes_named_as_patients_are(tmp_path: Path, names: tuple[str, ...], warned: bool) -> None:
    """A folder per patient is read as a class per patient; a log doesn't show the names."""
    for group, name in enumerate(names):
        for index in range(3):
            write_image(tmp_path / name / f"{index}.png", 10 * group + index)
    warnings = [line for line in check_dataset(tmp_path, "classification").warnings if "as of patients" in line.message]
    assert len(warnings) == warned
    for warning in warnings:
        assert names[0] in warning.line
        assert names[0] not in warning.hide(lambda name: "x")


@pytest.mark.parametrize(
    "names", [("cyst_train", "cyst_test"), ("train-cyst", "test-cyst"), ("Training cyst", "Validation cyst")]
)
def test_classes_named_as_splits_are_reported(tmp_path: Path, names: tuple[str, str]) -> None:
    """They would be two classes that nothing distinguishes."""
    report = check(tmp_path, *names, "normal")
    assert report.problems == []
    [warning] = [warning for warning in report.warnings if "several splits" in warning.message]
    first, second = sorted(names)
    assert f"classes {first!r} and {second!r} may be one class in several splits" in warning.line
    assert "move their images to train/cyst, val/cyst and test/cyst" in warning.line


@pytest.mark.parametrize("name", ["HAM10000_images_part_", "fold", "images_00", "Batch "])
def test_classes_named_as_parts_are_reported(tmp_path: Path, name: str) -> None:
    """A download in numbered folders has no classes in their names."""
    report = check(tmp_path, f"{name}1", f"{name}2")
    assert report.problems == []
    [warning] = [warning for warning in report.warnings if "parts" in warning.message]
    assert f"has 2 classes with names as of parts of one download ({name}1, {name}2); if they are parts" in warning.line
    assert f"{name}1" not in warning.hide(lambda path: "x")


@pytest.mark.parametrize(
    "names",
    [
        ("grade 1", "grade 2"),
        ("test positive", "test negative"),
        ("BIRADS 3", "BIRADS 4"),
        ("train", "bus"),
        ("valve a", "a"),
    ],
)
def test_classes_with_numbers_and_tests_are_no_parts(tmp_path: Path, names: tuple[str, str]) -> None:
    """No doubt is reported where there is none."""
    for number, name in enumerate(names):
        for index in range(4):
            write_image(tmp_path / "train" / name / f"{number} {index}.png", 10 * number + index)
    assert [w for w in check_dataset(tmp_path, "classification").warnings if "class" in w.message] == []


@pytest.mark.parametrize(
    ("labels", "is_reported"),
    [(["lesion", "background"], True), (["Lesion", "BG"], True), (["background", "a"], False)],
)
def test_a_background_that_is_not_first_is_reported(tmp_path: Path, labels: list[str], is_reported: bool) -> None:
    """Value 0 is the background, under any name: names in another order train the wrong structure."""
    for index in range(4):
        write_subject(tmp_path / f"s{index}", index)
    lines = [warning.line for warning in check_dataset(tmp_path, "segmentation", labels).warnings]
    text = f"data set: label value 1 is named {labels[1]!r}, and value 0 is the background; give the names by label"
    assert any(line.startswith(text) for line in lines) == is_reported
