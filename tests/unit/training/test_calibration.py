"""Temperature and thresholds fitted on val, against plain searches and scikit-learn."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import numpy as np
import pytest
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax, softmax
from sklearn.metrics import roc_curve

from medloop.training.calibration import HIGHEST, LOWEST, calibrate, find_temperature, find_threshold

CLASSES = ["a", "b", "c"]


def drawn(seed: int, num_cases: int = 60, num_classes: int = 3, scale: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    """Logits, and labels drawn with the probabilities that they mean, then scaled: the temperature is that scale."""
    rng = np.random.default_rng(seed)
    logits = 1.5 * rng.standard_normal((num_cases, num_classes))
    labels = np.array([rng.choice(num_classes, p=row) for row in softmax(logits, axis=1)])
    return scale * logits, labels


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("scale", [0.6, 1.0, 3.0])
def test_temperature_has_the_least_loss(seed: int, scale: float) -> None:
    """SciPy's own search for the least negative log-likelihood finds the same temperature."""
    logits, labels = drawn(seed, scale=scale)

    def loss(temperature: float) -> float:
        return -log_softmax(logits / temperature, axis=1)[range(len(labels)), labels].mean()

    expected = minimize_scalar(loss, bounds=(LOWEST, HIGHEST), method="bounded", options={"xatol": 1e-10})
    assert find_temperature(logits, labels) == pytest.approx(expected.x, abs=1e-6)


@pytest.mark.slow
def test_an_overconfident_model_is_cooled() -> None:
    """Logits three times too large, on many cases: the temperature is 3."""
    assert find_temperature(*drawn(0, num_cases=20_000, scale=3.0)) == pytest.approx(3.0, rel=0.03)


@pytest.mark.parametrize(("scale", "bound"), [(100.0, HIGHEST), (0.001, LOWEST)])
def test_temperature_stays_within_bounds(scale: float, bound: float) -> None:
    """However wrong the logits' size is, the temperature ends at a bound."""
    assert find_temperature(*drawn(1, scale=scale)) == bound


def test_temperatures_that_cannot_be_estimated() -> None:
    """Without a mistake the likelihood has no maximum: none; logits that say nothing stay as they are."""
    labels = np.arange(12) % 3
    assert find_temperature(2.0 * np.eye(3)[labels], labels) is None
    assert find_temperature(np.zeros((12, 3)), labels) == 1.0


@pytest.mark.parametrize("seed", range(6))
def test_threshold_has_the_largest_youden(seed: int) -> None:
    """No threshold of scikit-learn's ROC curve has more, ties among scores included; it is between two scores."""
    rng = np.random.default_rng(seed)
    positive = rng.random(40) < 0.4
    scores = np.round(rng.random(40) + 0.3 * positive, 1)
    threshold = find_threshold(positive, scores)
    false, hits, _ = roc_curve(positive, scores, drop_intermediate=False)
    calls = scores >= threshold
    assert calls[positive].mean() - calls[~positive].mean() == pytest.approx((hits - false).max())
    below, above = scores[scores < threshold].max(), scores[scores >= threshold].min()
    assert threshold == pytest.approx((below + above) / 2)


def test_of_equal_thresholds_the_widest_gap_has_it() -> None:
    """J is 1/2 between 0.2 and 0.3, and between 0.4 and 0.8: the second gap is wider."""
    positive = np.array([False, True, False, True])
    assert find_threshold(positive, np.array([0.2, 0.3, 0.4, 0.8])) == pytest.approx(0.6)


@pytest.mark.parametrize("scores", [[0.9, 0.8, 0.2, 0.1], [0.5, 0.5, 0.5, 0.5]])
def test_no_threshold_is_no_better_than_chance(scores: list[float]) -> None:
    """Where every threshold is worse than chance, or all scores are equal, there is none."""
    assert find_threshold(np.array([False, False, True, True]), np.array(scores)) is None


def test_two_classes_are_consistent() -> None:
    """Thresholds of two classes add up to 1: what isn't called one is called the other."""
    calibration = calibrate(*drawn(2, num_classes=2), ["no", "yes"])
    assert calibration.operating_point["no"] + calibration.operating_point["yes"] == pytest.approx(1.0)
    assert set(calibration.operating_point) == {"no", "yes"}


def test_thresholds_are_on_calibrated_probabilities() -> None:
    """A model that is twice as sure of the same ranking gets the same thresholds, by a temperature twice as high."""
    logits, labels = drawn(3)
    once, twice = calibrate(logits, labels, CLASSES), calibrate(2 * logits, labels, CLASSES)
    assert once.temperature is not None
    assert twice.temperature == pytest.approx(2 * once.temperature)
    assert twice.operating_point == pytest.approx(once.operating_point)


def test_a_class_that_val_lacks_has_no_threshold() -> None:
    """The others have theirs, and the temperature is that of all."""
    logits, labels = drawn(4)
    calibration = calibrate(logits[labels != 2], labels[labels != 2], CLASSES)
    assert set(calibration.operating_point) == {"a", "b"}
    assert calibration.temperature is not None


@pytest.mark.parametrize(
    ("labels", "message"), [([0, 1, 2] * 3, "9 cases, fewer than 10"), ([1] * 12, "only one class")]
)
def test_too_little_to_fit(labels: list[int], message: str) -> None:
    """Fewer than ten cases, or one class alone, give nothing, and a line says so."""
    calibration = calibrate(np.random.default_rng(0).standard_normal((len(labels), 3)), np.array(labels), CLASSES)
    assert calibration.temperature is None
    assert calibration.operating_point == {}
    assert message in calibration.note


@pytest.mark.parametrize(("num_patients", "fitted"), [(4, False), (5, True), (None, True)])
def test_thresholds_need_some_patients(num_patients: int | None, fitted: bool) -> None:
    """Those of a few patients' slices don't hold for others; the temperature, one number, stays."""
    logits, labels = drawn(5)
    calibration = calibrate(logits, labels, CLASSES, num_patients)
    assert bool(calibration.operating_point) == fitted
    assert calibration.temperature == find_temperature(logits, labels)
    assert ("fewer than 5 (4)" in calibration.note) != fitted


@pytest.mark.parametrize("container", ["classify", "segment"])
def test_no_class_is_a_metric_in_the_log(container: str) -> None:
    """SageMaker reads metrics by regular expressions from the log, which names classes too."""
    text = (Path(__file__).parents[3] / "containers" / container / "container.toml").read_text()
    metrics = tomllib.loads(text)["metrics"]
    classes = [f"{name}=0.999;" for name in metrics]
    assert all(re.search(regex, f"{name}=0.999;") for name, regex in metrics.items())
    logits, labels = drawn(1)
    for start in range(0, len(classes), logits.shape[1]):
        names = [*classes[start:], *"abc"][: logits.shape[1]]
        note = calibrate(logits, labels, names).note
        assert "thresholds" in note
        assert not [name for name, regex in metrics.items() if re.search(regex, note)]
