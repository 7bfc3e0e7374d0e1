"""Computation time of the intervals of a large test set.

    OMP_NUM_THREADS=1 python benchmarks/intervals.py

10,000 cases of 10,000 patients, or of 2,500 with four each; 2,000 draws. Seconds of CPU time.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np

from medloop.evaluation.image_metrics import WeightedImages
from medloop.evaluation.intervals.aurocs import mean_auroc
from medloop.evaluation.intervals.bootstrap import bca_bootstrap
from medloop.evaluation.intervals.estimate import Floats
from medloop.evaluation.intervals.means import mean
from medloop.evaluation.intervals.proportions import median, proportion
from medloop.evaluation.measure import measure
from medloop.evaluation.metrics import METRICS
from medloop.evaluation.operating_points import operating_points
from medloop.evaluation.scored_cases import ScoredImages

NUM_CASES = 10_000
CLASSES = ("a", "b", "c")
BOOTSTRAPPED = [
    (metric, k)
    for metric in METRICS
    if metric.interval is bca_bootstrap
    for k in (None, 0, 1, 2)
    if metric.scope in ("both", "overall" if k is None else "class")
]


def methods() -> dict[str, Callable[[list[str]], object]]:
    """Return the methods by name, all on the same cases."""
    generator = np.random.default_rng(0)
    dice, truth = generator.beta(8, 2, NUM_CASES), generator.integers(0, 3, NUM_CASES)
    raw = generator.random((NUM_CASES, 3)) + 0.5 * np.eye(3)[truth]
    chances = raw / raw.sum(axis=1, keepdims=True)

    def scored(patients: list[str]) -> ScoredImages:
        return ScoredImages([], CLASSES, truth, chances, patients, operating_points(None, CLASSES))

    def overall(weights: Floats) -> dict[tuple[str, int | None], Floats]:
        drawn = WeightedImages(truth, chances, weights)
        return {(metric.name, k): metric.function(drawn, k) for metric, k in BOOTSTRAPPED}

    return {
        "mean: studentised bootstrap": lambda patients: mean(dice, patients, shares=True),
        "median": lambda patients: median(dice, patients),
        "proportion": lambda patients: proportion(dice > 0.7, patients),
        "macro AUROC of 3 classes": lambda patients: mean_auroc(
            [(truth == k, chances[:, k]) for k in range(3)], patients
        ),
        f"BCa of {len(BOOTSTRAPPED)} statistics of 3 classes": lambda patients: bca_bootstrap(
            overall, NUM_CASES, patients
        ),
        "all of a classifier of 3 classes": lambda patients: measure(scored(patients)),
    }


def main() -> None:
    """Print the table."""
    print("| | 10,000 patients, s | 2,500 patients, s |")
    print("|---|---|---|")
    for name, method in methods().items():
        seconds = []
        for number in (NUM_CASES, NUM_CASES // 4):
            patients = [f"p{i % number}" for i in range(NUM_CASES)]
            start = time.process_time()
            method(patients)
            seconds.append(f"{time.process_time() - start:.2f}")
        print(f"| {name} | {' | '.join(seconds)} |", flush=True)


if __name__ == "__main__":
    main()
