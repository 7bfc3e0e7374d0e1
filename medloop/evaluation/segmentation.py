"""Scoring a segmentation model, on each volume's own grid."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medloop.errors import DataError
from medloop.evaluation.cases import HeldOut
from medloop.evaluation.grids import Packed, is_millimetres, read_case
from medloop.evaluation.intervals.estimate import subset
from medloop.evaluation.intervals.means import mean as mean_of
from medloop.evaluation.outcome import Cell, Outcome, ScoredVolumes, Table, Unit
from medloop.evaluation.predictors import VolumeModel
from medloop.evaluation.volume_statistics import agreements, count_lesions, measure
from medloop.imaging.layouts import IMAGE
from medloop.imaging.metrics import ClassScores, Grid, per_class
from medloop.imaging.metrics import dice as dice_of
from medloop.imaging.scores import SEGMENTATION_SCORE, Floats, case_means, mean_foreground_dice
from medloop.imaging.validation import require_volume

TOLERANCE = 2.0
"""Of the surface Dice, in mm: about what two people who outline an organ differ by (arXiv:1809.04430, 1 to 3 mm)."""


def score_volumes(
    cases: Sequence[HeldOut], model: VolumeModel, *, patients_known: bool, tolerance: float = TOLERANCE
) -> Outcome:
    """Segment every case and score the answers.

    Args:
        cases: Subjects' folders.
        model: Gives label values in the order of its record's classes.
        patients_known: Whether the cases' patients may be resampled for intervals.
        tolerance: Of the surface Dice: mm, or voxels where a header doesn't say mm.

    Raises:
        DataError: A file can't be read, image and label differ in grid, or a label value names no class.
    """
    scored = _score(cases, model, tolerance)
    dice, patients = scored.dice, [case.patient for case in cases] if patients_known else []
    measured = measure(scored, patients)
    failures = zip(scored.classes, scored.failed.sum(axis=0), strict=True)
    return Outcome(
        score_name=SEGMENTATION_SCORE,
        metrics={found.metric: found.estimate.value for found in measured}
        | {f"hd95_failures_{name}": float(number) for name, number in failures},
        standard_errors={found.metric: found.estimate.standard_error for found in measured if found.estimate.interval},
        class_counts={name: int(n) for name, n in zip(scored.classes, scored.present.sum(axis=0), strict=True)},
        cases=_table(scored),
        subset_score=lambda mask: mean_of(case_means(dice[mask]), subset(patients, mask), shares=True),
        scored=scored,
        answers=dice,
        statistics=[found.statistic for found in measured],
        volumes=agreements(scored, measured),
        lesions=count_lesions(scored),
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


def _score(cases: Sequence[HeldOut], model: VolumeModel, tolerance: float) -> ScoredVolumes:
    classes = model.record.classes
    unit: Unit = "mm" if all(is_millimetres(case) for case in cases) else "voxels"
    scores: list[list[ClassScores]] = []
    predictions = []
    for i, case in enumerate(cases):
        truth, labels = read_case(case, classes).label, _segment(case, model)
        grid = Grid(truth.voxels.shape, truth.affine[:3, :3] if unit == "mm" else None)
        scores.append(per_class(truth.voxels, labels, len(classes), grid, tolerance))
        predictions.append(Packed.pack(labels))
        mean = mean_foreground_dice(np.array([[found.dice for found in scores[-1]]]))
        print(f"scored {i + 1} of {len(cases)} test volumes: {case.name} mean Dice {mean:.3f}", flush=True)
    return ScoredVolumes(cases, classes[1:], unit, tolerance, scores, predictions)


def _segment(case: HeldOut, model: VolumeModel) -> NDArray[Any]:
    try:
        return model.segment(require_volume(case.path, IMAGE)).labels
    except DataError as error:
        raise DataError(f"test/{case.name}/{error}") from None


def _table(scored: ScoredVolumes) -> Table:
    """A case a row: one number for all classes, then each number of all classes side by side."""
    columns = ["patient", "case", SEGMENTATION_SCORE]
    rows: list[list[Cell]] = [[case.patient, case.name] for case in scored.cases]
    for row, mean in zip(rows, case_means(scored.dice).tolist(), strict=True):
        row.append(mean)
    for title, field in _columns(scored).items():
        columns += [f"{title}_{name}" for name in scored.classes]
        for row, case in zip(rows, scored.scores, strict=True):
            row += [getattr(scores if hasattr(scores, field) else scores.lesions, field) for scores in case]
    return Table(columns, rows)


def _columns(scored: ScoredVolumes) -> dict[str, str]:
    """Heading, before the class's name, to the number's name."""
    return {
        "dice": "dice",
        f"hd95_{scored.unit}": "hd95",
        f"asd_{scored.unit}": "average_surface_distance",
        "surface_dice": "surface_dice",
        f"volume_{scored.volume_unit}_truth": "volume_truth",
        f"volume_{scored.volume_unit}_predicted": "volume_predicted",
        "lesions_true": "num_true",
        "lesions_missed": "num_missed",
        "lesions_predicted": "num_predicted",
        "lesions_false": "num_false",
    }


def _notes(scored: ScoredVolumes) -> list[str]:
    notes = []
    undefined = int(np.isnan(case_means(scored.dice)).sum())
    if undefined == len(scored.cases):
        notes.append("No truth or prediction holds any foreground: Dice is undefined, and the score is given as 0.")
    elif undefined:
        notes.append(f"{undefined} cases hold no foreground in truth or prediction and are left out of the means.")
    failures = int(scored.failed.sum())
    if failures:
        notes.append(
            f"{failures} times a class is in truth or prediction alone: Dice 0, and the image's diagonal as its "
            "distances."
        )
    if scored.unit == "voxels":
        notes.append("Distances and volumes are in voxels: not every header says that its lengths are millimetres.")
    return notes
