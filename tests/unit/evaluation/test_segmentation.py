"""Evaluating a segmentation model, from folders to files."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import jsonschema
import nibabel as nib
import numpy as np
import pytest

from medloop.documents.evaluation import SCHEMA_FILE, Evaluation, Statistic
from medloop.errors import DataError
from medloop.evaluation.cases import HeldOut
from medloop.evaluation.report.cropped_volume import crop_case
from medloop.evaluation.report.volume_overlays import draw_overlays
from tests.unit.evaluation.worlds import ball, volume_world, write_subject

SHAPE = (20, 22, 14)
TRUTH = ball(SHAPE, 5, (10, 11, 7)).astype(np.uint8)


def shifted(truth: np.ndarray, name: str) -> np.ndarray:
    """The truth one voxel further along z, for the patient p2 only."""
    return np.roll(truth, 1, axis=2) if name.startswith("p2") else truth


@pytest.mark.slow
def test_scores_and_files(tmp_path: Path) -> None:
    """One perfect case and one shifted by a voxel of 2 mm: Dice and HD95 in mm, in record and table."""
    world = volume_world(tmp_path, {"p1": TRUTH, "p2": TRUTH}, shifted)
    evaluation = world.write()
    moved = np.roll(TRUTH, 1, axis=2)
    overlap = 2 * (TRUTH & moved).sum() / (2 * TRUTH.sum())
    assert evaluation.score.value == pytest.approx((1 + overlap) / 2)
    metrics = evaluation.segmentation_metrics
    assert metrics is not None
    assert metrics["dice_gland"].value == pytest.approx(evaluation.score.value)
    assert metrics["hd95_mm_gland"].value == pytest.approx(1.0)
    with (world.output / "cases.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["hd95_mm_gland"] for row in rows] == ["0", "2"]
    content = json.loads((world.output / "evaluation.json").read_text(), parse_constant=pytest.fail)
    jsonschema.validate(content, json.loads(SCHEMA_FILE.read_text()))
    assert "multiclass_classification_metrics" not in content


def test_unknown_unit_counts_voxels(tmp_path: Path) -> None:
    """A header that doesn't say mm gives distances in voxels, named so."""
    evaluation = volume_world(tmp_path, {"p1": TRUTH, "p2": TRUTH}, shifted, unit="unknown").score()
    assert evaluation.segmentation_metrics is not None
    assert evaluation.segmentation_metrics["hd95_voxels_gland"].value == pytest.approx(0.5)
    assert any("in voxels" in note for note in evaluation.notes)


@pytest.mark.slow
def test_empty_predictions(tmp_path: Path) -> None:
    """A model that finds nothing scores 0, is as far off as the image reaches, and every number is finite."""
    world = volume_world(tmp_path, {"p1": TRUTH, "p2": TRUTH}, lambda truth, _: np.zeros_like(truth))
    evaluation = world.write()
    diagonal = np.linalg.norm((np.array(SHAPE) - 1) * [1, 1, 2])
    assert evaluation.score.value == 0.0
    assert evaluation.segmentation_metrics is not None
    metrics = {name: metric.value for name, metric in evaluation.segmentation_metrics.items()}
    assert metrics["hd95_mm_gland"] == metrics["asd_mm_gland"] == pytest.approx(diagonal)
    assert metrics["surface_dice_gland"] == 0.0
    assert metrics["hd95_failures_gland"] == 2
    assert any("the image's diagonal" in note for note in evaluation.notes)
    with (world.output / "cases.csv").open(newline="") as file:
        row = next(csv.DictReader(file))
    expected = {
        "dice": 0, "hd95_mm": diagonal, "asd_mm": diagonal, "surface_dice": 0, "volume_ml_truth": TRUTH.sum() / 500,
        "volume_ml_predicted": 0, "lesions_true": 1, "lesions_missed": 1, "lesions_predicted": 0, "lesions_false": 0,
    }  # fmt: skip
    assert set(row) == {"patient", "case", "mean_foreground_dice"} | {f"{name}_gland" for name in expected}
    assert [float(row[f"{name}_gland"]) for name in expected] == pytest.approx(list(expected.values()), rel=1e-5)


