"""The bootstrap over patients."""

from __future__ import annotations

import numpy as np
import pytest

from medloop.evaluation.statistics import MIN_PATIENTS, Floats, Statistic, bootstrap


def weighted_mean(values: np.ndarray) -> Statistic:
    """The statistic that draws a mean."""

    def statistic(weights: Floats) -> dict[str, Floats]:
        return {"mean": weights @ values / weights.sum(axis=1)}

    return statistic


def test_few_patients_have_no_interval() -> None:
    """Nine patients give none, however many cases they have; ten do."""
    values = np.random.default_rng(0).random(90)
    names = [f"p{i % (MIN_PATIENTS - 1)}" for i in range(90)]
    assert bootstrap(names, weighted_mean(values)) == {}
    assert "mean" in bootstrap([f"p{i % MIN_PATIENTS}" for i in range(90)], weighted_mean(values))


def test_repeats() -> None:
    """The same seed gives the same spread, another seed another."""
    values, names = np.random.default_rng(0).random(20), [str(i) for i in range(20)]
    first, again = (bootstrap(names, weighted_mean(values), seed=1) for _ in range(2))
    assert first == again
    assert bootstrap(names, weighted_mean(values), seed=2) != first


def test_standard_error_of_a_mean() -> None:
    """The spread of a mean is the standard deviation over the root of the number."""
    values = np.random.default_rng(4).normal(0, 2, 50)
    spread = bootstrap([str(i) for i in range(50)], weighted_mean(values))["mean"]
    assert spread.standard_deviation == pytest.approx(values.std() / np.sqrt(50), rel=0.05)
    assert spread.lower < values.mean() < spread.upper


def test_two_slices_of_a_patient_count_once() -> None:
    """Doubling every patient's cases leaves the interval as it was; as separate patients it would shrink."""
    values, names = np.random.default_rng(5).random(15), [str(i) for i in range(15)]
    single = bootstrap(names, weighted_mean(values))["mean"]
    doubled = np.concatenate([values, values])
    assert bootstrap(names * 2, weighted_mean(doubled))["mean"].lower == pytest.approx(single.lower)
    apart = bootstrap([str(i) for i in range(30)], weighted_mean(doubled))["mean"]
    assert apart.upper - apart.lower < 0.85 * (single.upper - single.lower)


def test_mostly_undefined_is_left_out() -> None:
    """A metric that most draws leave undefined gets no interval."""

    def statistic(weights: Floats) -> dict[str, Floats]:
        return {"rare": np.where(weights[:, 0] > 0, 1.0, np.nan), "fine": weights[:, 1]}

    assert set(bootstrap([str(i) for i in range(12)], statistic)) == {"fine"}


def test_coverage() -> None:
    """Of 300 intervals over 30 patients, about 95 in 100 hold the truth (percentile bootstrap: a little fewer)."""
    generator = np.random.default_rng(6)
    names = [str(i) for i in range(30)]
    held = 0
    for _ in range(300):
        spread = bootstrap(names, weighted_mean(generator.normal(0.5, 0.1, 30)), num_draws=400)["mean"]
        held += spread.lower <= 0.5 <= spread.upper
    assert 0.89 <= held / 300 <= 0.98
