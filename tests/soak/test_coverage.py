"""Coverage of the intervals: 1,000 simulated test sets per row, 20 and 60 patients.

    python -m pytest tests/soak/test_coverage.py -m soak -s

prints the rows of the table in docs/measurements.md. 95 in 100 is nominal; `HARD` lists methods that can't reach 93.
Each patient has one case, or one to four correlated cases (half of the variance is the patient's).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest

from medloop.evaluation.image_metrics import WeightedImages
from medloop.evaluation.intervals.aurocs import mean_auroc
from medloop.evaluation.intervals.bootstrap import bca_bootstrap
from medloop.evaluation.intervals.estimate import Estimate
from medloop.evaluation.intervals.means import mean
from medloop.evaluation.intervals.proportions import median, proportion
from medloop.evaluation.metrics import find_metric

pytestmark = pytest.mark.soak

SETS = 1000
POPULATION = 300_000
MAX_CASES = 4
Generator = np.random.Generator


@dataclass(frozen=True)
class Drawn:
    """Cases of some patients."""

    owners: np.ndarray
    """[N], each case's patient."""
    patient: np.ndarray
    """[N], standard normal, equal for all cases of a patient."""
    case: np.ndarray
    """[N], standard normal, the sum of a patient's and a case's part."""
    uniform: np.ndarray
    """[P], of patients."""
    generator: Generator


def draw(generator: Generator, num_patients: int, several: bool) -> Drawn:
    """Patients with one case, or with one to four."""
    counts = generator.integers(1, MAX_CASES + 1, num_patients) if several else np.ones(num_patients, dtype=int)
    owners = np.repeat(np.arange(num_patients), counts)
    patient = generator.normal(size=num_patients)[owners]
    return Drawn(
        owners,
        patient,
        np.sqrt(0.5) * (patient + generator.normal(size=len(owners))),
        generator.random(num_patients),
        generator,
    )


def dice_of(drawn: Drawn) -> np.ndarray:
    """Dice that is skewed to the left, as near 1: median 0.9."""
    return 1 / (1 + np.exp(-(2.2 + 0.9 * drawn.case)))


def failing(drawn: Drawn) -> np.ndarray:
    """The same, with Dice 0 for all cases of one patient of twelve."""
    return np.where(drawn.uniform[drawn.owners] < 1 / 12, 0.0, dice_of(drawn))


Values = Callable[[Drawn], np.ndarray]
MEANS: dict[str, tuple[Values, bool]] = {
    "mean Dice, symmetric": (lambda d: 0.7 + 0.08 * d.case, True),
    "mean Dice, skewed": (dice_of, True),
    "mean Dice, 1 of 12 patients fails": (failing, True),
    "mean volume error, symmetric": (lambda d: 3 * d.case, False),
    "mean volume error, skewed (lognormal)": (lambda d: np.exp(0.8 * d.case), False),
}
MEDIANS: dict[str, Values] = {
    "median HD95, symmetric": lambda d: 20 + d.case,
    "median HD95, skewed (lognormal)": lambda d: np.exp(1 + d.case),
    "median HD95, 1 of 12 patients fails": lambda d: np.where(
        d.uniform[d.owners] < 1 / 12, 300.0, np.exp(1 + 0.8 * d.case)
    ),
}
SHARES = {"sensitivity 0.5": 0.0, "sensitivity 0.8": 0.8416, "sensitivity 0.95": 1.6449}
AUROCS = {"AUROC 0.75": 0.9539, "AUROC 0.9": 1.8124, "AUROC 0.97": 2.6599}


def classes_of(drawn: Drawn) -> tuple[np.ndarray, np.ndarray]:
    """Truth of three classes, by patient, and probabilities; the rarest class has one patient in six."""
    truth = np.digitize(drawn.uniform, [0.5, 1 - 1 / 6])[drawn.owners]
    noise = drawn.generator.normal(size=(len(truth), 3)) + 0.7 * drawn.case[:, None] * [1, 0, -1]
    raw = np.exp(1.8 * np.eye(3)[truth] + noise)
    return truth, raw / raw.sum(axis=1, keepdims=True)


def auroc(positive: np.ndarray, scores: np.ndarray, patients: list[str]) -> Estimate:
    """AUROC of one class."""
    return mean_auroc([(positive, scores)], patients)


def macro_auroc(truth: np.ndarray, probabilities: np.ndarray, patients: list[str]) -> Estimate:
    """AUROC of each class against the rest, their mean."""
    return mean_auroc([(truth == k, probabilities[:, k]) for k in range(probabilities.shape[1])], patients)


def covered(estimate: Estimate, truth: float) -> tuple[bool, bool]:
    """True if the interval contains the truth (False without interval), and True if it is above it."""
    if estimate.interval is None:
        return False, False
    return estimate.interval.lower <= truth <= estimate.interval.upper, estimate.interval.lower > truth


