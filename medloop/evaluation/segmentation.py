"""Scoring a segmentation model, on each volume's own grid."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medloop.documents.evaluation import DEFAULT_TOLERANCE, LesionCounts
from medloop.errors import DataError
from medloop.evaluation.bland_altman import agreements
from medloop.evaluation.case_columns import case_columns
from medloop.evaluation.cases import HeldOut
from medloop.evaluation.csv_table import CsvTable
from medloop.evaluation.intervals.estimate import Floats
from medloop.evaluation.label_maps import Packed, millimetres_per_length, read_case
from medloop.evaluation.measure import measure
from medloop.evaluation.model_scores import ModelScores
from medloop.evaluation.predictors import VolumeModel
from medloop.evaluation.scored_cases import ScoredVolumes, Unit
from medloop.imaging.layouts import IMAGE
from medloop.imaging.metrics import ClassScores, Grid, nan_mean, per_class
from medloop.imaging.metrics import dice as dice_of
from medloop.imaging.validation import require_volume


def score_volumes(
    cases: Sequence[HeldOut],
    model: VolumeModel,
    *,
    patients_known: bool,
    tolerance: float | None = None,
    length_unit: str | None = None,
) -> ModelScores:
    """Segment every case and score the predictions.

    Args:
        cases: Subjects' folders.
        model: Gives label values in the order of its record's classes.
        patients_known: Whether the cases' patients may be resampled for intervals.
        tolerance: Of the surface Dice, in mm; None: 2 mm, and without a known unit no surface Dice.
        length_unit: Unit of lengths where a header states none: `mm`, `micron` or `meter`; None: unknown.

    Raises:
        DataError: A file can't be read, image and label differ in grid, a label value has no class, or a tolerance is
            given and a unit is unknown.
    """
    scored = _score(cases, model, tolerance, length_unit, [case.patient for case in cases] if patients_known else [])
    measured, num_present = measure(scored), (scored.table("volume_truth") > 0).sum(axis=0)
    bias = {row.class_name: row.estimate for row in measured if row.metric.name == "volume_error"}
    return ModelScores(
        scored,
        measured,
        class_counts=dict(zip(scored.classes, num_present.tolist(), strict=True)),
        cases=_table(scored),
        volumes=agreements(scored, bias),
        lesions=_count_lesions(scored),
        notes=_notes(scored),
    )


def dice_of_volumes(cases: Sequence[HeldOut], model: VolumeModel) -> Floats:
    """Compute Dice only, [N, K] by case and structure; NaN if truth and prediction are both empty.

    Raises:
        DataError: A file can't be read or segmented.
    """
    classes = model.record.classes
    table = np.empty((len(cases), len(classes) - 1))
    for i, case in enumerate(cases):
        truth, labels = read_case(case, classes).label.voxels, _segment(case, model)
        table[i] = [dice_of(truth == label, labels == label) for label in range(1, len(classes))]
        print(f"segmented {i + 1} of {len(cases)} test volumes", flush=True)
    return table


def _score(
    cases: Sequence[HeldOut],
    model: VolumeModel,
    tolerance: float | None,
    length_unit: str | None,
    patients: Sequence[str],
) -> ScoredVolumes:
    classes = model.record.classes
    factors = [millimetres_per_length(case, length_unit) for case in cases]
    unit: Unit = "voxels" if None in factors else "mm"
    if tolerance is not None and unit == "voxels":
        raise DataError(
            f"test/{cases[factors.index(None)].name}: its header states no unit of lengths, so a tolerance of "
            f"{tolerance:g} mm can't be applied; set evaluate.length_unit, or leave evaluate.surface_tolerance_mm out"
        )
    limit = np.nan if unit == "voxels" else DEFAULT_TOLERANCE if tolerance is None else tolerance
    scores: list[list[ClassScores]] = []
    predictions = []
    for i, (case, factor) in enumerate(zip(cases, factors, strict=True)):
        truth, labels = read_case(case, classes).label, _segment(case, model)
        grid = Grid(truth.voxels.shape, None if factor is None or unit == "voxels" else truth.affine[:3, :3] * factor)
        scores.append(per_class(truth.voxels, labels, len(classes), grid, limit))
        predictions.append(Packed.pack(labels))
        mean = float(nan_mean(np.array([class_scores.dice for class_scores in scores[-1]])))
        print(f"scored {i + 1} of {len(cases)} test volumes: {case.name} mean Dice {mean:.3f}", flush=True)
    return ScoredVolumes(cases, classes[1:], unit, limit, scores, predictions, patients)


def _segment(case: HeldOut, model: VolumeModel) -> NDArray[Any]:
    try:
        return model.segment(require_volume(case.path, IMAGE)).labels
    except DataError as error:
        raise DataError(f"test/{case.name}/{error}") from None


def _table(scored: ScoredVolumes) -> CsvTable:
    columns = case_columns(scored)
    rows = [[case.patient, case.name, *(column.values[i] for column in columns)] for i, case in enumerate(scored.cases)]
    return CsvTable(["patient", "case", *(column.heading for column in columns)], rows)


def _count_lesions(scored: ScoredVolumes) -> list[LesionCounts]:
    """Connected components of all cases, by class."""
    names = ("num_true", "num_missed", "num_predicted", "num_false")
    return [
        LesionCounts(class_name=name, **{count: int(scored.lesion_counts(count, k).sum()) for count in names})
        for k, name in enumerate(scored.classes)
    ]


def _notes(scored: ScoredVolumes) -> list[str]:
    notes = []
    undefined = int(np.isnan(nan_mean(scored.dice)).sum())
    if undefined == len(scored.cases):
        notes.append("No truth or prediction has any foreground: Dice is undefined, and the score is given as 0.")
    elif undefined:
        notes.append(f"{undefined} cases have no foreground in truth or prediction and are excluded from the means.")
    failures = int(scored.failed.sum())
    if failures:
        notes.append(
            f"{failures} times a class is in only one of truth and prediction: Dice is 0, and its distances are the "
            "image's diagonal."
        )
    if scored.unit == "voxels":
        notes.append(
            "Distances and volumes are in voxels, and the surface Dice is left out: not every header states a unit of "
            "lengths. evaluate.length_unit=mm says that their lengths are millimetres."
        )
    return notes
