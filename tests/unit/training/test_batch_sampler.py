"""Which process computes which sample: each sample once, for any number of processes."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medloop.training.batch_sampler import BatchSampler, MicroBatch

NUMBERS = st.tuples(st.integers(1, 40), st.integers(1, 12), st.integers(1, 4), st.integers(1, 5), st.integers(1, 2))


def samplers(num: int, batch: int, parts: int, size: int, min_rows: int, *, even: bool = False) -> list[BatchSampler]:
    """Of every process."""
    return [BatchSampler(num, batch, parts, 7, rank, size, min_rows, even) for rank in range(size)]


def samples_of(part: MicroBatch) -> list[int]:
    """Samples that count."""
    return [sample for sample, weight in zip(part.samples, part.weights, strict=True) if weight]


@pytest.mark.slow
@given(NUMBERS, st.booleans())
def test_every_sample_comes_once(numbers: tuple[int, int, int, int, int], even: bool) -> None:
    """Over an epoch the processes' samples are all samples once; totals and fractions say what all of them do."""
    num, batch, parts, _, min_rows = numbers
    everyone = samplers(*numbers, even=even)
    seen: list[int] = []
    for step in range(everyone[0].steps):
        shares = [sampler.micro_batches(1, step) for sampler in everyone]
        assert len({len(share) for share in shares}) == 1, "all processes exchange gradients equally often"
        assert len(shares[0]) <= parts
        assert sum(part.fraction for part in shares[0]) == pytest.approx(1)
        for together in zip(*shares, strict=True):
            samples = [sample for part in together for sample in samples_of(part)]
            assert {part.total for part in together} == {len(samples)}
            assert all(len(part.samples) >= min_rows for part in together)
            seen += samples
        assert len(seen) == min(num, (step + 1) * batch)
    assert sorted(seen) == list(range(num))


@given(NUMBERS)
def test_an_even_plan_has_one_shape(numbers: tuple[int, int, int, int, int]) -> None:
    """A compiled network sees one number of rows only."""
    num, batch, parts, size, min_rows = numbers
    rows = {
        len(part.samples)
        for sampler in samplers(*numbers, even=True)
        for step in range(sampler.steps)
        for part in sampler.micro_batches(1, step)
    }
    assert rows == {max(min_rows, math.ceil(math.ceil(min(batch, num) / parts) / size))}


def test_a_batch_does_not_depend_on_the_processes() -> None:
    """The samples of a step don't depend on how they are divided; another epoch has another order."""
    steps = [BatchSampler(20, 6, parts, 3, 0, size).batch(2, 1).tolist() for parts, size in ((1, 1), (3, 1), (2, 4))]
    assert steps[0] == steps[1] == steps[2]
    assert len(steps[0]) == 6
    sampler = BatchSampler(20, 20, 1, 3)
    assert sampler.batch(1, 0).tolist() != sampler.batch(2, 0).tolist()
    assert sampler.batch(1, 0).tolist() == BatchSampler(20, 20, 1, 3).batch(1, 0).tolist()
