"""Which process computes which sample: all of them once, whatever their number."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medloop.training.plan import EpochPlan, Part

NUMBERS = st.tuples(st.integers(1, 40), st.integers(1, 12), st.integers(1, 4), st.integers(1, 5), st.integers(1, 2))


def plans(num: int, batch: int, parts: int, size: int, fewest: int, *, even: bool = False) -> list[EpochPlan]:
    """Of every process."""
    return [EpochPlan(num, batch, parts, 7, rank, size, fewest, even) for rank in range(size)]


def own(part: Part) -> list[int]:
    """Samples that count."""
    return [sample for sample, weight in zip(part.samples, part.weights, strict=True) if weight]


@given(NUMBERS, st.booleans())
def test_every_sample_comes_once(numbers: tuple[int, int, int, int, int], even: bool) -> None:
    """Over an epoch the processes' samples are all samples once; totals and fractions say what all of them do."""
    num, batch, parts, _, fewest = numbers
    everyone = plans(*numbers, even=even)
    seen: list[int] = []
    for step in range(everyone[0].steps):
        shares = [plan.parts(1, step) for plan in everyone]
        assert len({len(share) for share in shares}) == 1, "all processes exchange gradients equally often"
        assert len(shares[0]) <= parts
        assert sum(part.fraction for part in shares[0]) == pytest.approx(1)
        for together in zip(*shares, strict=True):
            found = [sample for part in together for sample in own(part)]
            assert {part.total for part in together} == {len(found)}
            assert all(len(part.samples) >= fewest for part in together)
            seen += found
        assert len(seen) == min(num, (step + 1) * batch)
    assert sorted(seen) == list(range(num))


@given(NUMBERS)
def test_an_even_plan_has_one_shape(numbers: tuple[int, int, int, int, int]) -> None:
    """A compiled network sees one number of rows only."""
    num, batch, parts, size, fewest = numbers
    rows = {
        len(part.samples)
        for plan in plans(*numbers, even=True)
        for step in range(plan.steps)
        for part in plan.parts(1, step)
    }
    assert rows == {max(fewest, math.ceil(math.ceil(min(batch, num) / parts) / size))}


def test_a_batch_is_the_same_whatever_the_processes() -> None:
    """The samples of a step don't depend on how they are divided; another epoch has another order."""
    steps = [EpochPlan(20, 6, parts, 3, 0, size).batch(2, 1).tolist() for parts, size in ((1, 1), (3, 1), (2, 4))]
    assert steps[0] == steps[1] == steps[2]
    assert len(steps[0]) == 6
    plan = EpochPlan(20, 20, 1, 3)
    assert plan.batch(1, 0).tolist() != plan.batch(2, 0).tolist()
    assert plan.batch(1, 0).tolist() == EpochPlan(20, 20, 1, 3).batch(1, 0).tolist()
