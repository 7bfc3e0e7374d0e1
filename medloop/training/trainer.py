"""The training loop of both tasks, on one process or many.

`Trainer.fit` trains epochs of a `TrainingTask`, validates, keeps the weights with the best score, stops early, and
reports every epoch to the log, to the trackers and to the history. Between two steps it saves a checkpoint where one is
due; SIGTERM ends the run with one. An interrupted run resumes at the batch where its newest checkpoint was taken.
"""

from __future__ import annotations

import hashlib
import json
import math
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Generic

import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from tqdm import tqdm

from medloop.container.metrics import report
from medloop.documents.hyperparameters import Hyperparameters
from medloop.documents.model import Best
from medloop.documents.networks import traits
from medloop.errors import SettingError, Terminated
from medloop.imaging.device import to_device
from medloop.imaging.draws import step_seed
from medloop.training.auto_batch import choose_batch_size
from medloop.training.batch_sampler import BatchSampler, MicroBatch
from medloop.training.checkpoint import CheckpointWriter, EpochRow, Manifest, RunProgress
from medloop.training.compilation import Compiler, compile_network, synchronised
from medloop.training.compute import prepare_network, prepare_process, seed_everything
from medloop.training.losses import Reduction
from medloop.training.memory import translate_oom
from medloop.training.optimisation import Optimisation
from medloop.training.parallel import parallelise
from medloop.training.prefetch import prefetch
from medloop.training.ranks import ALONE, Ranks
from medloop.training.resume import load_checkpoint, lock_checkpoint_dir, newest_checkpoint
from medloop.training.spot_interruption import catch_sigterm
from medloop.training.task import Batch, TrainingTask
from medloop.training.tracking.open import Tracking
from medloop.training.weights import best_file, save_state

CHECK_EVERY = 25
"""Steps between two checks of the loss; each check makes the CPU wait for the GPU."""
LONG_VALIDATION = 30.0
"""A checkpoint is saved before a validation that takes more than these seconds."""
_COMPUTE_SETTINGS = {
    "strategy", "processes", "num_workers", "data_device", "channels_last", "compile", "activation_checkpointing",
    "checkpoint_minutes", "keep_checkpoints", "max_minutes", "auto_batch",
}  # fmt: skip
"""Hyperparameters that change how a run is computed, not its result; a resumed run may have others."""


@dataclass(frozen=True)
class FitResult:
    """The result of a run."""

    best: Best
    history: list[EpochRow]
    """One row per epoch: epoch, train_loss, learning_rate, throughput, and scores if it was validated."""
    model: nn.Module
    """The whole network; on the first process with the best weights."""


