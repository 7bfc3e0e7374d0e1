"""The training loop of both tasks.

`fit` runs epochs of a `Task` (which knows its data, its loss and its score), keeps the checkpoint with the best
validation score, stops early, and reports every epoch to the log, to the trackers and to the history.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, TypeAlias

import torch
from torch import Tensor, nn
from tqdm import tqdm

from medloop.container.metrics import report
from medloop.errors import SettingError
from medloop.training.checkpoint import BEST_FILE, restore_weights, save_weights, write_model
from medloop.training.model_record import Best
from medloop.training.optimisation import make_optimiser, make_schedule
from medloop.training.seeding import autocast, seed_everything
from medloop.training.settings import Hyperparameters
from medloop.training.tracking.base import Picture
from medloop.training.tracking.open import Tracking

__all__ = ["Batch", "FitResult", "Task", "fit", "write_model"]

Batch: TypeAlias = Any
"""Opaque to the loop: what `Task.batches` yields and `Task.loss` takes."""
CHECK_EVERY = 25
"""Batches between two looks at the loss; each look makes the CPU wait for the GPU."""


class Task(Protocol):
    """What is trained: data, loss and score."""

    metric: str
    """Name of the validation score that chooses the checkpoint, such as `val_dice`; higher is better."""
    unit: str
    """What is counted: `images` or `volumes`; names the throughput metric."""

    @property
    def steps_per_epoch(self) -> int:
        """How many batches `batches` yields."""

    def batches(self, epoch: int) -> Iterable[Batch]:
        """Augmented training batches, on the device; `epoch` counts from 1."""

    def loss(self, model: nn.Module, batch: Batch) -> tuple[Tensor, int]:
        """Mean loss over the batch's samples (a scalar with gradient), and their number."""

    def validate(self, model: nn.Module) -> dict[str, float]:
        """Scores on the validation split, `metric` among them; the loop has set eval mode and no-grad."""

    def pictures(self) -> Mapping[str, Picture]:
        """Pictures by name of what `validate` saw last; asked for only where the score was the best so far."""


@dataclass(frozen=True)
class FitResult:
    """What a run came to."""

    best: Best
    history: list[dict[str, float]]
    """One row an epoch: epoch, train_loss, learning_rate, throughput, and scores where it was validated."""


def fit(
    model: nn.Module,
    task: Task,
    settings: Hyperparameters,
    *,
    device: torch.device,
    checkpoint_dir: Path,
    tracking: Tracking | None = None,
) -> FitResult:
    """Train until the epochs, the patience or the time are used up; the model ends with the best weights.

    Args:
        model: Moved to `device`. Seed before you build it (`seed_everything`), so that its first weights repeat too.
        task: Data, loss and score.
        settings: Epochs, learning rate, patience, seed and so on.
        device: Where the task's batches are.
        checkpoint_dir: The best checkpoint is kept here.
        tracking: The run on its trackers; None tracks nothing.

    Raises:
        SettingError: The loss or the score is no finite number; the message names `learning_rate`.
        TargetError: A folder can't be written to.
    """
    seed_everything(settings.seed)
    run = _Run(model.to(device), task, settings, device, checkpoint_dir / BEST_FILE)
    for epoch in range(1, settings.epochs + 1):
        row = run.epoch(epoch)
        report(**row)
        _track(tracking or Tracking(), run, row, epoch)
        if run.is_over():
            break
    best = run.finish()
    report(**{best.metric: best.value})
    return FitResult(best, run.history)


