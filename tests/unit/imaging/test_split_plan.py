"""The plan of a split: what training, evaluation and the gate will miss is known before a job starts."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from medloop.documents.split import SPLITS, Split, Task
from medloop.documents.split_rule import Resampling, SplitRule
from medloop.imaging.split_plan import LaterSteps, SplitPlan, plan_split
from medloop.imaging.validation import check_dataset
from tests.unit.imaging.datasets import write_classes, write_image, write_patients, write_subject

LABELS = ["background", "lesion"]


def plan(
    root: Path,
    task: Task,
    labels: list[str] | None = None,
    rule: SplitRule | None = None,
    later: LaterSteps | None = None,
) -> SplitPlan:
    """The plan of a data set without problems of its own."""
    report = check_dataset(root, task, labels)
    assert report.problems == []
    return plan_split(report, rule or SplitRule(), report.patients, later=later)


def write_lesions(root: Path, num: int, num_with: int, seed: int = 0) -> None:
    """Subjects, the first of which have a lesion."""
    for index in range(num):
        write_subject(root / f"subject {index}", seed + index, (0, 1) if index < num_with else (0,))


def lines(split_plan: SplitPlan) -> tuple[list[str], list[str]]:
    """Problems, and warnings except those of the interval and of calibration, which small sets have."""
    small = ("gets no interval", "calibration needs", "thresholds need")
    warnings = [warning.line for warning in split_plan.warnings if not any(text in warning.line for text in small)]
    return [problem.line for problem in split_plan.problems], warnings


@pytest.mark.parametrize(("num", "num_with"), [(8, 4), (15, 5), (20, 3)])
def test_each_split_has_foreground(tmp_path: Path, num: int, num_with: int) -> None:
    """Three subjects with a lesion are enough; nothing is missing then."""
    write_lesions(tmp_path, num, num_with)
    split_plan = plan(tmp_path, "segmentation", LABELS)
    with_lesion = {f"subject {index}" for index in range(num_with)}
    assert {split for path, split in split_plan.split_of.items() if path in with_lesion} == set(SPLITS)
    assert lines(split_plan) == ([], [])


def test_foreground_in_two_patients_has_no_score(tmp_path: Path) -> None:
    """Training can run, evaluation has nothing to score: a warning with the numbers."""
    write_lesions(tmp_path, 8, 2)
    assert lines(plan(tmp_path, "segmentation", LABELS)) == (
        [],
        [
            "data set: test has no foreground (train 1, val 1, test 0; 8 patients in all), and a score needs "
            "foreground there: no version can pass the gate; add patients with it"
        ],
    )


def test_foreground_in_one_patient_cannot_be_trained(tmp_path: Path) -> None:
    """What training would refuse is refused before it."""
    write_lesions(tmp_path, 8, 1)
    problems, _ = lines(plan(tmp_path, "segmentation", LABELS))
    assert problems == [
        "data set: val has no foreground (train 1, val 0, test 0; 8 patients in all), and training needs foreground "
        "there; add patients with it"
    ]


def test_a_structure_that_val_and_test_lack(tmp_path: Path) -> None:
    """The score leaves the structure out: a warning."""
    write_lesions(tmp_path, 12, 9)
    write_subject(tmp_path / "other", 99, (0, 1, 2))
    problems, warnings = lines(plan(tmp_path, "segmentation", [*LABELS, "cyst"]))
    assert problems == []
    assert [line.split(":")[1] for line in warnings] == [
        f" {split} has no patient with structure cyst (train 1, val 0, test 0)" for split in ("val", "test")
    ]


def test_a_class_of_one_patient(tmp_path: Path) -> None:
    """Of two classes, validation would have one: refused. Of three, the rare one is learnt and not scored."""
    write_classes(tmp_path, 9, ("cyst",))
    write_image(tmp_path / "normal" / "a.png", 500)
    [problem], _ = lines(plan(tmp_path, "classification"))
    assert problem == (
        "data set: val has only class cyst, and not class normal (train 1, val 0, test 0), and training needs two "
        "classes there; add patients with it"
    )

    for index in range(9):
        write_image(tmp_path / "other" / f"{index}.png", 700 + index)
    problems, warnings = lines(plan(tmp_path, "classification"))
    assert problems == []
    assert len(warnings) == 2
    assert all("class normal (train 1, val 0, test 0)" in line for line in warnings)


def _fill(root: Path, classes: dict[Split, tuple[str, ...]]) -> None:
    for number, (split, names) in enumerate(classes.items()):
        for index, name in enumerate(names):
            write_image(root / split / name / "a.png", 10 * number + index)


def test_ready_made_splits_are_taken_and_judged(tmp_path: Path) -> None:
    """A val with one class is refused, a test with one class is warned about; nothing is moved."""
    _fill(tmp_path / "val", {"train": ("a", "b"), "val": ("a",), "test": ("a", "b")})
    [problem], _ = lines(plan(tmp_path / "val", "classification"))
    assert problem.startswith("data set: val has only class a, and not class b (train 1, val 0, test 1), and training")
    assert problem.endswith("; move a patient with it into val from a split that has several, or add patients")

    _fill(tmp_path / "test", {"train": ("a", "b"), "val": ("a", "b"), "test": ("b",)})
    split_plan = plan(tmp_path / "test", "classification")
    problems, [warning] = lines(split_plan)
    assert problems == []
    assert "test has only class b, and not class a (train 1, val 1, test 0)" in warning
    assert split_plan.split_of == {path: path.split("/")[0] for path in split_plan.split_of}


@pytest.mark.parametrize(
    ("values", "problem"),
    [
        ({"train": (0, 1), "val": (0,), "test": (0, 1)}, "val has no foreground (train 1, val 0, test 1"),
        ({"train": (0,), "val": (0, 1), "test": (0, 1)}, "train has no patient with structure lesion (train 0, val 1"),
    ],
)
def test_ready_made_splits_of_volumes(tmp_path: Path, values: dict[Split, tuple[int, ...]], problem: str) -> None:
    """Each split needs foreground of its own."""
    for number, (split, patients) in enumerate(values.items()):
        write_subject(tmp_path / split / "a", number, patients)
    assert problem in lines(plan(tmp_path, "segmentation", LABELS))[0][0]


def test_a_test_set_of_training_patients(tmp_path: Path) -> None:
    """Evaluation excludes patients that the model has seen: with none left the run would fail at its end."""
    _fill(tmp_path, {"train": ("a", "b"), "val": ("a", "b"), "test": ("a", "b")})
    write_patients(tmp_path, ["train,anna", "val,bert", "test,anna"])
    problems, _ = lines(plan(tmp_path, "classification"))
    assert "every patient of test is in train or val too" in problems[0]


def _interval_lines(root: Path, num: int) -> list[str]:
    write_classes(root, num, ("a", "b"))
    write_patients(root, [f"{name}/scan {index}.png,{name}{index}" for name in "ab" for index in range(num)])
    return _of_interval(plan(root, "classification"))


def _of_interval(split_plan: SplitPlan) -> list[str]:
    return [warning.line for warning in split_plan.warnings if "gets no interval" in warning.line]


def test_too_few_test_patients_for_an_interval(tmp_path: Path) -> None:
    """The proposed fractions give an interval when they are set; where none can, only more patients do."""
    [line] = _interval_lines(tmp_path / "some", 20)
    assert line == (
        "data set: test has 4 of 40 patients, and with fewer than 10 a score gets no interval; add patients, or set "
        "split.test=0.25, split.val=0.2 and split.train=0.55"
    )
    assert _of_interval(plan(tmp_path / "some", "classification", rule=SplitRule(train=0.55, val=0.2, test=0.25))) == []

    [line] = _interval_lines(tmp_path / "few", 10)
    assert line.endswith("test has 2 of 20 patients, and with fewer than 10 a score gets no interval; add patients")
    assert _interval_lines(tmp_path / "many", 50) == []


def test_val_is_too_small_for_calibration(tmp_path: Path) -> None:
    """What training says only in its log: below 10 images nothing is fitted, below 5 patients no threshold."""

    def said(root: Path) -> list[str]:
        texts = [warning.line for warning in plan(root, "classification").warnings]
        return [text for text in texts if "calibration" in text or "thresholds" in text]

    [line] = said(write_classes(tmp_path / "few", 20, ("a", "b")))
    assert "val has 8 images, and calibration needs 10" in line
    assert said(write_classes(tmp_path / "many", 25, ("a", "b"))) == []
    root = write_classes(tmp_path / "patients", 40, ("a", "b"))
    write_patients(root, [f"{name}/scan {index}.png,{name}{index // 8}" for name in "ab" for index in range(40)])
    [line] = said(root)
    assert "val has 2 patients, and thresholds need 5" in line
    write_lesions(tmp_path / "volumes", 8, 8)
    assert all("calibration" not in warning.line for warning in plan(tmp_path / "volumes", "segmentation").warnings)


def test_a_class_with_a_floor_that_test_lacks(tmp_path: Path) -> None:
    """An undefined score is below any floor: no version can pass, and a long training would show it."""
    write_lesions(tmp_path, 12, 9)
    write_subject(tmp_path / "other", 99, (0, 1, 2))
    labels = [*LABELS, "cyst"]
    texts = lines(plan(tmp_path, "segmentation", labels, later=LaterSteps(floors=["cyst"])))[1]
    assert [text for text in texts if "evaluate.floors" in text] == [
        "data set: test has no patient with structure cyst (train 1, val 0, test 0), which evaluate.floors names: no "
        "version can pass the gate; add patients with it"
    ]
    assert all("floors" not in text for text in lines(plan(tmp_path, "segmentation", labels))[1])


def _write_spacing(root: Path, number: int, spacing: tuple[float, float, float], *, permuted: bool = False) -> None:
    folder = root / f"subject {number}"
    folder.mkdir(parents=True)
    affine = np.diag([*spacing, 1.0])
    affine = affine[:, [2, 0, 1, 3]] if permuted else affine
    for name, seed in (("img", number), ("label", 0)):
        voxels = np.random.default_rng(seed).integers(0, 2, (8, 8, 8)).astype(np.uint8) + (name == "img") * number
        nib.save(nib.Nifti1Image(voxels.astype(np.uint8), affine), folder / f"{name}.nii.gz")


def _with_one(root: Path, spacing: tuple[float, float, float], *, permuted: bool = False) -> Path:
    for number in range(9):
        _write_spacing(root, number, (1.0, 1.0, 2.0))
    _write_spacing(root, 9, spacing, permuted=permuted)
    return root


@pytest.mark.parametrize("spacing", [(1e3, 1e3, 1e3), (1e10, 1.0, 1.0), (300.0, 300.0, 200.0)])
@pytest.mark.parametrize("permuted", [False, True])
def test_a_voxel_size_that_makes_a_volume_too_large(
    tmp_path: Path, spacing: tuple[float, float, float], *, permuted: bool
) -> None:
    """Micrometres written as millimetres: training would resample to the median and fail; the file is named."""
    [line], _ = lines(plan(_with_one(tmp_path, spacing, permuted=permuted), "segmentation", LABELS))
    assert line.startswith(f"subject 9/img.nii.gz: its voxels of {spacing[0]:.4g} x")
    assert "resampled to 1 x 1 x 2" in line
    assert "(the median of train), more than 1073741824; if its header's voxel size (pixdim, srow_x, " in line


@pytest.mark.parametrize("spacing", [(1e-3, 1e-3, 2e-3), (1e-3, 1.0, 2.0), (0.1, 0.1, 0.2), (10.0, 10.0, 20.0)])
def test_a_voxel_size_of_another_order_is_warned_of(tmp_path: Path, spacing: tuple[float, float, float]) -> None:
    """Millimetres written as micrometres or metres: such a volume would be resampled to a handful of voxels."""
    problems, warnings = lines(plan(_with_one(tmp_path, spacing), "segmentation", LABELS))
    assert problems == []
    [line] = [line for line in warnings if "far from" in line]
    assert line.startswith(f"subject 9/img.nii.gz: its voxels of {spacing[0]:g} x {spacing[1]:g} x {spacing[2]:g} are")
    assert "far from 1 x 1 x 2 (the median of train), to which they are resampled; if its header's voxel size" in line


@pytest.mark.parametrize("spacing", [(1.0, 1.0, 10.0), (0.3, 0.3, 0.3), (3.0, 3.0, 3.0), (1.0, 0.1, 2.0)])
def test_voxel_sizes_of_one_order_are_no_doubt(tmp_path: Path, spacing: tuple[float, float, float]) -> None:
    """Thick slices among thin ones, and twice the resolution."""
    warnings = lines(plan(_with_one(tmp_path, spacing), "segmentation", LABELS))[1]
    assert [line for line in warnings if "far from" in line] == []


def test_the_rule_of_training_decides_about_voxel_sizes(tmp_path: Path) -> None:
    """Resized volumes may have any voxel size; a tiny spacing of the settings makes all too large."""
    root = _with_one(tmp_path, (1e3, 1e3, 1e3))
    resize, tiny, coarse = Resampling(resample=False), Resampling(spacing=(0.001, 0.001, 0.001)), (500.0, 500.0, 500.0)
    assert lines(plan(root, "segmentation", LABELS, later=LaterSteps(resize)))[0] == []
    assert lines(plan(root, "segmentation", LABELS, later=LaterSteps(Resampling(spacing=coarse))))[0] == []
    problems = lines(plan(root, "segmentation", LABELS, later=LaterSteps(tiny)))[0]
    assert len(problems) == 10
    assert "(train.hyperparameters.spacing)" in problems[0]