class Trainer(Generic[Batch]):
    """The training of a network on a task: one run.

    Args:
        model: Moved to `device`. Call `seed_everything` before building it: its first weights are random, too.
        task: Data, loss and score.
        settings: Epochs, learning rate, patience, seed and others.
        device: Device of the task's batches.
        checkpoint_dir: Folder of the best weights and the checkpoints.
        ranks: The processes.
        network: The network's name, if it has one, for its layout and blocks.
        identity: Text about the data, the classes and the first weights. A checkpoint with another one is refused.
        tracking: The run on its trackers; None tracks nothing.
    """

    def __init__(
        self,
        model: nn.Module,
        task: TrainingTask[Batch],
        settings: Hyperparameters,
        *,
        device: torch.device,
        checkpoint_dir: Path,
        ranks: Ranks = ALONE,
        network: str | None = None,
        identity: str = "",
        tracking: Tracking | None = None,
    ) -> None:
        self.task, self.settings, self.device, self.ranks = task, settings, device, ranks
        self.checkpoint_dir, self.run = checkpoint_dir, _digest(settings, identity)
        self.tracking = tracking or Tracking()
        self.traits = traits(network)
        self.progress = RunProgress(batch_size=settings.batch_size, accumulation=settings.accumulation)
        seed_everything(settings.seed)
        prepare_process(settings, device)
        prepare_network(model, settings, self.traits, device)
        self.parallel = parallelise(model, settings, self.traits, device, ranks)
        self.optimisation = Optimisation(self.parallel, settings)
        self._out_of_time = False
        self._validation_seconds = 0.0

    def fit(self, on_finish: Callable[[nn.Module], None] | None = None) -> FitResult:
        """Train until the epochs, the patience or the time are used up; resume from a checkpoint where there is one.

        Args:
            on_finish: Called on the first process with the best weights, in eval mode and no-grad, before the best
                score is reported, which must be the last line with a score.

        Raises:
            SettingError: The loss or the score is not finite (the message names `learning_rate`), memory ran out,
                or a checkpoint is of another run.
            DataError: A checkpoint doesn't fit.
            TargetError: A folder can't be written to.
            Terminated: SIGTERM was received; a checkpoint is saved.
        """
        with lock_checkpoint_dir(self.checkpoint_dir, self.ranks) as folder, catch_sigterm() as self._sigterm:
            self._start(folder)
            with closing(self._batches):
                while not self._is_over():
                    self._report(self._run_epoch())
                    self._between_steps()
                best = self._finish(on_finish)
        if self.ranks.first:
            report(**{best.metric: best.value})
        return FitResult(best, self.progress.history, self.parallel.full_model)

    def _start(self, folder: Path) -> None:
        """Resume from a checkpoint or choose the batch size; start to prefetch batches."""
        self._checkpoints = CheckpointWriter(folder, self.run, self.settings.keep_checkpoints, self.ranks)
        newest = newest_checkpoint(folder, self.run, self.ranks)
        if newest is not None:
            self._resume(folder, *newest)
        elif self.settings.auto_batch:
            chosen = choose_batch_size(self.task, self.parallel, self.optimisation, self.settings)
            self.progress.batch_size, self.progress.accumulation = chosen
        self.sampler = self._make_sampler()
        total_steps = self.settings.epochs * self.sampler.steps
        self.optimisation.total_steps = total_steps
        steps_left, suits = total_steps - self.progress.total_steps, not synchronised(self.parallel.module)
        self.compiler = Compiler(self.settings, self.device, steps_left, suits, self.ranks.any)
        self.sampler.even = self.compiler.decided
        self._loss_sum = torch.tensor(self.progress.loss, dtype=torch.float64, device=self.device)
        self._started, self._saved = time.monotonic() - self.progress.seconds, time.monotonic()
        # One generator for all epochs: the next epoch's first batches are made during validation.
        self._batches = prefetch(self._load, range(self.progress.total_steps, total_steps), self.device)

    def _resume(self, folder: Path, name: str, manifest: Manifest) -> None:
        self.progress = manifest.progress
        tensors = self.optimisation.tensors()
        load_checkpoint(folder / name, tensors, self.ranks)
        self.optimisation.restore(tensors, self.progress.scaler)
        position = f"epoch {self.progress.epoch}, after {self.progress.step} of its steps"
        self.ranks.print_once(f"resumed from checkpoint {name}: {position}")

    def _make_sampler(self) -> BatchSampler:
        size, batch = self.ranks.size, self.progress.batch_size
        if batch < size:
            raise SettingError(
                f"batch_size={batch} is less than {size} processes; set at least {size}, or fewer processes"
            )
        return BatchSampler(
            self.task.num_samples, batch, self.progress.accumulation, self.settings.seed,
            self.ranks.rank, size, self.task.min_rows,
        )  # fmt: skip

    def _is_over(self) -> bool:
        """True if training ends now; prints the reason for an early end."""
        done = self.progress.epoch - 1
        if done == 0 or self.progress.step or done >= self.settings.epochs:
            return done >= self.settings.epochs
        if self._out_of_time:
            self.ranks.print_once(f"stopped: max_minutes={self.settings.max_minutes:g} is over")
            return True
        stale = self.progress.num_stale
        if self.settings.patience and stale >= self.settings.patience:
            self.ranks.print_once(f"stopped early: no better {self.task.metric} in {stale} validations")
            return True
        return False

    def _run_epoch(self) -> EpochRow:
        """Train one epoch, or the rest of it, validate if it is due, and return the epoch's row."""
        progress = self.progress
        epoch, rate = progress.epoch, self.optimisation.learning_rate(progress.total_steps - progress.step)
        throughput = self._train(epoch)
        row: EpochRow = {"epoch": epoch, "train_loss": self._mean_loss(), "learning_rate": rate}
        row[f"{self.task.unit}_per_second"] = throughput / self.task.samples_per_unit
        due = epoch % self.settings.val_interval == 0 or epoch == self.settings.epochs
        # Checked once per epoch: an epoch after which the time is over must be validated.
        limit = self.settings.max_minutes
        self._out_of_time = self.ranks.any(limit is not None and time.monotonic() - self._started >= 60 * limit)
        if due or self._out_of_time:
            row |= self._validate(epoch)
        progress.history.append(row)
        progress.epoch, progress.step, progress.num_samples = epoch + 1, 0, 0
        self._loss_sum.zero_()
        return row

    def _report(self, row: EpochRow) -> None:
        if not self.ranks.first:
            return
        report(**row)
        best, epoch = self.progress.best, int(row["epoch"])
        numbers = {name: value for name, value in row.items() if name != "epoch"}
        if best is not None:
            numbers[f"best_{best.metric}"] = best.value
        self.tracking.metrics({name: value for name, value in numbers.items() if math.isfinite(value)}, epoch)
        if best is not None and best.epoch == epoch:
            self.tracking.pictures(self.task.pictures, epoch)

    def _finish(self, on_finish: Callable[[nn.Module], None] | None) -> Best:
        """Load the best weights into the network, on the first process, and call `on_finish` there."""
        self._checkpoints.wait()
        best, model = self.progress.best, self.parallel.full_model
        assert best is not None, "the last epoch is always validated"  # noqa: S101
        if self.ranks.first:
            model.load_state_dict(load_file(best_file(self._checkpoints.folder, best.epoch)))
        model.eval()
        if self.ranks.first and on_finish:
            with torch.no_grad(), translate_oom(self.settings, self.device), self.compiler.eager():
                on_finish(model.to(self.device))
        return best

    # An epoch's steps

    def _train(self, epoch: int) -> float:
        """Train the rest of an epoch; returns samples per second."""
        self.parallel.model.train()
        progress, started = self.progress, time.monotonic()
        before = progress.num_samples
        bar = tqdm(
            desc=f"epoch {epoch}", initial=progress.step, total=self.sampler.steps, leave=False, unit="batch",
            disable=None if self.ranks.first else True,
        )  # fmt: skip
        with bar, translate_oom(self.settings, self.device):
            for step in range(progress.step, self.sampler.steps):
                parts = next(self._batches)
                num = sum(part.total for part, _, _ in parts)
                self._loss_sum += self._step(epoch, parts).double() * num
                progress.step, progress.total_steps = step + 1, progress.total_steps + 1
                progress.num_samples += num
                bar.update()
                if step % CHECK_EVERY == 0:
                    self._check(float(self._loss_sum), "the training loss")
                self._between_steps()
        if self.device.type == "cuda":  # kernels run asynchronously
            torch.cuda.synchronize(self.device)
        return (progress.num_samples - before) / max(1e-9, time.monotonic() - started)

    def _load(self, position: int) -> list[tuple[MicroBatch, Reduction, Batch]]:
        """Load this process's rows of a step, counted over the whole run; called in advance, from another thread."""
        (done, step), loaded = divmod(position, self.sampler.steps), []
        epoch = done + 1
        for part in self.sampler.micro_batches(epoch, step):
            weights = to_device(torch.tensor(part.weights), self.device)
            loaded.append((part, Reduction(weights, part.total, self.ranks), self.task.batch(part.samples, epoch)))
        return loaded

    def _step(self, epoch: int, parts: Sequence[tuple[MicroBatch, Reduction, Batch]]) -> Tensor:
        """Do one optimiser step; returns the batch's loss."""
        progress = self.progress
        self.optimisation.begin_step(progress.total_steps)
        # Dropout uses torch's global generator.
        torch.manual_seed(step_seed(self.settings.seed, epoch, progress.step, self.ranks.rank))
        value = torch.zeros((), device=self.device)
        for index, (part, reduction, batch) in enumerate(parts, start=1):
            with self.parallel.gradient_sync(index == len(parts)):
                with self.optimisation.autocast():
                    loss = self.task.loss(self.parallel.model, batch, reduction) * part.fraction
                self.optimisation.backward(loss)
            value = value + loss.detach()
        self.optimisation.end_step(progress.total_steps)
        return value

    def _between_steps(self) -> None:
        """Save a checkpoint if it is due or SIGTERM was received, which ends the run; compile if it is due.

        Called after an epoch's row is reported, too: a run that ends then must not lose its score.

        Raises:
            Terminated: SIGTERM was received; a checkpoint is saved.
        """
        stop = self._sigterm.is_set()
        due = time.monotonic() - self._saved >= 60 * self.settings.checkpoint_minutes
        # All processes must do the same, or they would wait for one another forever.
        verdict = self.ranks.largest(2.0 * stop + due)
        if verdict >= 1:
            self._save()
        if verdict >= 2:
            self._checkpoints.wait()
            raise Terminated(
                f"stopped by SIGTERM in epoch {self.progress.epoch} after {self.progress.step} of its steps; "
                "the same job resumes from its checkpoint"
            )
        compile_now = self.compiler.due()
        # All batches get one shape, or the smaller last batch of an epoch would be compiled separately.
        self.sampler.even = self.compiler.decided
        if compile_now:
            by_block = self.settings.strategy == "fsdp" or self.settings.activation_checkpointing
            compile_network(self.parallel.module, self.traits, by_block=by_block)

    def _save(self) -> None:
        progress, best = self.progress, self.progress.best
        self.parallel.average_statistics()
        progress.loss, progress.seconds = float(self._loss_sum), time.monotonic() - self._started
        progress.scaler = self.optimisation.scaler_state()
        file = best_file(self._checkpoints.folder, best.epoch) if best else None
        self._checkpoints.save(progress, self.optimisation.tensors(), file)
        self._saved = time.monotonic()

    # An epoch's end

    def _mean_loss(self) -> float:
        mean = float(self._loss_sum) / max(1, self.progress.num_samples)
        self._check(mean, "the training loss")
        # The loss doesn't contain the effect of the last step.
        self._check(self.parallel.largest_weight(), "a weight")
        return mean

    def _validate(self, epoch: int) -> dict[str, float]:
        """Score the validation split, and save the weights if they are the best so far."""
        if self._validation_seconds > LONG_VALIDATION:  # SIGTERM's grace period may end before the validation
            self._save()
        started, averages = time.monotonic(), self.optimisation.averages
        precision, memory = self.optimisation.autocast(), translate_oom(self.settings, self.device)
        with self.parallel.eval_model(averages) as model, torch.no_grad(), precision, memory, self.compiler.eager():
            scores = self.task.validate(model)
        value, loss = scores[self.task.metric], scores.get("val_loss", 0.0)
        self._check(value, self.task.metric)
        self._check(loss, "val_loss")
        if self.progress.record_score(Best(epoch=epoch, metric=self.task.metric, value=value), loss):
            self._keep_best(epoch, averages)
        self._validation_seconds = self.ranks.largest(time.monotonic() - started)
        return scores

    def _keep_best(self, epoch: int, averages: Sequence[Tensor] | None) -> None:
        state, file = self.parallel.full_state(averages), best_file(self._checkpoints.folder, epoch)
        if self.ranks.first:
            save_state(state, file)
            self._checkpoints.delete_old_best(file)

    def _check(self, value: float, quantity: str) -> None:
        if not math.isfinite(value):
            rate = self.settings.learning_rate
            raise SettingError(f"{quantity} became {value}: training diverged; lower learning_rate (now {rate:g})")


def _digest(settings: Hyperparameters, identity: str) -> str:
    """Compute the digest of a run; checkpoints with another one are refused."""
    values = {name: value for name, value in settings.model_dump(mode="json").items() if name not in _COMPUTE_SETTINGS}
    return hashlib.sha256(json.dumps([values, identity], sort_keys=True).encode()).hexdigest()
