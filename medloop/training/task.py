"""The interface of a task: its batches, its loss, its validation. The trainer uses nothing else of a task."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol, TypeVar

from torch import Tensor, nn

from medloop.training.losses import Reduction
from medloop.training.tracking.base import Picture

Batch = TypeVar("Batch")
"""The result of `TrainingTask.batch` and an argument of `TrainingTask.loss`; the trainer doesn't read it."""


class TrainingTask(Protocol[Batch]):
    """Data, loss and score of a training. Each process has its own task, of the same data."""

    metric: str
    """Name of the validation score that chooses the checkpoint, such as `val_dice`; higher is better."""
    unit: str
    """`images` or `volumes`; the name of the throughput metric begins with it."""
    min_rows: int
    """Minimum of rows of a forward pass."""

    @property
    def samples_per_unit(self) -> int:
        """Number of samples that an epoch takes of an image or a volume: the patches of a volume."""

    @property
    def num_samples(self) -> int:
        """Number of samples of an epoch; they are numbered from 0."""

    def batch(self, samples: Sequence[int], epoch: int) -> Batch:
        """Make a batch on the device, augmented by (seed, epoch, sample); called from a background thread."""

    def loss(self, model: nn.Module, batch: Batch, reduction: Reduction) -> Tensor:
        """Compute the mean loss over the samples of all processes, with the gradient of this process's part."""

    def validate(self, model: nn.Module) -> dict[str, float]:
        """Compute scores on the validation split, `metric` among them; processes divide the cases and get equal scores.

        The trainer has set eval mode and no-grad.
        """

    def pictures(self) -> Mapping[str, Picture]:
        """Draw pictures of the last validation, by name; called only if its score was the best so far."""
