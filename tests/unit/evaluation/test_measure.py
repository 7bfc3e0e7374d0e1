"""A classifier's statistics against scikit-learn, its calibration and its operating points."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from sklearn import metrics

from medloop.evaluation.calibration import NUM_BINS, calibration_error, reliability_bins
from medloop.evaluation.cases import HeldOut
from medloop.evaluation.intervals.estimate import Estimate
from medloop.evaluation.measure import measure
from medloop.evaluation.operating_points import called, operating_points
from medloop.evaluation.scored_cases import ScoredImages

CLASSES = ("a", "b_c", "c")
CASE = HeldOut(Path("image.png"), "a/image.png", "patient")


def random_predictions(seed: int, kind: str = "random") -> tuple[np.ndarray, np.ndarray]:
    """Truth and probabilities of 40 cases, degenerate in some way."""
    generator = np.random.default_rng(seed)
    truth = generator.integers(0, 2 if kind == "missing" else 1 if kind == "one class" else 3, 40)
    raw = generator.random((40, 3)) + 0.4 * np.eye(3)[truth]
    if kind == "ties":
        raw = np.round(raw, 1) + 0.1
    if kind == "constant":
        raw = np.ones_like(raw)
    return truth, raw / raw.sum(axis=1, keepdims=True)


def estimates(truth: np.ndarray, probabilities: np.ndarray, num_patients: int = 20) -> dict[tuple[str, str], Estimate]:
    """All metrics by name and class, two cases a patient."""
    patients = [f"p{i % num_patients}" for i in range(len(truth))]
    scored = ScoredImages([CASE] * len(truth), CLASSES, truth, probabilities, patients, operating_points(None, CLASSES))
    return {(row.metric.name, row.class_name): row.estimate for row in measure(scored)}


@pytest.mark.parametrize("kind", ["random", "ties", "constant", "missing", "one class"])
def test_every_statistic_is_scikit_learns(kind: str) -> None:
    """Values agree to 1e-6 on random and degenerate inputs; undefined by scikit-learn is undefined here."""
    truth, probabilities = random_predictions(3, kind)
    values = {key: value.value for key, value in estimates(truth, probabilities).items()}
    predicted = probabilities.argmax(axis=1)
    present = np.unique(truth)
    assert values["accuracy", ""] == pytest.approx(metrics.accuracy_score(truth, predicted), abs=1e-6)
    recalls = metrics.recall_score(truth, predicted, labels=present, average="macro", zero_division=0)
    assert values["balanced_accuracy", ""] == pytest.approx(recalls, abs=1e-6)
    both = [c for c in range(3) if 0 < (truth == c).sum() < len(truth)]
    for c, name in enumerate(CLASSES):
        positive, score, calls = truth == c, probabilities[:, c], probabilities[:, c] >= 0.5
        pairs = {"sensitivity": (positive, calls), "specificity": (~positive, ~calls)}
        for kind_of, (side, right) in pairs.items():
            if side.any():
                expected = metrics.recall_score(side, right, zero_division=0)
                assert values[kind_of, name] == pytest.approx(expected, abs=1e-6)
            else:
                assert math.isnan(values[kind_of, name])
        if c in both:
            assert values["auroc", name] == pytest.approx(metrics.roc_auc_score(positive, score), abs=1e-6)
            expected = metrics.average_precision_score(positive, score)
            assert values["average_precision", name] == pytest.approx(expected, abs=1e-6)
        else:
            assert math.isnan(values["auroc", name])
            assert math.isnan(values["average_precision", name])
    for name, kind_of in (("macro_auroc", "auroc"), ("average_precision", "average_precision")):
        per_class = [values[kind_of, CLASSES[c]] for c in both]
        mean = np.mean(per_class) if per_class else math.nan
        assert values[name, ""] == pytest.approx(mean, abs=1e-6, nan_ok=True)


@pytest.mark.parametrize("kind", ["random", "ties", "constant", "missing", "one class"])
@pytest.mark.parametrize("num_patients", [1, 20])
def test_intervals_are_finite_and_hold_the_value(kind: str, num_patients: int) -> None:
    """Without an interval, a note has the reason."""
    for key, value in estimates(*random_predictions(4, kind), num_patients).items():
        if value.interval is None:
            assert value.note, key
        else:
            assert value.interval.lower - 1e-12 <= value.value <= value.interval.upper + 1e-12, key
        assert math.isfinite(value.standard_error), key


def test_two_slices_of_a_patient_count_once() -> None:
    """The bootstrapped metrics too: doubling every case leaves their intervals as they are."""
    truth, probabilities = random_predictions(5)
    single = estimates(truth, probabilities, 40)
    doubled = estimates(np.tile(truth, 2), np.tile(probabilities, (2, 1)), 40)
    for key in (("average_precision", ""), ("balanced_accuracy", ""), ("macro_f1", ""), ("precision", "b_c")):
        narrow, wide = single[key].interval, doubled[key].interval
        assert narrow is not None
        assert wide is not None
        assert (narrow.lower, narrow.upper) == pytest.approx((wide.lower, wide.upper))


def test_calibration_by_hand() -> None:
    """Bins hold their upper bound; the error is the gaps' mean over cases."""
    top = np.array([1.0, 1.0, 0.8, 0.75])
    probabilities = np.stack([top, 1 - top], axis=1)
    truth = np.array([0, 1, 0, 0])
    low, high = reliability_bins(truth, probabilities)
    assert (high.lower, high.upper, high.num_cases, high.frequency) == (pytest.approx(14 / 15), 1.0, 2, 0.5)
    assert low.upper == pytest.approx(12 / NUM_BINS)
    assert (low.mean_probability, low.frequency) == (pytest.approx(0.775), 1.0)
    error = calibration_error(truth, probabilities, list("abcd"))
    assert error.value == pytest.approx((2 * 0.5 + 2 * 0.225) / 4)
    assert error.interval is None
    assert "biased" in error.note


@pytest.mark.parametrize("fitted", [{"no": 0.7, "yes": 0.3}, {"yes": 0.3}])
def test_of_two_classes_the_second_decides(fitted: dict[str, float]) -> None:
    """Every case is called exactly one; a fitted threshold is used, and its source recorded."""
    points = operating_points(fitted, ("no", "yes"))
    assert [(p.threshold, p.source) for p in points] == [(pytest.approx(0.7), "val"), (0.3, "val")]
    chance = np.array([0.29, 0.3, 0.9])
    calls = called(np.stack([1 - chance, chance], axis=1), points)
    assert calls.tolist() == [[True, False], [False, True], [False, True]]


def test_a_class_without_a_threshold_has_one_half() -> None:
    """Its source says that it is the default."""
    points = operating_points({"a": 0.2}, CLASSES)
    assert [(p.threshold, p.source) for p in points] == [(0.2, "val"), (0.5, "default"), (0.5, "default")]
