"""Which samples a process computes in which step.

A batch is what all processes take together in one optimiser step: the same samples, whatever their number. It is
divided into `accumulation` micro-batches, computed one after the other, and each of them among the processes.
Torch-free.
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
    """At least one: a process without a sample computes padding, so that all take part in what is exchanged."""
    weights: list[float]
    """1 of a sample, 0 of padding."""
    total: int
    """Samples of the micro-batch on all processes."""
    fraction: float
    """The micro-batch's share of the batch."""


@dataclass
class BatchSampler:
    """The samples of each step of a run.

    Args:
        num_samples: In an epoch.
        batch_size: Of all processes together; an epoch's last batch may be smaller.
        accumulation: Micro-batches of a batch.
        seed: The run's.
        rank: This process.
        size: Processes.
        min_rows: Rows that a process computes at least, padding included (batch normalisation needs two).
        even: Whether every micro-batch is padded to the same number of rows (a compiled network wants one shape).
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
        """Optimiser steps of an epoch."""
        return -(-self.num_samples // self.batch_size)

    def batch(self, epoch: int, step: int) -> NDArray[np.int64]:
        """All samples of a step (from 0) of an epoch (from 1), in order."""
        if self._order[0] != epoch:
            self._order = epoch, epoch_order(self.seed, epoch, self.num_samples)
        return self._order[1][step * self.batch_size : (step + 1) * self.batch_size]

    def micro_batches(self, epoch: int, step: int) -> list[MicroBatch]:
        """What this process computes in a step."""
        batch = self.batch(epoch, step)
        parts = [part for part in np.array_split(batch, self.accumulation) if len(part)]
        return [self._own_rows(part, len(batch)) for part in parts]

    def _own_rows(self, part: NDArray[np.int64], batch_size: int) -> MicroBatch:
        own = np.array_split(part, self.size)[self.rank].tolist()
        padding = self._padding(max(0, self._num_rows - len(own)), part.tolist(), own)
        weights = [1.0] * len(own) + [0.0] * len(padding)
        return MicroBatch([*own, *padding], weights, len(part), len(part) / batch_size)

    @property
    def _num_rows(self) -> int:
        batch = min(self.batch_size, self.num_samples)
        largest = math.ceil(math.ceil(batch / self.accumulation) / self.size)
        return max(1, self.min_rows, largest if self.even else 0)

    @staticmethod
    def _padding(missing: int, part: Sequence[int], own: Sequence[int]) -> list[int]:
        if not missing:
            return []
        others = [sample for sample in part if sample not in own] or list(part)
        return [others[k % len(others)] for k in range(missing)]
