"""The paired difference against naive implementations."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from medloop.evaluation.paired_difference import hall_bound, lower_bound, pair_auroc, pair_dice, student_bound


def naive_delong(positives: list[list[float]], negatives: list[list[float]]) -> tuple[float, float]:
    """Difference of two AUROCs and its variance by DeLong's formula, by loops; one case a patient."""

    def psi(x: float, y: float) -> float:
        return 1.0 if x > y else 0.5 if x == y else 0.0

    m, n = len(positives), len(negatives)
    v10 = [[sum(psi(x[k], y[k]) for y in negatives) / n for x in positives] for k in range(2)]
    v01 = [[sum(psi(x[k], y[k]) for x in positives) / m for y in negatives] for k in range(2)]
    areas = [sum(values) / m for values in v10]
    differences = [a - b for a, b in zip(*v10, strict=True)]
    two = [a - b for a, b in zip(*v01, strict=True)]
    delta = areas[0] - areas[1]
    variance = (
        sum((d - delta) ** 2 for d in differences) / (m - 1) / m + sum((d - delta) ** 2 for d in two) / (n - 1) / n
    )
    return delta, variance


def test_auroc_is_delongs() -> None:
    """Difference, variance and Student's bound, ties among them; each patient has one case."""
    generator = np.random.default_rng(3)
    truth = (generator.random(37) < 0.4).astype(np.int64)
    tables = [np.round(np.clip(0.3 * truth + generator.random(37) * 0.7, 0, 1), 1) for _ in range(2)]
    full = [np.stack([1 - table, table], axis=1) for table in tables]
    pair = pair_auroc(truth, full[0], full[1], [f"p{i}" for i in range(37)], ("no", "yes"))
    assert pair is not None
    cases = [[float(table[i]) for table in tables] for i in range(37)]
    delta, variance = naive_delong(
        [c for c, y in zip(cases, truth, strict=True) if y], [c for c, y in zip(cases, truth, strict=True) if not y]
    )
    assert pair.difference == pytest.approx(delta, abs=1e-6)
    assert pair.values.mean() == pytest.approx(delta, abs=1e-6)
    assert pair.values.var(ddof=1) / 37 == pytest.approx(variance, abs=1e-6)
    expected = delta - stats.t.ppf(0.95, 36) * math.sqrt(variance)
    assert student_bound(pair.values) == pytest.approx(expected, abs=1e-6)


def test_cases_of_one_patient_prove_no_more() -> None:
    """Every case three times, under the same patient: same difference, same variance."""
    generator = np.random.default_rng(4)
    truth = np.arange(30) % 3
    tables = [generator.dirichlet(np.ones(3), 30) + np.eye(3)[truth] * k for k in (0.5, 0.3)]
    patients = [f"p{i:02d}" for i in range(30)]
    once = pair_auroc(truth, tables[0], tables[1], patients, "abc")
    cases = np.repeat(np.arange(30), 3)
    thrice = pair_auroc(truth[cases], tables[0][cases], tables[1][cases], [patients[i] for i in cases], "abc")
    assert once is not None
    assert thrice is not None
    assert thrice.values == pytest.approx(once.values, abs=1e-9)


def test_a_class_of_one_patient_does_not_count() -> None:
    """One patient has no variance."""
    truth = np.array([0, 0, 1, 1, 2])
    table = np.full((5, 3), 1 / 3)
    pair = pair_auroc(truth, table, table, list("abcde"), ("x", "y", "z"))
    assert pair is not None
    assert set(pair.per_class) == {"x", "y"}
    assert pair_auroc(truth[:2], table[:2], table[:2], ["a", "b"], ("x", "y", "z")) is None


def test_dice_by_patients() -> None:
    """A patient with nine cases weighs as one with one; a bound by scipy's paired t."""
    first, second = np.array([[0.9]] * 9 + [[0.5], [0.7]]), np.array([[0.8]] * 9 + [[0.7], [0.75]])
    pair = pair_dice(first, second, ["a"] * 9 + ["b", "c"], ["gland"])
    assert pair is not None
    assert pair.values == pytest.approx([0.1, -0.2, -0.05])
    expected = stats.ttest_rel([0.9, 0.5, 0.7], [0.8, 0.7, 0.75], alternative="greater").confidence_interval(0.95).low
    assert student_bound(pair.values) == pytest.approx(expected, abs=1e-6)
    assert pair_dice(first[:9], second[:9], ["a"] * 9, ["gland"]) is None


def test_bound_of_skewed_differences() -> None:
    """Rare grave failures lower the bound; rare great gains don't raise it; equal differences are their own bound."""
    values = np.array([0.01, 0.0, 0.02, 0.01] * 6 + [-0.4])
    assert lower_bound(values) == hall_bound(values) < student_bound(values)
    assert lower_bound(-values) == student_bound(-values) < hall_bound(-values)
    assert lower_bound(np.full(20, 0.1)) == pytest.approx(0.1)
    assert lower_bound(np.array([0.1, 0.2])) == student_bound(np.array([0.1, 0.2]))


@pytest.mark.parametrize("skewed", [False, True])
def test_bound_errs_about_one_time_in_twenty(skewed: bool) -> None:
    """Twenty patients, and a true difference of 0."""
    generator = np.random.default_rng(5)
    draws = 1 - generator.exponential(1, (1500, 20)) if skewed else generator.normal(0, 1, (1500, 20))
    errors = np.mean([lower_bound(row) > 0 for row in draws])
    assert errors <= (0.085 if skewed else 0.06)