def statistics(evaluation: Evaluation) -> dict[tuple[str, str], Statistic]:
    """Index the statistics by name and class."""
    return {(statistic.name, statistic.class_name): statistic for statistic in evaluation.statistics}


TWO = TRUTH.copy()
TWO[0:2, 0:2, 0:2] = 1
"""Two lesions: the ball, and a corner of 8 voxels."""


def missing_corner(truth: np.ndarray, name: str) -> np.ndarray:
    """The truth; without its corner, and with a voxel of its own, for the patient p2 only."""
    if not name.startswith("p2"):
        return truth
    prediction = truth.copy()
    prediction[0:2, 0:2, 0:2] = 0
    prediction[-1, -1, -1] = 1
    return prediction


def test_statistics_of_a_class(tmp_path: Path) -> None:
    """Overlap, median distances, volumes and lesions have the numbers of excluded and failed cases."""
    nothing = np.zeros_like(TRUTH)
    truths = {"p1": TWO, "p2": TWO, "p3": nothing}
    evaluation = volume_world(tmp_path, truths, missing_corner).score()
    by_class = statistics(evaluation)
    names = ("dice", "hd95", "average_surface_distance", "surface_dice", "volume_error")
    counts = {name: (by_class[name, "gland"].num_cases, by_class[name, "gland"].num_excluded) for name in names}
    assert set(counts.values()) == {(2, 1)}
    assert by_class["hd95", "gland"].unit == by_class["average_surface_distance", "gland"].unit == "mm"
    assert by_class["volume_error", "gland"].unit == "ml"
    assert by_class["volume_error", "gland"].value == pytest.approx(-7 * 2 / 1000 / 2)
    assert by_class["surface_dice", "gland"].note.startswith("Tolerance: 2 mm.")
    sensitivity, false = by_class["lesion_sensitivity", "gland"], by_class["false_lesions_per_case", "gland"]
    assert (sensitivity.value, sensitivity.num_cases, sensitivity.num_excluded) == (pytest.approx(3 / 4), 4, 1)
    assert (false.value, false.num_cases) == (pytest.approx(1 / 3), 3)
    (lesions,) = evaluation.lesions
    assert (lesions.num_true, lesions.num_missed, lesions.num_predicted, lesions.num_false) == (4, 1, 4, 1)


def test_bland_and_altman(tmp_path: Path) -> None:
    """Bias and limits of agreement of volumes are those of the differences' mean and sample standard deviation."""
    evaluation = volume_world(tmp_path, {"p1": TWO, "p2": TWO, "p3": TWO * 0}, missing_corner).score()
    (agreement,) = evaluation.volumes
    differences = np.array([0.0, -7 * 2 / 1000])
    half = 1.96 * differences.std(ddof=1)
    assert agreement.bias == pytest.approx(differences.mean())
    assert (agreement.lower_limit, agreement.upper_limit) == pytest.approx(
        (differences.mean() - half, differences.mean() + half)
    )
    assert agreement.mean_truth == pytest.approx(TWO.sum() * 2 / 1000)
    assert (agreement.unit, agreement.num_cases) == ("ml", 2)
    assert volume_world(tmp_path / "one", {"p1": TWO}, missing_corner).score().volumes == []


def test_failures_are_counted(tmp_path: Path) -> None:
    """A class in only one of truth and prediction counts as worst: in the score, in the distances, and by number."""
    evaluation = volume_world(tmp_path, {"p1": TRUTH, "p2": TRUTH}, lambda t, name: t * (name == "p1")).score()
    by_class = statistics(evaluation)
    assert evaluation.score.value == 0.5
    assert by_class["mean_foreground_dice", ""].num_failures == by_class["hd95", "gland"].num_failures == 1
    assert by_class["hd95", "gland"].value == pytest.approx(np.linalg.norm((np.array(SHAPE) - 1) * [1, 1, 2]) / 2)


def test_surface_tolerance(tmp_path: Path) -> None:
    """The tolerance of the surface Dice is an argument: a shift of one voxel of 2 mm is within 2 mm, not within 1."""
    world = volume_world(tmp_path, {"p1": TRUTH, "p2": TRUTH}, shifted)
    wide = statistics(world.score())["surface_dice", "gland"].value
    world.options["surface_tolerance"] = 0.5
    narrow = statistics(world.score())["surface_dice", "gland"].value
    assert wide == 1.0
    assert narrow is not None
    assert narrow < 0.9


