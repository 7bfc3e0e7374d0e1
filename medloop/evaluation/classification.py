"""Scoring a classifier of images."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from medloop.documents.csv_text import Cell
from medloop.documents.evaluation import CalibrationCurve
from medloop.documents.names import find_name
from medloop.evaluation.calibration import reliability_bins
from medloop.evaluation.case_columns import case_columns
from medloop.evaluation.cases import HeldOut
from medloop.evaluation.csv_table import CsvTable
from medloop.evaluation.intervals.estimate import Floats
from medloop.evaluation.measure import Measured, measure
from medloop.evaluation.model_scores import ModelScores
from medloop.evaluation.operating_points import operating_points
from medloop.evaluation.predictors import ImageModel
from medloop.evaluation.scored_cases import ScoredImages

CHUNK = 64
"""Images between two lines of progress."""


def score_images(cases: Sequence[HeldOut], model: ImageModel, *, patients_known: bool) -> ModelScores:
    """Classify every case and score the predictions.

    Args:
        cases: Their classes are the model's.
        model: Gives probabilities in the order of its record's classes.
        patients_known: Whether the cases' patients may be resampled for intervals.

    Raises:
        DataError: An image can't be read.
    """
    classes = model.record.classes
    folders = {case.class_name for case in cases}
    indices = {folder: classes.index(find_name(folder, classes) or folder) for folder in folders}
    scored = ScoredImages(
        cases,
        classes,
        truth=np.array([indices[case.class_name] for case in cases]),
        probabilities=predict_images(cases, model),
        patients=[case.patient for case in cases] if patients_known else [],
        points=operating_points(model.record.operating_point, classes),
    )
    counts, measured = scored.confusion.tolist(), measure(scored)
    return ModelScores(
        scored,
        measured,
        class_counts={name: sum(row) for name, row in zip(classes, counts, strict=True)},
        cases=_table(scored),
        confusion={name: dict(zip(classes, row, strict=True)) for name, row in zip(classes, counts, strict=True)},
        calibration=CalibrationCurve(
            temperature=model.record.temperature, bins=reliability_bins(scored.truth, scored.probabilities)
        ),
        operating_points=scored.points,
        notes=_notes(measured, classes),
    )


def predict_images(cases: Sequence[HeldOut], model: ImageModel) -> Floats:
    """Predict the probabilities [N, C] of every case.

    Raises:
        DataError: An image can't be read.
    """
    parts = []
    for start in range(0, len(cases), CHUNK):
        paths = [case.path for case in cases[start : start + CHUNK]]
        parts.append(np.asarray(model.probabilities(paths), dtype=np.float64))
        print(f"classified {start + len(paths)} of {len(cases)} test images", flush=True)
    return np.concatenate(parts)


def _table(scored: ScoredImages) -> CsvTable:
    classes, predicted, columns = scored.classes, scored.predicted, case_columns(scored)
    rows: list[list[Cell]] = [
        [case.patient, case.name, classes[scored.truth[i]], classes[predicted[i]], *scored.probabilities[i].tolist()]
        + [column.values[i] for column in columns]
        for i, case in enumerate(scored.cases)
    ]
    probabilities = [f"probability_{name}" for name in classes]
    headings = [column.heading for column in columns]
    return CsvTable(["patient", "case", "truth", "predicted", *probabilities, *headings], rows)


def _notes(measured: Sequence[Measured], classes: Sequence[str]) -> list[str]:
    missing = [row.class_name for row in measured if row.metric.name == "auroc" and np.isnan(row.estimate.value)]
    if not missing:
        return []
    if len(missing) == len(classes):
        return ["The test set has one class only: AUROC is undefined, and the score is given as 0."]
    return [f"No AUROC for {', '.join(missing)}: the test set has no case of it. The macro average is over the rest."]
