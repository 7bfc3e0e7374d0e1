"""Intervals over patients: against other implementations, with many cases a patient, and without an interval."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import roc_auc_score

from medloop.evaluation.intervals.aurocs import mean_auroc, newcombe
from medloop.evaluation.intervals.estimate import MIN_PATIENTS, Estimate
from medloop.evaluation.intervals.means import mean
from medloop.evaluation.intervals.proportions import median, proportion, wilson


def auroc(positive: np.ndarray, scores: np.ndarray, patients: Sequence[str]) -> Estimate:
    """AUROC of one class."""
    return mean_auroc([(positive, scores)], patients)


def macro_auroc(truth: np.ndarray, probabilities: np.ndarray, patients: Sequence[str]) -> Estimate:
    """AUROC of each class against the rest, their mean."""
    return mean_auroc([(truth == k, probabilities[:, k]) for k in range(probabilities.shape[1])], patients)


Method = Callable[[np.ndarray, Sequence[str]], Estimate]
METHODS: dict[str, Method] = {
    "proportion": lambda values, patients: proportion(values > 0.6, patients),
    "mean": mean,
    "mean of shares": lambda values, patients: mean(values, patients, shares=True),
    "median": median,
    "auroc": lambda values, patients: auroc(np.round(values * 977) % 2 == 0, values, patients),
    "macro auroc": lambda values, patients: macro_auroc(
        (np.round(values * 977) % 3).astype(np.int64), np.stack([values, values**2, 1 - values], 1), patients
    ),
}


def names(number: int) -> list[str]:
    """A patient for each case."""
    return [f"p{i:03d}" for i in range(number)]


def bounds(estimate: Estimate) -> tuple[float, float]:
    """Return the bounds of an estimate that has an interval."""
    assert estimate.interval is not None
    return estimate.interval.lower, estimate.interval.upper


@pytest.mark.parametrize("method", METHODS.values(), ids=METHODS)
def test_two_slices_of_a_patient_count_once(method: Method) -> None:
    """Doubling every case leaves value, error and interval as they are; as separate patients it would be narrower."""
    values = np.random.default_rng(3).random(24)
    single, doubled = method(values, names(24)), method(np.tile(values, 2), names(24) * 2)
    assert (doubled.value, doubled.num_patients, doubled.num_cases) == (pytest.approx(single.value), 24, 48)
    assert bounds(doubled) == pytest.approx(bounds(single))
    assert doubled.standard_error == pytest.approx(single.standard_error)
    apart = bounds(method(np.tile(values, 2), names(48)))
    assert apart[1] - apart[0] < 0.98 * (bounds(single)[1] - bounds(single)[0])
    assert bounds(single)[0] < single.value < bounds(single)[1]


@pytest.mark.parametrize("method", METHODS.values(), ids=METHODS)
def test_few_or_unknown_patients_have_none(method: Method) -> None:
    """Nine patients give no interval, however many cases they have, and ten do; unknown patients neither."""
    values = np.random.default_rng(4).random(90)
    few = method(values, [f"p{i % (MIN_PATIENTS - 1)}" for i in range(90)])
    assert few.interval is None
    assert "9 patients" in few.note
    assert method(values, [f"p{i % MIN_PATIENTS}" for i in range(90)]).interval is not None
    unknown = method(values, [])
    assert (unknown.interval, unknown.num_patients, unknown.num_cases) == (None, None, 90)
    assert "not known" in unknown.note
    assert unknown.value == few.value


@pytest.mark.parametrize("method", [METHODS[name] for name in ("proportion", "mean", "median")])
def test_no_case_has_no_value(method: Method) -> None:
    """Nothing to score is undefined, in so many words."""
    estimate = method(np.array([]), [])
    assert math.isnan(estimate.value)
    assert estimate.statistic("any").value is None
    assert estimate.note


def test_wilson_is_scipys() -> None:
    """The bounds are SciPy's with the normal quantile, and exact at 0 and 1."""
    for hits, number in ((0, 12), (7, 12), (12, 12), (1, 200)):
        expected = stats.binomtest(hits, number).proportion_ci(0.95, "wilson")
        assert wilson(hits / number, number, stats.norm.ppf(0.975)) == pytest.approx(tuple(expected), abs=1e-12)
    assert wilson(1.0, 9, 2.0)[1] == 1.0
    assert wilson(0.0, 9, 2.0)[0] == 0.0


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_a_share_of_all_or_none(share: float) -> None:
    """The interval is that of as many patients, not of as many cases."""
    limits = bounds(proportion(np.full(80, share), names(20) * 4))
    assert limits == pytest.approx(wilson(share, 20, stats.t.ppf(0.975, 19)))


def test_unlike_cases_of_a_patient_are_no_gain() -> None:
    """If each patient has a hit and a miss, the design effect would be 0; it is taken as 1."""
    hits = np.tile([1.0, 0.0], 20)
    assert bounds(proportion(hits, np.repeat(names(20), 2).tolist())) == pytest.approx(
        wilson(0.5, 40, stats.t.ppf(0.975, 19))
    )


