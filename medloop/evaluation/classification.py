"""Scoring a classifier of images."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from medloop.documents.evaluation import Calibration
from medloop.evaluation.calibration import reliability_bins
from medloop.evaluation.cases import HeldOut
from medloop.evaluation.image_statistics import Estimates, estimate, metric_name, standard_errors, tell
from medloop.evaluation.intervals.aurocs import macro_auroc
from medloop.evaluation.intervals.estimate import Estimate, subset
from medloop.evaluation.operating import operating_points
from medloop.evaluation.outcome import Outcome, ScoredImages, Table
from medloop.evaluation.predictors import ImageModel
from medloop.imaging.scores import (
    CLASSIFICATION_SCORE,
    Floats,
    Integers,
    confusion,
)

CHUNK = 64
"""Images between two lines of progress."""


def score_images(cases: Sequence[HeldOut], model: ImageModel, *, patients_known: bool) -> Outcome:
    """Classify every case and score the answers.

    Args:
        cases: Of classes that the model knows.
        model: Gives probabilities in the order of its record's classes.
        patients_known: Whether the cases' patients may be resampled for intervals.

    Raises:
        DataError: An image can't be read.
    """
    classes = model.record.classes
    truth = np.array([classes.index(case.class_name) for case in cases])
    probabilities = predict_images(cases, model)
    patients = [case.patient for case in cases] if patients_known else []
    points = operating_points(model.record.operating_point, classes)
    found = estimate(truth, probabilities, classes, patients, points)
    counts = confusion(truth, probabilities.argmax(axis=1), len(classes))

    def subset_score(mask: NDArray[np.bool_]) -> Estimate:
        return macro_auroc(truth[mask], probabilities[mask], subset(patients, mask))

    return Outcome(
        score_name=CLASSIFICATION_SCORE,
        metrics={metric_name(key): value.value for key, value in found.items()},
        standard_errors=standard_errors(found),
        class_counts={name: int(count) for name, count in zip(classes, counts.sum(axis=1), strict=True)},
        cases=_table(cases, truth, probabilities, classes),
        subset_score=subset_score,
        scored=ScoredImages(cases, classes, truth, probabilities),
        answers=probabilities,
        confusion={
            name: {other: int(n) for other, n in zip(classes, row, strict=True)}
            for name, row in zip(classes, counts, strict=True)
        },
        statistics=tell(found, points, truth),
        calibration=Calibration(temperature=model.record.temperature, bins=reliability_bins(truth, probabilities)),
        operating_points=points,
        notes=_notes(found, classes),
    )


def predict_images(cases: Sequence[HeldOut], model: ImageModel) -> Floats:
    """Probabilities [N, C] of every case.

    Raises:
        DataError: An image can't be read.
    """
    parts = []
    for start in range(0, len(cases), CHUNK):
        paths = [case.path for case in cases[start : start + CHUNK]]
        parts.append(np.asarray(model.probabilities(paths), dtype=np.float64))
        print(f"classified {start + len(paths)} of {len(cases)} test images", flush=True)
    return np.concatenate(parts)


def _table(cases: Sequence[HeldOut], truth: Integers, probabilities: Floats, classes: Sequence[str]) -> Table:
    columns = ["patient", "case", "truth", "predicted", *(f"probability_{name}" for name in classes)]
    predicted = probabilities.argmax(axis=1)
    rows = [
        [case.patient, case.name, classes[truth[i]], classes[predicted[i]], *probabilities[i].tolist()]
        for i, case in enumerate(cases)
    ]
    return Table(columns, rows)


def _notes(found: Estimates, classes: Sequence[str]) -> list[str]:
    missing = [name for name in classes if np.isnan(found["auroc", name].value)]
    if not missing:
        return []
    if len(missing) == len(classes):
        return ["The test set holds one class only: AUROC is undefined, and the score is given as 0."]
    return [f"No AUROC for {', '.join(missing)}: the test set has no case of it. The macro average is over the rest."]
