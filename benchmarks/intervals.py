"""How long the intervals of a large test set take.

    OMP_NUM_THREADS=1 python benchmarks/intervals.py

10,000 cases of 10,000 patients, or of 2,500 with four each; 2,000 draws. Seconds of CPU time.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np

from medloop.evaluation.image_statistics import estimate
from medloop.evaluation.intervals.aurocs import macro_auroc
from medloop.evaluation.intervals.means import mean
from medloop.evaluation.intervals.medians import median
from medloop.evaluation.intervals.proportions import proportion
from medloop.evaluation.intervals.resampled import resampled
from medloop.evaluation.operating import operating_points
from medloop.imaging.scores import Floats, resampled_classification

NUM_CASES = 10_000
CLASSES = ("a", "b", "c")


def methods() -> dict[str, Callable[[list[str]], object]]:
    """Each once, on the same cases."""
    generator = np.random.default_rng(0)
    dice, truth = generator.beta(8, 2, NUM_CASES), generator.integers(0, 3, NUM_CASES)
    raw = generator.random((NUM_CASES, 3)) + 0.5 * np.eye(3)[truth]
    chances = raw / raw.sum(axis=1, keepdims=True)

    def overall(weights: Floats) -> dict[str, Floats]:
        return resampled_classification(truth, chances, CLASSES, weights)

    return {
        "mean: studentised bootstrap": lambda patients: mean(dice, patients, shares=True),
        "median": lambda patients: median(dice, patients),
        "proportion": lambda patients: proportion(dice > 0.7, patients),
        "macro AUROC of 3 classes": lambda patients: macro_auroc(truth, chances, patients),
        "BCa of 18 statistics of 3 classes": lambda patients: resampled(overall, NUM_CASES, patients),
        "all of a classifier of 3 classes": lambda patients: estimate(
            truth, chances, CLASSES, patients, operating_points(None, CLASSES)
        ),
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
