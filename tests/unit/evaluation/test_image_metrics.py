"""A classifier's metrics by hand, and against scikit-learn."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, average_precision_score, precision_recall_fscore_support, roc_auc_score

from medloop.evaluation.cases import HeldOut
from medloop.evaluation.image_metrics import WeightedImages
from medloop.evaluation.intervals.bootstrap import bca_bootstrap
from medloop.evaluation.intervals.means import mean
from medloop.evaluation.measure import measure
from medloop.evaluation.metrics import metrics_of
from medloop.evaluation.operating_points import operating_points
from medloop.evaluation.scored_cases import ScoredImages
from medloop.imaging.auroc import macro_auroc
from medloop.imaging.metrics import nan_mean

CLASSES = ("a", "b", "c")


def random_answers(seed: int, num_cases: int = 60) -> tuple[np.ndarray, np.ndarray]:
    """Truth and probabilities with ties."""
    generator = np.random.default_rng(seed)
    truth = generator.integers(0, 3, num_cases)
    raw = np.round(generator.random((num_cases, 3)) + 0.5 * np.eye(3)[truth], 1)
    return truth, raw / raw.sum(axis=1, keepdims=True)


def scored_images(truth: np.ndarray, probabilities: np.ndarray, classes: Sequence[str]) -> ScoredImages:
    """Make scored images of unknown patients."""
    cases = [HeldOut(Path("image.png"), "a/image.png", "patient")] * len(truth)
    return ScoredImages(cases, classes, truth, probabilities, [], operating_points(None, classes))


def measured(truth: np.ndarray, probabilities: np.ndarray, classes: Sequence[str]) -> dict[str, float]:
    """Measure all metrics, by their names in SageMaker's shape."""
    return {row.key: row.estimate.value for row in measure(scored_images(truth, probabilities, classes))}


def weighted(truth: np.ndarray, probabilities: np.ndarray, weights: np.ndarray) -> dict[str, np.ndarray]:
    """Compute every bootstrapped metric, by its name in SageMaker's shape."""
    drawn = WeightedImages(truth, probabilities, weights)
    rows = [metric for metric in metrics_of("classification") if metric.interval is bca_bootstrap]
    values = {metric.name: metric.function(drawn, None) for metric in rows if metric.scope != "class"}
    for k, name in enumerate(CLASSES):
        values |= {f"{row.name}_{name}": row.function(drawn, k) for row in rows if row.scope != "overall"}
    return values


def mean_of_defined(values: Sequence[float]) -> float:
    """Average the defined values; NaN without any."""
    defined = [value for value in values if math.isfinite(value)]
    return float(np.mean(defined)) if defined else math.nan


def by_sklearn(truth: np.ndarray, probabilities: np.ndarray) -> dict[str, float]:
    """Compute the same metrics by scikit-learn."""
    predicted = probabilities.argmax(axis=1)
    values_by_name = {}
    for kind, function in (("auroc", roc_auc_score), ("average_precision", average_precision_score)):
        for k, name in enumerate(CLASSES):
            positive = truth == k
            both = positive.any() and not positive.all()
            values_by_name[f"{kind}_{name}"] = float(function(positive, probabilities[:, k])) if both else math.nan
    per_class = precision_recall_fscore_support(truth, predicted, labels=range(3), zero_division=np.nan)
    mean = precision_recall_fscore_support(truth, predicted, labels=range(3), average="weighted", zero_division=0)
    for kind, values, average in zip(("precision", "recall", "f1"), per_class[:3], mean[:3], strict=True):
        values_by_name |= {f"{kind}_{name}": float(value) for name, value in zip(CLASSES, values, strict=True)}
        values_by_name[f"weighted_{kind}"] = float(average)
    means = {"balanced_accuracy": "recall", "macro_auroc": "auroc", "macro_f1": "f1"}
    for name, kind in {**means, "average_precision": "average_precision"}.items():
        values_by_name[name] = mean_of_defined([values_by_name[f"{kind}_{label}"] for label in CLASSES])
    return values_by_name | {"accuracy": float(accuracy_score(truth, predicted))}


def test_auroc_by_hand() -> None:
    """Four pairs of a positive and a negative, one won, one tied and two lost: (1 + 0.5) / 4."""
    truth = np.array([1, 1, 0, 0])
    positive = np.array([0.8, 0.3, 0.8, 0.4])
    probabilities = np.stack([1 - positive, positive], axis=1)
    metrics = measured(truth, probabilities, ("no", "yes"))
    assert metrics["auroc_yes"] == pytest.approx((0.5 + 1 + 0 + 0) / 4)
    assert metrics["macro_auroc"] == pytest.approx(metrics["auroc_yes"])


