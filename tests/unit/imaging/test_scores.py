"""Metrics by hand, and against scikit-learn."""

from __future__ import annotations

import math

import numpy as np
import pytest
from sklearn.metrics import average_precision_score

from medloop.imaging.scores import (
    case_means,
    classification_metrics,
    confusion,
    mean_foreground_dice,
    resampled_classification,
)

CLASSES = ("a", "b", "c")
AUROCS = tuple(f"auroc_{name}" for name in CLASSES)


def random_answers(seed: int, num_cases: int = 60) -> tuple[np.ndarray, np.ndarray]:
    """Truth and probabilities with ties."""
    generator = np.random.default_rng(seed)
    truth = generator.integers(0, 3, num_cases)
    raw = np.round(generator.random((num_cases, 3)) + 0.5 * np.eye(3)[truth], 1)
    return truth, raw / raw.sum(axis=1, keepdims=True)


def test_auroc_by_hand() -> None:
    """Of four pairs of a positive and a negative, one is won, one tied and two are lost: (1 + 0.5) / 4."""
    truth = np.array([1, 1, 0, 0])
    positive = np.array([0.8, 0.3, 0.8, 0.4])
    probabilities = np.stack([1 - positive, positive], axis=1)
    metrics = classification_metrics(truth, probabilities, ("no", "yes"))
    assert metrics["auroc_yes"] == pytest.approx((0.5 + 1 + 0 + 0) / 4)
    assert metrics["macro_auroc"] == pytest.approx(metrics["auroc_yes"])


def test_per_class_by_hand() -> None:
    """Counts of a small confusion matrix give precision, recall and F1."""
    truth = np.array([0, 0, 0, 1, 1, 2])
    predicted = np.array([0, 0, 1, 1, 2, 2])
    metrics = classification_metrics(truth, np.eye(3)[predicted], CLASSES)
    assert confusion(truth, predicted, 3).tolist() == [[2, 1, 0], [0, 1, 1], [0, 0, 1]]
    assert metrics["accuracy"] == pytest.approx(4 / 6)
    assert [metrics[f"precision_{c}"] for c in CLASSES] == pytest.approx([1, 1 / 2, 1 / 2])
    assert [metrics[f"recall_{c}"] for c in CLASSES] == pytest.approx([2 / 3, 1 / 2, 1])
    assert metrics["f1_a"] == pytest.approx(0.8)
    assert metrics["balanced_accuracy"] == pytest.approx((2 / 3 + 1 / 2 + 1) / 3)


def test_absent_class_is_left_out_of_the_average() -> None:
    """A class without test cases has no AUROC or recall, and the macro average is over the rest."""
    truth, probabilities = random_answers(0)
    present = truth != 2
    metrics = classification_metrics(truth[present], probabilities[present], CLASSES)
    assert math.isnan(metrics["auroc_c"])
    assert math.isnan(metrics["recall_c"])
    assert metrics["macro_auroc"] == pytest.approx((metrics["auroc_a"] + metrics["auroc_b"]) / 2)


def test_one_class_has_no_auroc() -> None:
    """With one class in the test set no AUROC is defined, and nothing is raised."""
    truth, probabilities = np.zeros(4, dtype=np.int64), np.full((4, 3), 1 / 3)
    metrics = classification_metrics(truth, probabilities, CLASSES)
    assert math.isnan(metrics["macro_auroc"])
    assert metrics["accuracy"] == 1.0


def test_even_weights_give_the_plain_metrics() -> None:
    """The bootstrap's vectorised metrics are scikit-learn's, every one of them."""
    truth, probabilities = random_answers(1)
    plain = classification_metrics(truth, probabilities, CLASSES)
    weighted = resampled_classification(truth, probabilities, CLASSES, np.ones((2, len(truth))))
    assert {name for name in plain if name not in weighted} == {"accuracy", "macro_auroc", *AUROCS}
    for name, value in ((name, plain[name]) for name in weighted):
        assert weighted[name] == pytest.approx([value, value], abs=1e-12), name


def test_weights_repeat_cases() -> None:
    """Weighting a case is the same as having it several times; weight 0 as not having it."""
    truth, probabilities = random_answers(2)
    weights = np.random.default_rng(3).integers(0, 4, (5, len(truth))).astype(float)
    weighted = resampled_classification(truth, probabilities, CLASSES, weights)
    for draw, row in enumerate(weights):
        repeated = np.repeat(np.arange(len(truth)), row.astype(int))
        plain = classification_metrics(truth[repeated], probabilities[repeated], CLASSES)
        for name, value in ((name, plain[name]) for name in weighted):
            assert weighted[name][draw] == pytest.approx(value, abs=1e-12), name
        by_sklearn = average_precision_score(truth == 1, probabilities[:, 1], sample_weight=row)
        assert weighted["average_precision_b"][draw] == pytest.approx(by_sklearn, abs=1e-12)


def test_segmentation_means() -> None:
    """The score is the mean over cases of each case's mean; what is in neither truth nor prediction is left out."""
    dice = np.array([[0.8, 0.6], [0.4, np.nan], [np.nan, np.nan], [0.0, 1.0]])
    assert case_means(dice)[[0, 1, 3]] == pytest.approx([0.7, 0.4, 0.5])
    assert math.isnan(case_means(dice)[2])
    assert mean_foreground_dice(dice) == pytest.approx((0.7 + 0.4 + 0.5) / 3)
    assert math.isnan(mean_foreground_dice(dice[2:3]))
