"""Error rate of the gate for a model that is worse by exactly the margin, by method of the lower bound.

    python benchmarks/gate_error.py

A method errs if its one-sided 95 % lower bound is above the true difference; 5 in 100 is nominal. Takes seconds.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from medloop.evaluation.intervals.estimate import Floats
from medloop.evaluation.paired_difference import hall_bound, lower_bound, student_bound

MARGIN = 0.02
DRAWS = 4000
METHODS: dict[str, Callable[[Floats], float]] = {
    "Student": student_bound,
    "Hall": hall_bound,
    "the lower of both": lower_bound,
}


def failures(generator: np.random.Generator, size: tuple[int, int]) -> Floats:
    """Draw small differences; for one patient of twelve the candidate loses 0.3 more: skewed to the left."""
    return generator.normal(0, 0.03, size) - 0.3 * (generator.random(size) < 1 / 12) + 0.3 / 12


WORLDS: dict[str, Callable[[np.random.Generator, tuple[int, int]], Floats]] = {
    "normal": lambda generator, size: generator.normal(0, 0.05, size),
    "heavy tails, symmetric (t, 4)": lambda generator, size: 0.05 * generator.standard_t(4, size),
    "skewed left (exponential)": lambda generator, size: 0.05 * (1 - generator.exponential(1, size)),
    "skewed right (exponential)": lambda generator, size: 0.05 * (generator.exponential(1, size) - 1),
    "rare failures (1 in 12)": failures,
}


def main() -> None:
    """Print the table."""
    print(f"| differences | patients | {' | '.join(METHODS)} |")
    print(f"|---|---|{'---|' * len(METHODS)}")
    for name, draw in WORLDS.items():
        for number in (20, 60):
            samples = draw(np.random.default_rng(number), (DRAWS, number)) - MARGIN
            errors = [np.mean([method(row) > -MARGIN for row in samples]) for method in METHODS.values()]
            print(f"| {name} | {number} | {' | '.join(f'{100 * error:.1f}' for error in errors)} |", flush=True)


if __name__ == "__main__":
    main()