@pytest.mark.slow
def test_without_a_unit_there_is_no_surface_dice(tmp_path: Path) -> None:
    """A tolerance of 2 mm is no tolerance of 2 voxels: the statistic is left out, and says why."""
    world = volume_world(tmp_path, {"p1": TRUTH, "p2": TRUTH * 0 + ball(SHAPE, 2, (4, 4, 4))}, shifted, unit="unknown")
    row = statistics(world.score())["surface_dice", "gland"]
    assert row.value is None
    assert "evaluate.length_unit" in row.note
    assert "NaN" not in world.write().to_json()


def test_a_tolerance_in_millimetres_needs_a_unit(tmp_path: Path) -> None:
    """One that was set is refused with the case and the settings."""
    world = volume_world(tmp_path, {"p1": TRUTH, "p2": TRUTH}, shifted, unit="unknown")
    world.options["surface_tolerance"] = 1.0
    with pytest.raises(DataError, match=r"test/p1.*no unit of lengths.*1 mm.*evaluate.length_unit"):
        world.score()


@pytest.mark.parametrize(("unit", "factor"), [("mm", 1.0), ("meter", 1e3), ("micron", 1e-3)])
def test_a_setting_states_an_unknown_unit(tmp_path: Path, unit: str, factor: float) -> None:
    """Lengths are then in millimetres, and the tolerance of 2 mm is met by a shift of 2 mm, not of 2 m."""
    world = volume_world(tmp_path, {"p1": TRUTH, "p2": TRUTH}, shifted, unit="unknown")
    world.options["length_unit"] = unit
    rows = statistics(world.score())
    assert rows["hd95", "gland"].unit == "mm"
    assert rows["hd95", "gland"].value == pytest.approx(factor)
    assert rows["surface_dice", "gland"].note.startswith("Tolerance: 2 mm.")
    assert (rows["surface_dice", "gland"].value == 1.0) == (factor <= 1)


def test_a_label_without_a_unit_has_its_images(tmp_path: Path) -> None:
    """Programs that draw labels often leave the unit out."""
    world = volume_world(tmp_path, {"p1": TRUTH, "p2": TRUTH}, shifted)
    world.options |= {"surface_tolerance": 1.0}
    for path in world.test.rglob("label.nii.gz"):
        image = nib.load(path)
        image.header.set_xyzt_units("unknown")
        nib.save(nib.Nifti1Image(np.asanyarray(image.dataobj), None, image.header), path)
    rows = statistics(world.score())
    assert (rows["hd95", "gland"].unit, rows["hd95", "gland"].value) == ("mm", pytest.approx(1.0))


def test_a_stated_unit_counts_before_the_setting(tmp_path: Path) -> None:
    """Headers in millimetres are read as such with any setting."""
    world = volume_world(tmp_path, {"p1": TRUTH, "p2": TRUTH}, shifted)
    world.options["length_unit"] = "meter"
    assert statistics(world.score())["hd95", "gland"].value == pytest.approx(1.0)


def test_nothing_to_find(tmp_path: Path) -> None:
    """Cases without foreground are left out; with no other case the score is undefined and given as 0."""
    nothing = np.zeros_like(TRUTH)
    both = volume_world(tmp_path / "both", {"p1": TRUTH, "p2": nothing}, lambda truth, _: truth).score()
    assert both.score.value == 1.0
    assert any("1 cases have no foreground" in note for note in both.notes)
    none = volume_world(tmp_path / "none", {"p1": nothing}, lambda truth, _: truth).score()
    assert none.score.value == none.gate.score == 0.0
    assert any("undefined" in note for note in none.notes)