def test_median_by_order_statistics() -> None:
    """One case a patient: the bounds are those of scipy's binomial interval, for these numbers."""
    for number in (11, 20, 60):
        values = np.random.default_rng(number).exponential(1, number)
        expected = stats.quantile_test(values, p=0.5).confidence_interval(0.95)
        ordered = np.sort(values).tolist()
        lower, upper = bounds(median(values, names(number)))
        assert abs(ordered.index(lower) - ordered.index(expected.low)) <= 1
        assert abs(ordered.index(upper) - ordered.index(expected.high)) <= 1
        assert median(values, names(number)).value == pytest.approx(np.median(values))


@pytest.mark.parametrize("method", [mean, median])
def test_missing_values_are_left_out_and_infinite_ones_refused(method: Method) -> None:
    """NaN is no value; infinity has no mean."""
    values = np.append(np.random.default_rng(1).random(15), [np.nan] * 3)
    estimate = method(values, names(18))
    assert (estimate.num_cases, estimate.num_patients) == (15, 15)
    assert estimate == method(values[:15], names(15))
    with pytest.raises(ValueError, match="infinite"):
        method(np.append(values, np.inf), names(19))


def test_mean_is_scipys_standard_error() -> None:
    """The linearised error is the standard error of the mean for one case a patient; the interval is skewed as data."""
    values = np.random.default_rng(7).exponential(1, 60)
    estimate = mean(values, names(60))
    assert estimate.standard_error == pytest.approx(stats.sem(values), rel=1e-12)
    lower, upper = bounds(estimate)
    assert upper - estimate.value > 1.1 * (estimate.value - lower)
    boot = stats.bootstrap((values,), np.mean, method="BCa", rng=1, n_resamples=2000).confidence_interval
    assert (lower, upper) == pytest.approx((boot.low, boot.high), rel=0.08)
    assert mean(values, names(60), seed=1) != estimate == mean(values, names(60))


def test_equal_values() -> None:
    """Shares have Wilson's interval at the patients' number; other values have none."""
    assert bounds(mean(np.ones(20), names(20), shares=True)) == pytest.approx(wilson(1.0, 20, stats.t.ppf(0.975, 19)))
    estimate = mean(np.full(20, 0.3), names(20))
    assert estimate.interval is None
    assert "equal" in estimate.note


def test_one_patient_who_differs() -> None:
    """Most draws show no spread: Student's interval for any values, never wider than Wilson's for shares."""
    values = np.append(np.ones(19), 0.0)
    lower, upper = bounds(mean(values, names(20)))
    assert (lower, upper) == pytest.approx(stats.t.interval(0.95, 19, values.mean(), stats.sem(values)))
    assert bounds(mean(values, names(20), shares=True))[0] >= wilson(0.95, 20, stats.t.ppf(0.975, 19))[0]


def test_auroc_is_scikit_learns() -> None:
    """The value is scikit-learn's with ties, and the error DeLong's, by the direct double sum."""
    generator = np.random.default_rng(8)
    positive, scores = generator.random(40) < 0.4, np.round(generator.random(40), 1)
    estimate = auroc(positive, scores, names(40))
    assert estimate.value == pytest.approx(roc_auc_score(positive, scores), abs=1e-12)
    wins = (scores[positive][:, None] > scores[~positive]) + 0.5 * (scores[positive][:, None] == scores[~positive])
    variance = wins.mean(1).var(ddof=1) / positive.sum() + wins.mean(0).var(ddof=1) / (~positive).sum()
    assert estimate.standard_error == pytest.approx(math.sqrt(variance), abs=1e-12)


def test_macro_auroc_of_two_classes_is_the_auroc() -> None:
    """Value, error and interval."""
    generator = np.random.default_rng(9)
    truth, chance = generator.integers(0, 2, 40), generator.random(40)
    macro = macro_auroc(truth, np.stack([1 - chance, chance], 1), names(40))
    single = auroc(truth == 1, chance, names(40))
    assert (macro.value, macro.standard_error) == pytest.approx((single.value, single.standard_error))
    assert bounds(macro) == pytest.approx(bounds(single))


@pytest.mark.parametrize("reverse", [False, True])
def test_a_perfect_ranking(reverse: bool) -> None:
    """Newcombe's bound, and a ranking with one mistake has none nearer to 1; a reversed one mirrors both."""
    positive = np.arange(24) < 9
    scores = np.linspace(0, 1, 24) * (1 if reverse else -1)
    lower, upper = bounds(auroc(positive, scores, names(24)))
    expected = newcombe(1.0, (9, 15))
    assert (lower, upper) == pytest.approx((1 - expected[1], 1 - expected[0]) if reverse else expected)
    assert 0.7 < expected[0] < 0.85
    swapped = scores.copy()
    swapped[[8, 9]] = scores[[9, 8]]
    near = bounds(auroc(positive, swapped, names(24)))
    assert (near[1] >= upper) if reverse else (near[0] <= lower)


def test_an_auroc_without_another_side() -> None:
    """Only one class: undefined; only one patient with the class: a value without interval; constant scores: 0.5."""
    scores = np.random.default_rng(1).random(20)
    assert math.isnan(auroc(np.ones(20, dtype=bool), scores, names(20)).value)
    single = auroc(np.arange(20) == 0, scores, names(20))
    assert single.interval is None
    assert "single patient" in single.note
    level = auroc(np.arange(20) < 8, np.full(20, 0.3), names(20))
    assert level.value == 0.5
    assert bounds(level)[0] < 0.5 < bounds(level)[1]
    assert math.isnan(macro_auroc(np.zeros(20, dtype=np.int64), np.ones((20, 3)), names(20)).value)
