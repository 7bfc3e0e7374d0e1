"""Evaluating a segmentation model, from folders to files."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import jsonschema
import nibabel as nib
import numpy as np
import pytest

from medloop.errors import DataError
from medloop.evaluation.cases import HeldOut
from medloop.evaluation.record import SCHEMA_FILE
from medloop.evaluation.report.volume_figures import overlays
from tests.unit.evaluation.worlds import ball, volume_world, write_subject

SHAPE = (20, 22, 14)
TRUTH = ball(SHAPE, 5, (10, 11, 7)).astype(np.uint8)


def shifted(truth: np.ndarray, name: str) -> np.ndarray:
    """The truth one voxel further along z, for the patient p2 alone."""
    return np.roll(truth, 1, axis=2) if name.startswith("p2") else truth


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
    """A model that finds nothing scores 0, its infinite distances are counted, and every number is finite."""
    world = volume_world(tmp_path, {"p1": TRUTH, "p2": TRUTH}, lambda truth, _: np.zeros_like(truth))
    evaluation = world.write()
    assert evaluation.score.value == 0.0
    assert evaluation.segmentation_metrics is not None
    assert "hd95_mm_gland" not in evaluation.segmentation_metrics
    assert evaluation.segmentation_metrics["hd95_infinite_gland"].value == 2
    assert any("infinite HD95" in note for note in evaluation.notes)
    assert "inf" in (world.output / "cases.csv").read_text()


def test_nothing_to_find(tmp_path: Path) -> None:
    """Cases without foreground are left out; with no other case the score is undefined and given as 0."""
    nothing = np.zeros_like(TRUTH)
    both = volume_world(tmp_path / "both", {"p1": TRUTH, "p2": nothing}, lambda truth, _: truth).score()
    assert both.score.value == 1.0
    assert any("1 cases hold no foreground" in note for note in both.notes)
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
    assert page.count('src="data:image/png;base64,') == page.count("src=") == 4


def test_interval_over_patients(tmp_path: Path) -> None:
    """Ten patients with two volumes each have an interval; the number of patients is theirs, not the volumes'."""
    truths = {f"p{i}_{n}": TRUTH for i in range(10) for n in range(2)}
    world = volume_world(
        tmp_path, truths, lambda truth, name: np.roll(truth, int(name[1]) % 3, 0), attributes={"p0": {"site": "A"}}
    )
    evaluation = world.score()
    assert (evaluation.data.num_patients, evaluation.data.num_cases) == (10, 20)
    assert evaluation.score.interval is not None
    groups = {group.value: group.num_patients for group in evaluation.subgroups}
    assert groups == {"A": 1, "not given": 9}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("shape", r"test/p1/label\.nii\.gz: has shape \(20, 22, 13\) where its image has \(20, 22, 14\)"),
        ("affine", r"test/p1/label\.nii\.gz: lies on another grid than its image"),
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
        sources.append(overlays(case, np.ascontiguousarray(voxels), ["gland"]).source)
    assert sources[0] == sources[1]
