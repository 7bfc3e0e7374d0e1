"""Columns of cases.csv and of the page's table of cases: from the table of metrics."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from medloop.evaluation.case_columns import CaseColumn, case_columns
from tests.unit.evaluation.worlds import image_world, volume_world

CLASSES = ("ml_tumor", "mm")
LENGTHS = ("HD95", "Surface distance")


def columns_of_volumes(folder: Path, unit: str) -> list[CaseColumn]:
    """Score two volumes of two structures, of 8 and 18 voxels, perfectly."""
    truth = np.zeros((8, 8, 4), np.uint8)
    truth[1:3, 1:3, 1:3], truth[4:7, 4:7, 1:3] = 1, 2
    world = volume_world(
        folder, {"p1": truth, "p2": truth}, lambda labels, _: labels, ("background", *CLASSES), unit=unit
    )
    return case_columns(world.assessed().scores.scored)


@pytest.mark.parametrize(("unit", "length", "volume"), [("mm", "mm", "ml"), ("unknown", "voxels", "voxels")])
def test_columns_of_volumes_have_their_units(tmp_path: Path, unit: str, length: str, volume: str) -> None:
    """A class that begins like a unit keeps its name; volumes and lesions are in cases.csv only."""
    columns = columns_of_volumes(tmp_path, unit)
    shown = ["dice", f"hd95_{length}", f"asd_{length}", "surface_dice"]
    parts = [f"volume_{volume}_truth", f"volume_{volume}_predicted"]
    parts += [f"lesions_{name}" for name in ("true", "missed", "predicted", "false")]
    headings = [f"{name}_{class_name}" for name in (*shown, *parts) for class_name in CLASSES]
    assert [column.heading for column in columns] == ["mean_foreground_dice", *headings]
    names = [f"{metric} {name}" for metric in ("Dice", *LENGTHS, "Surface Dice") for name in CLASSES]
    labels = [f"{name}, {length}" if name.startswith(LENGTHS) else name for name in names]
    assert [column.label for column in columns if column.label] == ["Mean foreground Dice", *labels]


def test_columns_of_volumes_have_each_case_s_numbers(tmp_path: Path) -> None:
    """Volumes in voxels, and whole numbers of lesions."""
    values = {column.heading: list(column.values) for column in columns_of_volumes(tmp_path, "unknown")}
    assert values["volume_voxels_truth_ml_tumor"] == values["volume_voxels_predicted_ml_tumor"] == [8.0, 8.0]
    assert values["volume_voxels_truth_mm"] == [18.0, 18.0]
    assert [repr(count) for count in values["lesions_true_mm"]] == ["1", "1"]
    assert values["dice_mm"] == values["mean_foreground_dice"] == [1.0, 1.0]


def test_a_classifier_has_no_columns_of_metrics(tmp_path: Path) -> None:
    """cases.csv has truth, prediction and probabilities."""
    world = image_world(tmp_path, {"cat/p1_0.png": (0.9, 0.1), "dog/p2_0.png": (0.3, 0.7)})
    assert case_columns(world.assessed().scores.scored) == []
