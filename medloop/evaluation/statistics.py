"""How sure a metric is: the percentile bootstrap over patients.

Cases of one patient resemble each other, so patients are drawn with replacement, each with all of their cases; two
slices of one patient prove no more than one. Fewer than `MIN_PATIENTS` patients carry no interval worth showing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Statistic = Callable[[Floats], dict[str, Floats]]
"""From weights [B, N] of the cases to each metric's values [B]."""
MIN_PATIENTS = 10
LEVEL = 0.95
NUM_DRAWS = 2000
_MIN_DEFINED = 0.9
"""A metric that more than a tenth of the draws leave undefined (a class falls out) gets no interval."""
_CHUNK_VALUES = 4_000_000
"""Weights in memory at once: 32 MB."""


@dataclass(frozen=True)
class Spread:
    """A metric's standard error and its interval at `LEVEL`."""

    standard_deviation: float
    lower: float
    upper: float


def bootstrap(
    patients: Sequence[str], statistic: Statistic, *, seed: int = 0, num_draws: int = NUM_DRAWS
) -> dict[str, Spread]:
    """Draw patients with replacement.

    Args:
        patients: The patient of each of the N cases.
        statistic: Gives the metrics for many weightings of the cases at once.
        seed: The same seed gives the same spread.
        num_draws: How often the patients are drawn.

    Returns:
        Metric name to spread; empty with fewer than `MIN_PATIENTS` patients.
    """
    names, of_case = np.unique(np.asarray(patients), return_inverse=True)
    if len(names) < MIN_PATIENTS:
        return {}
    drawn: dict[str, list[Floats]] = {}
    for counts in _draws(len(names), len(patients), seed, num_draws):
        for name, values in statistic(counts[:, of_case]).items():
            drawn.setdefault(name, []).append(values)
    spreads = {name: _spread(np.concatenate(values)) for name, values in drawn.items()}
    return {name: spread for name, spread in spreads.items() if spread is not None}


def _draws(num_patients: int, num_cases: int, seed: int, num_draws: int) -> Iterator[Floats]:
    """How often each patient was drawn: [b, P], some draws at a time."""
    generator = np.random.default_rng(seed)
    chunk = max(1, _CHUNK_VALUES // num_cases)
    for start in range(0, num_draws, chunk):
        size = min(chunk, num_draws - start)
        yield generator.multinomial(num_patients, np.full(num_patients, 1 / num_patients), size=size).astype(np.float64)


def _spread(values: Floats) -> Spread | None:
    defined = values[np.isfinite(values)]
    if len(defined) < max(2, _MIN_DEFINED * len(values)):
        return None
    tail = (1 - LEVEL) / 2
    lower, upper = np.quantile(defined, [tail, 1 - tail])
    return Spread(float(defined.std(ddof=1)), float(lower), float(upper))
