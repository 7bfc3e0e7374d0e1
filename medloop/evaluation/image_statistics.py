"""Statistics of a classifier with intervals over patients, for evaluation.json; docs/evaluation.md defines each."""

from __future__ import annotations

from collections.abc import Sequence

from medloop.documents.evaluation import OperatingPoint, Statistic
from medloop.evaluation.calibration import calibration_error
from medloop.evaluation.intervals.aurocs import auroc, macro_auroc
from medloop.evaluation.intervals.estimate import Estimate, subset
from medloop.evaluation.intervals.proportions import proportion
from medloop.evaluation.intervals.resampled import resampled
from medloop.evaluation.operating import called
from medloop.imaging.scores import CLASSIFICATION_SCORE, Floats, Integers, resampled_classification

Estimates = dict[tuple[str, str], Estimate]
"""By name and class; an empty class: over all."""


def estimate(
    truth: Integers,
    probabilities: Floats,
    classes: Sequence[str],
    patients: Sequence[str],
    points: Sequence[OperatingPoint],
) -> Estimates:
    """All statistics.

    Args:
        truth: [N] class indices.
        probabilities: [N, C].
        classes: C names.
        patients: Of the cases; empty where not known.
        points: C thresholds.
    """
    found: Estimates = {(CLASSIFICATION_SCORE, ""): macro_auroc(truth, probabilities, patients)}
    found["accuracy", ""] = proportion(probabilities.argmax(axis=1) == truth, patients)
    found["ece", ""] = calibration_error(truth, probabilities, patients)
    calls = called(probabilities, points)
    for c, name in enumerate(classes):
        positive = truth == c
        found["auroc", name] = auroc(positive, probabilities[:, c], patients)
        found["sensitivity", name] = proportion(calls[positive, c], subset(patients, positive))
        found["specificity", name] = proportion(~calls[~positive, c], subset(patients, ~positive))
    drawn = resampled(
        lambda weights: resampled_classification(truth, probabilities, classes, weights), len(truth), patients
    )
    return found | {_key(name, classes): value for name, value in drawn.items()}


def _key(name: str, classes: Sequence[str]) -> tuple[str, str]:
    """Of a flat metric's name such as `recall_CLASS`."""
    for kind in ("average_precision", "precision", "recall", "f1"):
        if name.startswith(f"{kind}_") and name.removeprefix(f"{kind}_") in classes:
            return kind, name.removeprefix(f"{kind}_")
    return name, ""


def metric_name(key: tuple[str, str]) -> str:
    """In SageMaker's shape: `recall_CLASS`, or the name alone."""
    return "_".join(part for part in key if part)


def tell(found: Estimates, points: Sequence[OperatingPoint], truth: Integers) -> list[Statistic]:
    """For evaluation.json: statistics over all classes, then those of each."""
    order = [
        (CLASSIFICATION_SCORE, ""), ("average_precision", ""), ("accuracy", ""), ("balanced_accuracy", ""),
        ("macro_f1", ""), ("ece", ""),
    ]  # fmt: skip
    for point in points:
        kinds = ("auroc", "average_precision", "sensitivity", "specificity")
        order += [(kind, point.class_name) for kind in kinds]
    notes = {point.class_name: _note(point) for point in points}
    missing = [p.class_name for c, p in enumerate(points) if not (truth == c).any() or (truth == c).all()]
    averaged = f"Over the classes with cases and others; not {', '.join(missing)}." if missing else ""
    told = []
    for name, class_name in order:
        note = notes[class_name] if name in ("sensitivity", "specificity") else ""
        if not class_name and name in (CLASSIFICATION_SCORE, "average_precision"):
            note = averaged
        told.append(found[name, class_name].statistic(name, class_name, note=note))
    return told


def _note(point: OperatingPoint) -> str:
    source = "fitted on val" if point.source == "val" else "not fitted"
    return f"Called from a probability of {point.threshold:.3g} on ({source})."


def standard_errors(found: Estimates) -> dict[str, float]:
    """By metric name, where there is an interval."""
    return {metric_name(key): value.standard_error for key, value in found.items() if value.interval}