def simulate(
    name: str, size: tuple[int, bool], truth: float, estimate: Callable[[Drawn, list[str]], Estimate], sets: int = SETS
) -> float:
    """Compute and print the coverage in 100."""
    num_patients, several = size
    generator = np.random.default_rng(num_patients + several)
    inside, above, none = 0, 0, 0
    for _ in range(sets):
        drawn = draw(generator, num_patients, several)
        result = estimate(drawn, [f"p{i:03d}" for i in drawn.owners])
        contains, higher = covered(result, truth)
        inside, above, none = inside + contains, above + higher, none + (result.interval is None)
    kind = "1 to 4" if several else "1"
    counted = sets - none
    print(
        f"| {name} | {num_patients} | {kind} | {100 * inside / counted:.1f} | {100 * above / counted:.1f} | {none} |",
        flush=True,
    )
    return 100 * inside / counted


SIZES = [(20, False), (60, False), (20, True), (60, True)]
each_size = pytest.mark.parametrize("size", SIZES, ids=["20", "60", "20 clustered", "60 clustered"])
MIN_COVERAGE = 93.0
"""In 100; `SLACK` is three standard errors of 1,000 sets."""
SLACK = 2.1
HARD = {
    "mean Dice, 1 of 12 patients fails": 78.0,
    "mean volume error, skewed (lognormal)": 89.0,
    "mean Dice, skewed": 91.0,
}


def require(name: str, coverage: float) -> None:
    """Assert the method's minimum; coverage above nominal is accepted."""
    assert coverage >= HARD.get(name, MIN_COVERAGE) - SLACK, name


def population(values: Values) -> np.ndarray:
    """Many cases, with the test sets' number of cases per patient."""
    return values(draw(np.random.default_rng(99), POPULATION, True))


@each_size
@pytest.mark.parametrize("name", MEANS)
def test_means(name: str, size: tuple[int, bool]) -> None:
    """The studentised bootstrap."""
    values, shares = MEANS[name]
    truth = float(population(values).mean())
    require(name, simulate(name, size, truth, lambda d, patients: mean(values(d), patients, shares=shares)))


@each_size
@pytest.mark.parametrize("name", MEDIANS)
def test_medians(name: str, size: tuple[int, bool]) -> None:
    """Order statistics."""
    values = MEDIANS[name]
    truth = float(np.median(population(values)))
    require(name, simulate(name, size, truth, lambda d, patients: median(values(d), patients)))


@each_size
@pytest.mark.parametrize("name", SHARES)
def test_proportions(name: str, size: tuple[int, bool]) -> None:
    """Wilson."""
    bound = SHARES[name]
    truth = float(population(lambda d: d.case < bound).mean())
    require(name, simulate(name, size, truth, lambda d, patients: proportion(d.case < bound, patients)))


@each_size
@pytest.mark.parametrize("positive", [1 / 2, 1 / 6], ids=["half", "sixth"])
@pytest.mark.parametrize("skewed", [False, True], ids=["normal", "lognormal"])
@pytest.mark.parametrize("name", AUROCS)
def test_aurocs(name: str, positive: float, skewed: bool, size: tuple[int, bool]) -> None:
    """DeLong on the logit scale; scores may be skewed, with different spreads in the two classes."""

    def scores(drawn: Drawn) -> tuple[np.ndarray, np.ndarray]:
        having = drawn.uniform[drawn.owners] < positive
        spread = np.where(having, 1.6, 0.7) if skewed else 1.0
        shift = AUROCS[name] * (np.sqrt((1.6**2 + 0.7**2) / 2) if skewed else 1.0)
        return having, spread * drawn.case + shift * having

    truth = auroc(*scores(draw(np.random.default_rng(99), POPULATION, True)), []).value
    title = f"{name}, {positive:.0%} positive{', other spreads' if skewed else ''}"
    require(name, simulate(title, size, truth, lambda d, patients: auroc(*scores(d), patients)))


@each_size
def test_macro_auroc(size: tuple[int, bool]) -> None:
    """Three classes."""
    truth = macro_auroc(*classes_of(draw(np.random.default_rng(99), POPULATION, True)), []).value
    require("", simulate("macro AUROC", size, truth, lambda d, patients: macro_auroc(*classes_of(d), patients)))


@each_size
@pytest.mark.parametrize("name", ["average_precision", "balanced_accuracy", "macro_f1"])
def test_resampled(name: str, size: tuple[int, bool]) -> None:
    """BCa."""
    metric = find_metric(name)
    assert metric is not None

    def estimate(drawn: Drawn, patients: list[str]) -> Estimate:
        truth, chances = classes_of(drawn)
        return bca_bootstrap(
            lambda weights: {name: metric.function(WeightedImages(truth, chances, weights), None)}, len(truth), patients
        )[name]

    truth = estimate(draw(np.random.default_rng(99), POPULATION, True), []).value
    coverage = simulate(name.replace("_", " "), size, truth, estimate, 300)
    assert coverage >= 86.0
