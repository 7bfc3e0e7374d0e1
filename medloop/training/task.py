"""What a task does: its batches, its loss, its validation. The trainer knows nothing else of a task."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol, TypeVar

from torch import Tensor, nn

from medloop.training.losses import Reduction
from medloop.training.tracking.base import Picture

Batch = TypeVar("Batch")
"""What `Task.batch` returns and `Task.loss` takes; the trainer doesn't look into it."""


class Task(Protocol[Batch]):
    """What is trained: data, loss and score. Each process has its own, of the same data."""

    metric: str
    """Name of the validation score that chooses the checkpoint, such as `val_dice`; higher is better."""
    unit: str
    """What is counted: `images` or `volumes`; names the throughput metric."""
    min_rows: int
    """Rows that a forward pass takes at least."""

    @property
    def num_samples(self) -> int:
        """Samples of an epoch, numbered from 0."""

    def batch(self, samples: Sequence[int], epoch: int) -> Batch:
        """Those samples, augmented as (seed, epoch, sample) say, on the device; called from a thread of its own."""

    def loss(self, model: nn.Module, batch: Batch, reduction: Reduction) -> Tensor:
        """Mean loss over the samples of all processes: a scalar, whose gradient is this process's part."""

    def validate(self, model: nn.Module) -> dict[str, float]:
        """Scores on the validation split, `metric` among them, the same on all processes, which divide the cases.

        The trainer has set eval mode and no-grad.
        """

    def pictures(self) -> Mapping[str, Picture]:
        """Pictures by name of what `validate` saw last; asked for only where the score was the best so far."""
