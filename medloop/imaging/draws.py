"""Random numbers as a function of (seed, epoch, sample).

A sample's numbers depend on nothing else: not on the batch it is in, nor on the process that computes it, nor on what
was drawn before. So a run that resumes from a checkpoint needs no generator's state, and any number of processes draws
what one process would.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Generator, Tensor

_ORDER, _SAMPLE, _STEP = range(3)
"""Purposes of numbers: the first element of their key."""


def epoch_order(seed: int, epoch: int, num_samples: int) -> NDArray[np.int64]:
    """The order in which an epoch takes its samples: a permutation of 0 to `num_samples` - 1."""
    return _generator(_ORDER, seed, epoch).permutation(num_samples)


def step_seed(seed: int, epoch: int, step: int, rank: int) -> int:
    """A seed for torch's global generator, from which dropout draws, before a step."""
    return int(_generator(_STEP, seed, epoch, step, rank).integers(2**63))


class Draws:
    """The numbers of one batch; the n-th call for a sample gives the same numbers in every batch.

    Args:
        seed: The run's.
        epoch: Counts from 1.
        samples: The batch's samples of the epoch.
    """

    def __init__(self, seed: int, epoch: int, samples: Sequence[int]) -> None:
        self._generators = [_generator(_SAMPLE, seed, epoch, sample) for sample in samples]

    def __len__(self) -> int:
        return len(self._generators)

    def uniform(self, low: float, high: float, num: int = 1) -> Tensor:
        """Between the bounds: [N, num] float32, on the CPU."""
        drawn = np.stack([generator.uniform(low, high, num) for generator in self._generators])
        return torch.from_numpy(drawn.astype(np.float32))

    def chance(self, probability: float) -> Tensor:
        """True with that probability: [N] bool, on the CPU."""
        return torch.tensor([generator.random() < probability for generator in self._generators])

    def below(self, index: int, bound: int) -> int:
        """Draw for one sample of the batch, by its row: an integer from 0 to `bound` - 1."""
        return int(self._generators[index].integers(bound))

    def normal(self, shape: Sequence[int], device: torch.device, chosen: Sequence[int] | None = None) -> Tensor:
        """Standard normal numbers, made on the device, whose kind they depend on: a GPU's are others than the CPU's.

        Args:
            shape: Of one sample.
            device: Where they are needed.
            chosen: Rows of the batch; None takes all.

        Returns:
            [N, *shape] float32 for the N chosen.
        """
        rows = range(len(self)) if chosen is None else chosen
        source, numbers = Generator(device), torch.empty((len(rows), math.prod(shape)), device=device)
        for drawn, row in zip(numbers, rows, strict=True):
            source.manual_seed(int(self._generators[row].integers(2**63)))
            drawn.normal_(generator=source)
        return numbers.view(-1, *shape)


def _generator(*key: int) -> np.random.Generator:
    return np.random.Generator(np.random.Philox(np.random.SeedSequence(key)))