def test_per_class_by_hand() -> None:
    """Counts of a small confusion matrix give precision, recall and F1."""
    truth = np.array([0, 0, 0, 1, 1, 2])
    predicted = np.array([0, 0, 1, 1, 2, 2])
    metrics = measured(truth, np.eye(3)[predicted], CLASSES)
    assert scored_images(truth, np.eye(3)[predicted], CLASSES).confusion.tolist() == [[2, 1, 0], [0, 1, 1], [0, 0, 1]]
    assert metrics["accuracy"] == pytest.approx(4 / 6)
    assert [metrics[f"precision_{c}"] for c in CLASSES] == pytest.approx([1, 1 / 2, 1 / 2])
    assert [metrics[f"recall_{c}"] for c in CLASSES] == pytest.approx([2 / 3, 1 / 2, 1])
    assert metrics["f1_a"] == pytest.approx(0.8)
    assert metrics["balanced_accuracy"] == pytest.approx((2 / 3 + 1 / 2 + 1) / 3)


def test_absent_class_is_left_out_of_the_average() -> None:
    """A class without test cases has no AUROC or recall, and the macro average is over the rest."""
    truth, probabilities = random_answers(0)
    present = truth != 2
    metrics = measured(truth[present], probabilities[present], CLASSES)
    assert math.isnan(metrics["auroc_c"])
    assert math.isnan(metrics["recall_c"])
    assert metrics["macro_auroc"] == pytest.approx((metrics["auroc_a"] + metrics["auroc_b"]) / 2)


def test_one_class_has_no_auroc() -> None:
    """A test set of one class has no AUROC, and raises nothing."""
    truth, probabilities = np.zeros(4, dtype=np.int64), np.full((4, 3), 1 / 3)
    metrics = measured(truth, probabilities, CLASSES)
    assert math.isnan(metrics["macro_auroc"])
    assert metrics["accuracy"] == 1.0


def test_even_weights_give_the_plain_metrics() -> None:
    """The bootstrap's vectorised metrics are scikit-learn's, every one of them."""
    truth, probabilities = random_answers(1)
    plain = by_sklearn(truth, probabilities)
    drawn = weighted(truth, probabilities, np.ones((2, len(truth))))
    aurocs = {f"auroc_{name}" for name in CLASSES}
    assert {name for name in plain if name not in drawn} == {"accuracy", "macro_auroc"} | aurocs
    for name, values in drawn.items():
        assert values == pytest.approx([plain[name]] * 2, abs=1e-12), name


def test_weights_repeat_cases() -> None:
    """Weighting a case is the same as having it several times; weight 0 as not having it."""
    truth, probabilities = random_answers(2)
    weights = np.random.default_rng(3).integers(0, 4, (5, len(truth))).astype(float)
    drawn = weighted(truth, probabilities, weights)
    for draw, row in enumerate(weights):
        repeated = np.repeat(np.arange(len(truth)), row.astype(int))
        plain = by_sklearn(truth[repeated], probabilities[repeated])
        for name, values in drawn.items():
            assert values[draw] == pytest.approx(plain[name], abs=1e-12), name
        expected = average_precision_score(truth == 1, probabilities[:, 1], sample_weight=row)
        assert drawn["average_precision_b"][draw] == pytest.approx(expected, abs=1e-12)


def test_segmentation_means() -> None:
    """The score is the mean over cases of each case's mean; what is in neither truth nor prediction is left out."""
    dice = np.array([[0.8, 0.6], [0.4, np.nan], [np.nan, np.nan], [0.0, 1.0]])
    assert nan_mean(dice)[[0, 1, 3]] == pytest.approx([0.7, 0.4, 0.5])
    assert math.isnan(nan_mean(dice)[2])
    assert mean(nan_mean(dice), []).value == pytest.approx((0.7 + 0.4 + 0.5) / 3)
    assert math.isnan(mean(nan_mean(dice[2:3]), []).value)


@pytest.mark.parametrize("num_classes", [1, 2, 3])
def test_the_validation_split_s_macro_auroc_is_the_evaluation_s(num_classes: int) -> None:
    """Training computes it by scikit-learn, over the classes with cases on both sides; NaN where there is none."""
    truth, probabilities = random_answers(4)
    truth = truth % num_classes
    expected = measured(truth, probabilities, CLASSES)["macro_auroc"]
    assert macro_auroc(truth, probabilities) == pytest.approx(expected, abs=1e-12, nan_ok=True)
