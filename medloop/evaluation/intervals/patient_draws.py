"""Patients drawn with replacement, each with all of their cases."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from medloop.evaluation.intervals.estimate import Floats

NUM_DRAWS = 2000
_CHUNK_VALUES = 400_000
"""Weights at once: 3 MB, which fit into a processor's cache."""


def draws(num_patients: int, num_cases: int, seed: int = 0, num_draws: int = NUM_DRAWS) -> Iterator[Floats]:
    """Yield the number of times that each patient is drawn: [b, P], some draws at a time, `num_draws` in all."""
    generator = np.random.default_rng(seed)
    chunk = max(1, _CHUNK_VALUES // max(num_patients, num_cases))
    for start in range(0, num_draws, chunk):
        size = min(chunk, num_draws - start)
        drawn = generator.integers(num_patients, size=(size, num_patients))
        drawn += num_patients * np.arange(size)[:, None]
        counts = np.bincount(drawn.ravel(), minlength=size * num_patients)
        yield counts.reshape(size, num_patients).astype(np.float64)
