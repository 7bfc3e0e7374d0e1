"""The power of the gate's comparison."""

from __future__ import annotations

import numpy as np
import pytest

from medloop.evaluation.paired_difference import student_bound
from medloop.evaluation.power import patients_needed, power


def test_power_is_the_share_that_passes() -> None:
    """Against 4,000 simulated comparisons of a model that is exactly as good."""
    draws = np.random.default_rng(0).normal(0, 0.06, (4000, 30))
    passed = np.mean([student_bound(row) >= -0.02 for row in draws])
    assert power(0.06, 30, 0.02) == pytest.approx(passed, abs=0.03)


def test_patients_needed() -> None:
    """The smallest number with a power of 0.8; one fewer has less."""
    number = patients_needed(0.06, 0.02, 20)
    assert number is not None
    assert power(0.06, number, 0.02) >= 0.8 > power(0.06, number - 1, 0.02)


def test_limits() -> None:
    """No spread passes always; no margin, or a million that are too few, is None; never below the minimum."""
    assert (power(0.0, 20, 0.0), power(1e-9, 20, 0.02)) == (1.0, 1.0)
    assert power(0.5, 20, 0.0) == pytest.approx(0.05)
    assert patients_needed(0.0, 0.02, 20) == patients_needed(0.001, 0.02, 20) == 20
    assert patients_needed(0.1, 0.0, 20) is None
    assert patients_needed(1e6, 0.02, 20) is None