@dataclass
class _Run:
    """The state of one run of `fit`."""

    model: nn.Module
    task: Task
    settings: Hyperparameters
    device: torch.device
    checkpoint: Path
    best: Best | None = None
    best_key: tuple[float, float] | None = None
    """The best score, and the negative of its val_loss."""
    num_stale: int = 0
    """Validations since the best one."""
    history: list[dict[str, float]] = field(default_factory=list)
    late: bool = False
    """Whether the time was used up when the last epoch had been trained."""
    started: float = field(default_factory=time.monotonic)

    def __post_init__(self) -> None:
        self.optimiser = make_optimiser(self.model, self.settings, self.device)
        self.schedule = make_schedule(self.optimiser, self.settings, self.task.steps_per_epoch)

    def epoch(self, epoch: int) -> dict[str, float]:
        """Train one epoch, validate where it is due, and return the epoch's row."""
        learning_rate = float(self.optimiser.param_groups[0]["lr"])
        loss, throughput = self._train(epoch)
        row: dict[str, float] = {"epoch": epoch, "train_loss": loss, "learning_rate": learning_rate}
        row[f"{self.task.unit}_per_second"] = throughput
        due = epoch % self.settings.val_interval == 0 or epoch == self.settings.epochs
        # Asked once an epoch: the time must not run out between here and `is_over`, on an epoch not validated.
        self.late = self._is_late()
        if due or self.late:
            row |= self._validate(epoch)
        self.history.append(row)
        return row

    def is_over(self) -> bool:
        """Whether training ends here, and say why."""
        if self.late:
            print(f"stopped: max_minutes={self.settings.max_minutes:g} is used up", flush=True)
            return True
        if self.settings.patience and self.num_stale >= self.settings.patience:
            print(f"stopped early: no better {self.task.metric} in {self.num_stale} validations", flush=True)
            return True
        return False

    def finish(self) -> Best:
        """Load the best weights into the model."""
        assert self.best is not None, "the last epoch is always validated"  # noqa: S101
        restore_weights(self.model, self.checkpoint)
        self.model.eval()
        return self.best

    def _is_late(self) -> bool:
        limit = self.settings.max_minutes
        return limit is not None and time.monotonic() - self.started >= 60 * limit

    def _train(self, epoch: int) -> tuple[float, float]:
        """Return the loss averaged over samples, and samples per second."""
        self.model.train()
        total, num_samples, started = torch.zeros((), device=self.device), 0, time.monotonic()
        batches = tqdm(
            self.task.batches(epoch),
            f"epoch {epoch}",
            self.task.steps_per_epoch,
            disable=None,
            leave=False,
            unit="batch",
        )
        for step, batch in enumerate(batches):
            with autocast(self.device, self.settings.precision):
                loss, size = self.task.loss(self.model, batch)
            self._step(loss)
            total += loss.detach().float() * size
            num_samples += size
            if step % CHECK_EVERY == 0:
                self._check(float(total), "the training loss")
        mean = float(total) / max(1, num_samples)
        self._check(mean, "the training loss")
        # The last step comes after the last look at the loss.
        self._check(_largest_weight(self.model), "a weight")
        return mean, num_samples / max(1e-9, time.monotonic() - started)

    def _step(self, loss: Tensor) -> None:
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimiser.step()
        self.schedule.step()

    def _validate(self, epoch: int) -> dict[str, float]:
        """Score the validation split, and keep the weights where they are the best so far."""
        self.model.eval()
        with torch.no_grad(), autocast(self.device, self.settings.precision):
            scores = self.task.validate(self.model)
        value = scores[self.task.metric]
        self._check(value, self.task.metric)
        self._check(scores.get("val_loss", 0.0), "val_loss")
        # Small validation splits tie often (AUROC 1): the lower loss decides, without renewing the patience.
        key = (value, -scores.get("val_loss", 0.0))
        self.num_stale = 0 if self.best is None or value > self.best.value else self.num_stale + 1
        if self.best_key is None or key > self.best_key:
            self.best_key, self.best = key, Best(epoch=epoch, metric=self.task.metric, value=value)
            save_weights(self.model, self.checkpoint)
        return scores

    def _check(self, value: float, what: str) -> None:
        if not math.isfinite(value):
            rate = self.settings.learning_rate
            raise SettingError(f"{what} became {value}: training diverged; lower learning_rate (now {rate:g})")


@torch.no_grad()
def _largest_weight(model: nn.Module) -> float:
    """Magnitude of the largest weight or running statistic; NaN where one is NaN."""
    values = [value.abs().max().float() for value in model.state_dict().values() if value.is_floating_point()]
    return float(torch.stack(values).max())


def _track(tracking: Tracking, run: _Run, row: Mapping[str, float], epoch: int) -> None:
    numbers = {name: value for name, value in row.items() if name != "epoch"}
    if run.best is not None:
        numbers[f"best_{run.best.metric}"] = run.best.value
    tracking.metrics(numbers, epoch)
    if run.best is not None and run.best.epoch == epoch:
        tracking.pictures(run.task.pictures, epoch)
