"""The training loop of both tasks, on one process or many.

`fit` runs epochs of a `Task` (which knows its data, its loss and its score), keeps the weights with the best validation
score, stops early, and reports every epoch to the log, to the trackers and to the history. A run that was cut off goes
on at the batch where its last checkpoint was taken.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeAlias

import torch
from torch import Tensor, nn

from medloop.container.metrics import report
from medloop.documents.hyperparameters import Hyperparameters
from medloop.documents.model import Best
from medloop.imaging.networks import traits
from medloop.training.compute import prepare_network, prepare_process
from medloop.training.losses import Share
from medloop.training.parallel import parallelise
from medloop.training.ranks import ALONE, Ranks
from medloop.training.resume import Checkpoints, claimed
from medloop.training.run import Run
from medloop.training.seeding import seed_everything
from medloop.training.stopping import catch_sigterm
from medloop.training.tracking.base import Picture
from medloop.training.tracking.open import Tracking

__all__ = ["Batch", "FitResult", "Task", "fit"]

Batch: TypeAlias = Any
"""Opaque to the loop: what `Task.batch` returns and `Task.loss` takes."""
_HOW = {
    "strategy", "processes", "num_workers", "data_device", "channels_last", "compile", "activation_checkpointing",
    "checkpoint_minutes", "keep_checkpoints", "max_minutes", "auto_batch",
}  # fmt: skip
"""Hyperparameters that say how a run is computed; a checkpoint may be gone on from with others."""


class Task(Protocol):
    """What is trained: data, loss and score. Each process has its own, of the same data."""

    metric: str
    """Name of the validation score that chooses the checkpoint, such as `val_dice`; higher is better."""
    unit: str
    """What is counted: `images` or `volumes`; names the throughput metric."""
    fewest: int
    """Rows that a forward pass takes at least."""

    @property
    def num_samples(self) -> int:
        """Samples of an epoch, numbered from 0."""

    def batch(self, samples: Sequence[int], epoch: int) -> Batch:
        """Those samples, augmented as (seed, epoch, sample) say, on the device; called from a thread of its own."""

    def loss(self, model: nn.Module, batch: Batch, share: Share) -> Tensor:
        """Mean loss over the samples of all processes: a scalar, whose gradient is this process's part."""

    def validate(self, model: nn.Module) -> dict[str, float]:
        """Scores on the validation split, `metric` among them, the same on all processes, which divide the cases.

        The loop has set eval mode and no-grad.
        """

    def pictures(self) -> Mapping[str, Picture]:
        """Pictures by name of what `validate` saw last; asked for only where the score was the best so far."""


@dataclass(frozen=True)
class FitResult:
    """What a run came to."""

    best: Best
    history: list[dict[str, float]]
    """One row an epoch: epoch, train_loss, learning_rate, throughput, and scores where it was validated."""
    model: nn.Module
    """Whole; on the first process with the best weights."""


def fit(
    model: nn.Module,
    task: Task,
    settings: Hyperparameters,
    *,
    device: torch.device,
    checkpoint_dir: Path,
    ranks: Ranks | None = None,
    network: str | None = None,
    run: str = "",
    tracking: Tracking | None = None,
    finished: Callable[[nn.Module], None] | None = None,
) -> FitResult:
    """Train until the epochs, the patience or the time are used up; go on from a checkpoint where there is one.

    Args:
        model: Moved to `device`. Seed before you build it (`seed_everything`), so that its first weights repeat too.
        task: Data, loss and score.
        settings: Epochs, learning rate, patience, seed and so on.
        device: Where the task's batches are.
        checkpoint_dir: The best weights and the checkpoints to resume from are kept here.
        ranks: The processes; None is this one alone.
        network: The network's name, where it has one: says how it is best computed.
        run: Names what settings don't: the data, the classes, the first weights. A checkpoint of another is refused.
        tracking: The run on its trackers; None tracks nothing.
        finished: Called on the first process with the best weights, in eval mode and no-grad, before the best score is
            reported, which is to be the last that is.

    Raises:
        SettingError: The loss or the score is no finite number (the message names `learning_rate`), memory ran out, or
            a checkpoint is of another run.
        DataError: A checkpoint doesn't fit.
        TargetError: A folder can't be written to.
        Terminated: SIGTERM came; there is a checkpoint.
    """
    together, known = ranks or ALONE, traits(network)
    seed_everything(settings.seed)
    prepare_process(settings, device)
    prepare_network(model, settings, known, device)
    parallel = parallelise(model, settings, known, device, together)
    with claimed(checkpoint_dir, together) as folder, catch_sigterm() as asked:
        checkpoints = Checkpoints(folder, _identity(settings, run), settings.keep_checkpoints, together)
        state = Run(parallel, task, settings, known, checkpoints)
        with closing(state):
            state.start(asked)
            while not state.is_over():
                row = state.epoch()
                if together.first:
                    report(**row)
                    _track(tracking or Tracking(), state, row)
                state.between_steps()
            best = state.finish(finished)
    if together.first:
        report(**{best.metric: best.value})
    return FitResult(best, state.progress.history, state.model)


def _identity(settings: Hyperparameters, run: str) -> str:
    """A digest of what makes a run what it is."""
    values = {name: value for name, value in settings.model_dump(mode="json").items() if name not in _HOW}
    return hashlib.sha256(json.dumps([values, run], sort_keys=True).encode()).hexdigest()


def _track(tracking: Tracking, run: Run, row: Mapping[str, float]) -> None:
    best, epoch = run.progress.best, int(row["epoch"])
    numbers = {name: value for name, value in row.items() if name != "epoch"}
    if best is not None:
        numbers[f"best_{best.metric}"] = best.value
    tracking.metrics({name: value for name, value in numbers.items() if math.isfinite(value)}, epoch)
    if best is not None and best.epoch == epoch:
        tracking.pictures(run.task.pictures, epoch)
