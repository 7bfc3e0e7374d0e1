"""Scoring a segmentation model, on each volume's own grid."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medloop.errors import DataError
from medloop.evaluation.cases import HeldOut
from medloop.evaluation.grids import Packed, is_millimetres, read_case
from medloop.evaluation.outcome import Cell, Outcome, ScoredVolumes, Table
from medloop.evaluation.predictors import VolumeModel
from medloop.evaluation.scores import (
    SEGMENTATION_SCORE,
    Floats,
    case_means,
    resampled_segmentation,
    segmentation_metrics,
)
from medloop.evaluation.statistics import bootstrap
from medloop.imaging.layouts import IMAGE
from medloop.imaging.metrics import dice as dice_of
from medloop.imaging.metrics import per_class
from medloop.imaging.validation import require_volume


def score_volumes(cases: Sequence[HeldOut], model: VolumeModel, *, patients_known: bool) -> Outcome:
    """Segment every case and score the answers.

    Args:
        cases: Subjects' folders.
        model: Gives label values in the order of its record's classes.
        patients_known: Whether the cases' patients may be resampled for intervals.

    Raises:
        DataError: A file can't be read, image and label differ in grid, or a label value names no class.
    """
    scored = _score(cases, model)
    dice, hd95, classes, unit = scored.dice, scored.hd95, scored.classes, scored.unit
    patients = [case.patient for case in cases] if patients_known else []
    return Outcome(
        score_name=SEGMENTATION_SCORE,
        metrics=segmentation_metrics(dice, hd95, classes, unit),
        spreads=bootstrap(patients, lambda weights: resampled_segmentation(dice, hd95, classes, unit, weights)),
        class_counts={name: int(n) for name, n in zip(classes, scored.present.sum(axis=0), strict=True)},
        cases=_table(scored),
        subset_score=lambda mask: segmentation_metrics(dice[mask], hd95[mask], classes, unit)[SEGMENTATION_SCORE],
        scored=scored,
        answers=dice,
        notes=_notes(scored),
    )


def dice_of_volumes(cases: Sequence[HeldOut], model: VolumeModel) -> Floats:
    """Dice alone, [N, K] by case and structure; NaN where truth and prediction are both empty.

    Raises:
        DataError: A file can't be read or segmented.
    """
    classes = model.record.classes
    found = np.empty((len(cases), len(classes) - 1))
    for i, case in enumerate(cases):
        truth, labels = read_case(case, classes).label.voxels, _segment(case, model)
        found[i] = [dice_of(truth == label, labels == label) for label in range(1, len(classes))]
        print(f"segmented {i + 1} of {len(cases)} test volumes", flush=True)
    return found


def _score(cases: Sequence[HeldOut], model: VolumeModel) -> ScoredVolumes:
    classes = model.record.classes
    unit = "mm" if all(is_millimetres(case) for case in cases) else "voxels"
    shape = (len(cases), len(classes) - 1)
    dice, hd95, present = np.empty(shape), np.empty(shape), np.zeros(shape, dtype=bool)
    predictions = []
    for i, case in enumerate(cases):
        truth, labels = read_case(case, classes).label, _segment(case, model)
        scale = truth.affine[:3, :3] if unit == "mm" else None
        dice[i], hd95[i] = per_class(truth.voxels, labels, len(classes), scale)
        present[i] = [bool((truth.voxels == label).any()) for label in range(1, len(classes))]
        predictions.append(Packed.pack(labels))
        mean = case_means(dice[i : i + 1])[0]
        print(f"scored {i + 1} of {len(cases)} test volumes: {case.name} mean Dice {mean:.3f}", flush=True)
    return ScoredVolumes(cases, classes[1:], unit, dice, hd95, present, predictions)


def _segment(case: HeldOut, model: VolumeModel) -> NDArray[Any]:
    try:
        return model.segment(require_volume(case.path, IMAGE)).labels
    except DataError as error:
        raise DataError(f"test/{case.name}/{error}") from None


def _table(scored: ScoredVolumes) -> Table:
    dice = [f"dice_{name}" for name in scored.classes]
    hd95 = [f"hd95_{scored.unit}_{name}" for name in scored.classes]
    columns = ["patient", "case", SEGMENTATION_SCORE, *dice, *hd95]
    means = case_means(scored.dice)
    rows: list[list[Cell]] = [
        [case.patient, case.name, float(means[i]), *scored.dice[i].tolist(), *scored.hd95[i].tolist()]
        for i, case in enumerate(scored.cases)
    ]
    return Table(columns, rows)


def _notes(scored: ScoredVolumes) -> list[str]:
    notes = []
    undefined = int(np.isnan(case_means(scored.dice)).sum())
    if undefined == len(scored.cases):
        notes.append("No truth or prediction holds any foreground: Dice is undefined, and the score is given as 0.")
    elif undefined:
        notes.append(f"{undefined} cases hold no foreground in truth or prediction and are left out of the means.")
    failures = int(np.isinf(scored.hd95).sum())
    if failures:
        notes.append(
            f"{failures} times a class is in truth or prediction alone: Dice 0, an infinite HD95, "
            "which the mean HD95 leaves out."
        )
    if scored.unit == "voxels":
        notes.append("Distances are in voxels: not every header says that its lengths are millimetres.")
    return notes
