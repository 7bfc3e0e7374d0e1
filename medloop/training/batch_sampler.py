"""The samples of each process in each step.

A batch contains the samples of one optimiser step on all processes, regardless of their number. It is divided into
`accumulation` micro-batches, which are computed one after the other; each is divided among the processes. Torch-free.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from medloop.imaging.draws import epoch_order


@dataclass(frozen=True)
class MicroBatch:
    """One process's rows of a micro-batch."""

    samples: list[int]
    """At least one: a process without a sample computes padding, because all processes exchange gradients."""
    weights: list[float]
    """1 of a sample, 0 of padding."""
    total: int
    """Number of samples of the micro-batch on all processes."""
    fraction: float
    """The micro-batch's share of the batch."""


@dataclass
class BatchSampler:
    """The samples of each step of a run.

    Args:
        num_samples: Samples of an epoch.
        batch_size: Samples of a batch on all processes; an epoch's last batch may be smaller.
        accumulation: Micro-batches of a batch.
        seed: Seed of the run.
        rank: Number of this process.
        size: Number of processes.
        min_rows: Minimum of rows of a process, including padding (batch normalisation needs two).
        even: True to pad every micro-batch to the same number of rows (a compiled network needs one shape).
    """

    num_samples: int
    batch_size: int
    accumulation: int
    seed: int
    rank: int = 0
    size: int = 1
    min_rows: int = 1
    even: bool = False
    _order: tuple[int, NDArray[np.int64]] = field(default=(0, np.zeros(0, np.int64)), init=False, repr=False)

    @property
    def steps(self) -> int:
        """Number of optimiser steps of an epoch."""
        return -(-self.num_samples // self.batch_size)

    def batch(self, epoch: int, step: int) -> NDArray[np.int64]:
        """Return all samples of a step (from 0) of an epoch (from 1), in order."""
        if self._order[0] != epoch:
            self._order = epoch, epoch_order(self.seed, epoch, self.num_samples)
        return self._order[1][step * self.batch_size : (step + 1) * self.batch_size]

    def micro_batches(self, epoch: int, step: int) -> list[MicroBatch]:
        """Return the micro-batches of this process in a step."""
        batch = self.batch(epoch, step)
        parts = [part for part in np.array_split(batch, self.accumulation) if len(part)]
        return [self._rank_rows(part, len(batch)) for part in parts]

    def _rank_rows(self, part: NDArray[np.int64], batch_size: int) -> MicroBatch:
        rows = np.array_split(part, self.size)[self.rank].tolist()
        padding = self._padding(max(0, self._num_rows - len(rows)), part.tolist(), rows)
        weights = [1.0] * len(rows) + [0.0] * len(padding)
        return MicroBatch([*rows, *padding], weights, len(part), len(part) / batch_size)

    @property
    def _num_rows(self) -> int:
        batch = min(self.batch_size, self.num_samples)
        largest = math.ceil(math.ceil(batch / self.accumulation) / self.size)
        return max(1, self.min_rows, largest if self.even else 0)

    @staticmethod
    def _padding(missing: int, part: Sequence[int], rows: Sequence[int]) -> list[int]:
        if not missing:
            return []
        candidates = [sample for sample in part if sample not in rows] or list(part)
        return [candidates[k % len(candidates)] for k in range(missing)]