@pytest.mark.slow
def test_several_structures_are_drawn(tmp_path: Path) -> None:
    """Two structures, one of them missed in a case: worst, median and best case are on the page."""
    truth = TRUTH.copy()
    truth[ball(SHAPE, 2, (10, 11, 7))] = 2
    truths = {f"p{i}": truth for i in range(3)}
    world = volume_world(
        tmp_path,
        truths,
        lambda labels, name: {"p0": np.where(labels == 2, 0, labels), "p1": np.roll(labels, 1, 0)}.get(name, labels),
        classes=("background", "shell", "core <inner>"),
    )
    evaluation = world.write()
    page = (world.output / "report.html").read_text()
    assert evaluation.data.classes == {"shell": 3, "core <inner>": 3}
    for title in ("Worst case", "Median case", "Best case"):
        assert title in page
    assert "core &lt;inner&gt;" in page
    assert page.count('src="data:image/png;base64,') == 3
    assert 'src="http' not in page


def test_interval_over_patients(tmp_path: Path) -> None:
    """Ten patients with two volumes each have an interval; the number of patients is theirs, not the volumes'."""
    truths = {f"p{i}_{n}": TRUTH for i in range(10) for n in range(2)}
    world = volume_world(
        tmp_path, truths, lambda truth, name: np.roll(truth, int(name[1]) % 3, 0), attributes={"p0": {"site": "A"}}
    )
    evaluation = world.score()
    assert (evaluation.data.num_patients, evaluation.data.num_cases) == (10, 20)
    assert evaluation.score.interval is not None
    by_class = statistics(evaluation)
    assert by_class["mean_foreground_dice", ""].interval is not None
    assert {name for (name, _), statistic in by_class.items() if statistic.interval is not None} >= {
        "dice", "hd95", "average_surface_distance", "surface_dice", "lesion_sensitivity",
    }  # fmt: skip
    assert all(statistic.num_patients == 10 for statistic in evaluation.statistics)
    groups = {group.value: group.num_patients for group in evaluation.subgroups}
    assert groups == {"A": 1, "not given": 9}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("shape", r"test/p1/label\.nii\.gz: has shape \(20, 22, 13\) where its image has \(20, 22, 14\)"),
        ("affine", r"test/p1/label\.nii\.gz: is on another grid than its image"),
        ("value", r"test/p1/label\.nii\.gz: has label values 7 that are no whole numbers from 0 to 1"),
        ("truncated", r"test/p1/label\.nii\.gz: is truncated or damaged"),
        ("missing", r"test/p1/label\.nii\.gz: is missing"),
    ],
)
def test_bad_label(tmp_path: Path, change: str, message: str) -> None:
    """A label on another grid, with a strange value, broken or missing is refused by name; nothing is written."""
    world = volume_world(tmp_path, {"p1": TRUTH}, lambda truth, _: truth)
    path = world.test / "p1" / "label.nii.gz"
    if change == "missing":
        path.unlink()
    elif change == "truncated":
        path.write_bytes(path.read_bytes()[:-60])
    else:
        voxels = TRUTH[:, :, :-1] if change == "shape" else TRUTH * (7 if change == "value" else 1)
        spacing = [2.0, 1.0, 2.0, 1.0] if change == "affine" else [1.0, 1.0, 2.0, 1.0]
        nib.save(nib.Nifti1Image(voxels, np.diag(spacing)), path)
    with pytest.raises(DataError, match=message):
        world.score()
    assert not world.output.exists()


@pytest.mark.slow
def test_overlays_do_not_depend_on_the_file_s_axes(tmp_path: Path) -> None:
    """The same anatomy stored in another axis order and direction is drawn pixel for pixel the same."""
    truth = TRUTH.copy()
    truth[2:6, 4, 5] = 1
    affine = np.diag([1.0, 1.5, 2.0, 1.0])
    stored = nib.Nifti1Image(truth, affine)
    target = nib.orientations.axcodes2ornt(("P", "I", "R"))
    turned = stored.as_reoriented(nib.orientations.ornt_transform(nib.io_orientation(affine), target))
    sources = []
    for name, image in (("ras", stored), ("pir", turned)):
        voxels = np.asanyarray(image.dataobj)
        write_subject(tmp_path / name, voxels, image.affine, noise=0.0)
        case = HeldOut(tmp_path / name, "case", "patient")
        volume = crop_case(case, np.ascontiguousarray(voxels))
        sources.append(draw_overlays(volume, ["gland"], case.patient).source)
    assert sources[0] == sources[1]
