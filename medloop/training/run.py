"""One run of `fit`: its steps, its validations, its checkpoints."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeAlias

import torch
from torch import Tensor, nn
from tqdm import tqdm

from medloop.documents.hyperparameters import Hyperparameters
from medloop.documents.model import Best
from medloop.errors import SettingError, Terminated
from medloop.imaging.device import autocast, best_precision
from medloop.imaging.draws import step_seed
from medloop.imaging.networks import Traits
from medloop.imaging.transfer import to_device
from medloop.training.averaging import WeightAverage
from medloop.training.checkpoint import best_file, restore_weights, save_state
from medloop.training.compute import Compiler, compile_network, make_scaler, restore_scaler, synchronised
from medloop.training.feed import feed
from medloop.training.losses import Share
from medloop.training.memory import explained, largest_that_fits
from medloop.training.optimisation import learning_rate_factor, make_optimiser
from medloop.training.parallel import Parallel
from medloop.training.plan import EpochPlan, Part
from medloop.training.resume import Checkpoints, Manifest, Progress

if TYPE_CHECKING:
    from medloop.training.loop import Task

CHECK_EVERY = 25
"""Steps between two looks at the loss; each look makes the CPU wait for the GPU."""
LONG_VALIDATION = 30.0
"""Seconds of a validation from which on a checkpoint is taken before it."""
Loaded: TypeAlias = tuple[Part, Share, Any]
"""A part of a batch, whose rows count how much, and what `Task.batch` gave."""


@dataclass
class Run:
    """The state of one run.

    Args:
        parallel: The network.
        task: Data, loss and score.
        settings: All hyperparameters.
        traits: How the network is best computed.
        checkpoints: Where the run goes on from.
    """

    parallel: Parallel
    task: Task
    settings: Hyperparameters
    traits: Traits
    checkpoints: Checkpoints
    progress: Progress = field(default_factory=Progress, init=False)
    asked_to_stop: threading.Event = field(default_factory=threading.Event, init=False)
    late: bool = field(default=False, init=False)
    """Whether the time was used up when the last epoch had been trained."""
    _validation_seconds: float = field(default=0.0, init=False)
    _batches: Generator[list[Loaded], None, None] | None = field(default=None, init=False)

    def __post_init__(self) -> None:
        self.ranks, self.device = self.parallel.ranks, self.parallel.device
        self.optimiser = make_optimiser(self.parallel.bare, self.settings)
        self.precision = best_precision(self.device, self.settings.precision)
        if self.precision == "fp16" and self.settings.strategy == "fsdp":  # refused where it is asked for
            self.precision = "fp32"
        self.scaler = make_scaler(self.device, self.precision)
        self.average = WeightAverage(self.parallel.parameters, self.settings.ema) if self.settings.ema else None

    @property
    def model(self) -> nn.Module:
        """The whole network; `finish` gives it the best weights."""
        return self.parallel.plain or self.parallel.bare

    def start(self, asked_to_stop: threading.Event) -> None:
        """Find the batch that fits, or the checkpoint to go on from."""
        self.asked_to_stop = asked_to_stop
        self.progress.batch_size, self.progress.accumulation = self.settings.batch_size, self.settings.accumulation
        found = self.checkpoints.newest()
        if found is not None:
            self._restore(*found)
        elif self.settings.auto_batch:
            self._fit_batch()
        self.plan = self._make_plan()
        self.total_steps = self.settings.epochs * self.plan.steps
        left, suits = self.total_steps - self.progress.total_steps, not synchronised(self.parallel.bare)
        self.compiler = Compiler(self.settings, self.device, left, suits, self.ranks.any)
        self.plan.even = self.compiler.decided
        self._total = torch.tensor(self.progress.loss, dtype=torch.float64, device=self.device)
        self._started, self._saved = time.monotonic() - self.progress.seconds, time.monotonic()
        # One feed for all epochs: the next one's first batches are made while this one is validated.
        self._batches = feed(self._load, range(self.progress.total_steps, self.total_steps), self.device)

    def close(self) -> None:
        """Make no more batches."""
        if self._batches is not None:
            self._batches.close()

    def is_over(self) -> bool:
        """Whether training ends here, and say why."""
        done = self.progress.epoch - 1
        if done == 0 or self.progress.step or done >= self.settings.epochs:
            return done >= self.settings.epochs
        if self.late:
            self._say(f"stopped: max_minutes={self.settings.max_minutes:g} is used up")
            return True
        stale = self.progress.num_stale
        if self.settings.patience and stale >= self.settings.patience:
            self._say(f"stopped early: no better {self.task.metric} in {stale} validations")
            return True
        return False

    def epoch(self) -> dict[str, float]:
        """Train one epoch, or what is left of it, validate where it is due, and return the epoch's row."""
        progress = self.progress
        epoch, rate = progress.epoch, self._rate_at(progress.total_steps - progress.step)
        throughput = self._train(epoch)
        row: dict[str, float] = {"epoch": epoch, "train_loss": self._mean_loss(), "learning_rate": rate}
        row[f"{self.task.unit}_per_second"] = throughput
        due = epoch % self.settings.val_interval == 0 or epoch == self.settings.epochs
        # Asked once an epoch: the time must not run out between here and `is_over`, on an epoch not validated.
        self.late = self.ranks.any(self._is_late())
        if due or self.late:
            row |= self._validate(epoch)
        progress.history.append(row)
        progress.epoch, progress.step, progress.num_samples = epoch + 1, 0, 0
        self._total.zero_()
        return row

    def finish(self, then: Callable[[nn.Module], None] | None = None) -> Best:
        """Load the best weights into the model, on the first process, and do there what comes next with it."""
        self.checkpoints.wait()
        best = self.progress.best
        assert best is not None, "the last epoch is always validated"  # noqa: S101
        if self.ranks.first:
            restore_weights(self.model, best_file(self.checkpoints.folder, best.epoch))
        self.model.eval()
        if self.ranks.first and then:
            with torch.no_grad(), explained(self.settings, self.device), self._eager():
                then(self.model.to(self.device))
        return best

    # Where to begin

    def _restore(self, name: str, manifest: Manifest) -> None:
        self.progress = manifest.progress
        for row in self.progress.history:  # JSON's numbers came back as floats
            row["epoch"] = int(row["epoch"])
        tensors = self._tensors()
        self.checkpoints.load(name, tensors)
        self.parallel.restore(self.optimiser, tensors)
        if self.progress.scaler:
            restore_scaler(self.scaler, self.progress.scaler)
        where = f"epoch {self.progress.epoch}, after {self.progress.step} of its steps"
        self._say(f"resumed from checkpoint {name}: {where}")

    def _make_plan(self) -> EpochPlan:
        size, batch = self.ranks.size, self.progress.batch_size
        if batch < size:
            raise SettingError(
                f"batch_size={batch} is shared by {size} processes; give at least {size}, or fewer processes"
            )
        return EpochPlan(
            self.task.num_samples, batch, self.progress.accumulation, self.settings.seed,
            self.ranks.rank, size, self.task.fewest,
        )  # fmt: skip

    def _fit_batch(self) -> None:
        """Choose batch_size and accumulation by what memory holds; on the CPU, which has no end of it, never more."""
        size, asked = self.ranks.size, self.settings.batch_size
        most = self.task.num_samples if self.device.type == "cuda" else asked
        # Room for the optimiser's state, which its first step takes.
        reserved = [torch.empty_like(weight) for weight in self.parallel.parameters for _ in range(2)]
        with explained(self.settings, self.device):
            rows = int(self.ranks.smallest(largest_that_fits(self._attempt, -(-most // size))))
        del reserved
        whole = rows * size
        self.progress.batch_size, self.progress.accumulation = max(asked, whole), -(-asked // whole)
        found = f"batch_size={self.progress.batch_size}, accumulation={self.progress.accumulation}"
        self._say(f"auto_batch: {rows} {self.task.unit} a process fit at once; {found}")

    def _attempt(self, rows: int) -> None:
        """A forward and backward pass of that many rows, of which nothing stays."""
        statistics = {name: value.clone() for name, value in self.parallel.bare.named_buffers()}
        samples = [row % self.task.num_samples for row in range(max(rows, self.task.fewest))]
        try:
            share = Share.alone(len(samples), self.device)
            with self.parallel.apart(), autocast(self.device, self.precision):
                loss = self.task.loss(self.parallel.bare, self.task.batch(samples, 1), share)
                loss.backward()  # type: ignore[no-untyped-call]
        finally:
            self.optimiser.zero_grad(set_to_none=True)
            for name, value in self.parallel.bare.named_buffers():
                value.copy_(statistics[name])

    # An epoch's steps

    def _train(self, epoch: int) -> float:
        """Train what is left of an epoch; returns samples a second."""
        self.parallel.model.train()
        progress, started = self.progress, time.monotonic()
        before = progress.num_samples
        steps = range(progress.step, self.plan.steps)
        bar = tqdm(
            desc=f"epoch {epoch}", initial=progress.step, total=self.plan.steps, leave=False, unit="batch",
            disable=None if self.ranks.first else True,
        )  # fmt: skip
        assert self._batches is not None, "`start` comes first"  # noqa: S101
        with bar, explained(self.settings, self.device):
            for step in steps:
                parts = next(self._batches)
                num = sum(part.total for part, _, _ in parts)
                self._total += self._step(epoch, parts).double() * num
                progress.step, progress.total_steps = step + 1, progress.total_steps + 1
                progress.num_samples += num
                bar.update()
                if step % CHECK_EVERY == 0:
                    self._check(float(self._total), "the training loss")
                self.between_steps()
        if self.device.type == "cuda":  # steps are asked for long before they are computed
            torch.cuda.synchronize(self.device)
        return (progress.num_samples - before) / max(1e-9, time.monotonic() - started)

    def _load(self, position: int) -> list[Loaded]:
        """This process's rows of a step, counted over the whole run; called ahead of it, from another thread."""
        (done, step), loaded = divmod(position, self.plan.steps), []
        epoch = done + 1
        for part in self.plan.parts(epoch, step):
            weights = to_device(torch.tensor(part.weights), self.device)
            loaded.append((part, Share(weights, part.total, self.ranks), self.task.batch(part.samples, epoch)))
        return loaded

    def _step(self, epoch: int, parts: list[Loaded]) -> Tensor:
        """One optimiser step; returns the batch's loss."""
        progress = self.progress
        for group in self.optimiser.param_groups:
            group["lr"] = self._rate_at(progress.total_steps)
        # Dropout draws from torch's own generator.
        torch.manual_seed(step_seed(self.settings.seed, epoch, progress.step, self.ranks.rank))
        self.optimiser.zero_grad(set_to_none=True)
        value = torch.zeros((), device=self.device)
        for index, (part, share, batch) in enumerate(parts, start=1):
            with self.parallel.last_part(index == len(parts)):
                with autocast(self.device, self.precision):
                    loss = self.task.loss(self.parallel.model, batch, share) * part.fraction
                self.scaler.scale(self.parallel.scale(loss)).backward()
            value = value + loss.detach()
        self._update()
        return value

    def _update(self) -> None:
        if self.settings.clip_norm is not None:
            self.scaler.unscale_(self.optimiser)
            self.parallel.clip(self.settings.clip_norm)
        self.scaler.step(self.optimiser)
        self.scaler.update()
        if self.average is not None:
            self.average.update(self.progress.total_steps + 1)

    def between_steps(self) -> None:
        """Save where it is due, or asked for by SIGTERM, which ends the run; compile where that is due.

        After an epoch's row has been reported, too: what ends here must not take a score with it.

        Raises:
            Terminated: SIGTERM came; there is a checkpoint.
        """
        stop, due = self.asked_to_stop.is_set(), time.monotonic() - self._saved >= 60 * self.settings.checkpoint_minutes
        # What one process is told all must do, or they would wait for one another.
        verdict = self.ranks.largest(2.0 * stop + due)
        if verdict >= 1:
            self._save()
        if verdict >= 2:
            self.checkpoints.wait()
            raise Terminated(
                f"stopped by SIGTERM in epoch {self.progress.epoch} after {self.progress.step} of its steps; "
                "the same job goes on from its checkpoint"
            )
        due = self.compiler.due()
        # One shape only, or the network would be compiled again for an epoch's last, smaller batch.
        self.plan.even = self.compiler.decided
        if due:
            by_block = self.settings.strategy == "fsdp" or self.settings.activation_checkpointing
            compile_network(self.parallel.bare, self.traits, by_block=by_block)

    def _save(self) -> None:
        progress, best = self.progress, self.progress.best
        self.parallel.share_statistics()
        progress.loss, progress.seconds = float(self._total), time.monotonic() - self._started
        progress.scaler = {name: float(value) for name, value in self.scaler.state_dict().items()}
        file = best_file(self.checkpoints.folder, best.epoch) if best else None
        self.checkpoints.save(progress, self._tensors(), file)
        self._saved = time.monotonic()

    @property
    def _averages(self) -> list[Tensor] | None:
        return self.average.averages if self.average else None

    def _tensors(self) -> dict[str, Tensor]:
        return self.parallel.tensors(self.optimiser, self._averages)

    # An epoch's end

    def _mean_loss(self) -> float:
        mean = float(self._total) / max(1, self.progress.num_samples)
        self._check(mean, "the training loss")
        # The last step comes after the last look at the loss.
        self._check(self.parallel.largest_weight(), "a weight")
        return mean

    def _validate(self, epoch: int) -> dict[str, float]:
        """Score the validation split, and keep the weights where they are the best so far."""
        progress = self.progress
        if self._validation_seconds > LONG_VALIDATION:  # SIGTERM may come, and its grace end, before it does
            self._save()
        started, weights = time.monotonic(), self._averages
        computed = autocast(self.device, self.precision)
        memory = explained(self.settings, self.device)
        with self.parallel.validated(weights) as model, torch.no_grad(), computed, memory, self._eager():
            scores = self.task.validate(model)
        value, loss = scores[self.task.metric], scores.get("val_loss", 0.0)
        self._check(value, self.task.metric)
        self._check(loss, "val_loss")
        progress.num_stale = 0 if progress.best is None or value > progress.best.value else progress.num_stale + 1
        # Small validation splits tie often (AUROC 1): the lower loss decides, without renewing the patience.
        if progress.best is None or (value, -loss) > (progress.best.value, -progress.best_loss):
            progress.best, progress.best_loss = Best(epoch=epoch, metric=self.task.metric, value=value), loss
            self._keep_best(epoch, weights)
        self._validation_seconds = self.ranks.largest(time.monotonic() - started)
        return scores

    def _eager(self) -> AbstractContextManager[Any]:
        """Compiled code is made for one shape: validation has many, and would compile for each of them."""
        return torch.compiler.set_stance("force_eager") if self.compiler.done else nullcontext()

    def _keep_best(self, epoch: int, weights: Sequence[Tensor] | None) -> None:
        state, file = self.parallel.whole_state(weights), best_file(self.checkpoints.folder, epoch)
        if self.ranks.first:
            save_state(state, file)
            self.checkpoints.forget_best(file)

    def _rate_at(self, step: int) -> float:
        factor = learning_rate_factor(step, self.total_steps, self.settings.warmup_fraction)
        return self.settings.learning_rate * factor

    def _is_late(self) -> bool:
        limit = self.settings.max_minutes
        return limit is not None and time.monotonic() - self._started >= 60 * limit

    def _check(self, value: float, what: str) -> None:
        if not math.isfinite(value):
            rate = self.settings.learning_rate
            raise SettingError(f"{what} became {value}: training diverged; lower learning_rate (now {rate:g})")

    def _say(self, text: str) -> None:
        if self.ranks.first:
            print(text, flush=True)
