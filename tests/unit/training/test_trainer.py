"""The training loop, through `Trainer.fit`, on a network of two weights."""

from __future__ import annotations

import csv
import itertools
import math
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from medloop.documents.hyperparameters import Hyperparameters
from medloop.errors import SettingError, TargetError
from medloop.imaging.draws import Draws
from medloop.training.losses import Reduction
from medloop.training.tracking.base import Picture, RunInfo
from medloop.training.tracking.open import tracking
from medloop.training.trainer import FitResult, Trainer

CPU = torch.device("cpu")


class LineTask:
    """Fit y = x; scores by epoch are scripted, or the negative error."""

    metric = "val_dice"
    unit = "volumes"
    samples_per_unit = 1
    min_rows = 1

    def __init__(self, num_samples: int = 8, scores: list[float] | None = None, seed: int = 0) -> None:
        self.num_samples, self.scores, self.seed = num_samples, scores, seed
        self.losses = [0.0] * 100
        self.seen: list[Tensor] = []
        self.weights: list[Tensor] = []

    def batch(self, samples: Sequence[int], epoch: int) -> Tensor:
        """Inputs [N, 1], remembered in `seen`."""
        self.seen.append(Draws(self.seed, epoch, samples).normal((1,), CPU))
        return self.seen[-1]

    def loss(self, model: nn.Module, batch: Tensor, reduction: Reduction) -> Tensor:
        """Mean squared error."""
        return reduction.mean((model(batch) - batch).square()[:, 0])

    def validate(self, model: nn.Module) -> dict[str, float]:
        """Remember the weight in `weights`, and score."""
        assert not model.training
        assert not torch.is_grad_enabled()
        self.weights.append(model.weight.detach().clone())
        index = len(self.weights) - 1
        score = self.scores[index] if self.scores else -float((model.weight - 1).abs().detach())
        return {"val_dice": score, "val_loss": self.losses[index]}

    def pictures(self) -> dict[str, Picture]:
        """One dot."""
        return {"dot": np.zeros((2, 2, 3), np.uint8)}


def train(task: LineTask, folder: Path, **settings: object) -> tuple[FitResult, nn.Linear]:
    """Fit a seeded line; return the result and the model."""
    torch.manual_seed(0)
    model = nn.Linear(1, 1)
    hyperparameters = Hyperparameters.model_validate({"learning_rate": 0.05, "batch_size": 4, **settings})
    task.seed = hyperparameters.seed
    info = RunInfo("segmentation", {}, "code", "data", {"MEDLOOP_TENSORBOARD_DIR": str(folder / "tb")})
    with tracking(info, folder) as run:
        result = Trainer(
            model, task, hyperparameters, device=CPU, checkpoint_dir=folder / "checkpoints", tracking=run
        ).fit()
    return result, model


def test_the_model_ends_with_the_best_weights(tmp_path: Path) -> None:
    """The second of four epochs scored best: its weights come back, and `best` names it."""
    task = LineTask(scores=[0.1, 0.9, 0.3, 0.2])
    result, model = train(task, tmp_path, epochs=4)
    assert (result.best.epoch, result.best.metric, result.best.value) == (2, "val_dice", 0.9)
    assert torch.equal(model.weight, task.weights[1])
    assert not torch.equal(model.weight, task.weights[3])


def test_equal_scores_are_decided_by_the_loss(tmp_path: Path) -> None:
    """A small validation split reaches its best score early; the epoch with the lowest loss is the better one."""
    task = LineTask(scores=[1.0, 1.0, 1.0])
    task.losses = [0.5, 0.2, 0.4]
    assert train(task, tmp_path, epochs=3)[0].best.epoch == 2


def test_patience_counts_validations(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Two validations without a better score end the run, and the log says why."""
    task = LineTask(scores=[0.5, 0.6, 0.6, 0.1, 0.9])
    result, _ = train(task, tmp_path, epochs=5, patience=2)
    assert [row["epoch"] for row in result.history] == [1, 2, 3, 4]
    assert "stopped early: no better val_dice in 2 validations" in capsys.readouterr().out


def test_patience_zero_never_stops(tmp_path: Path) -> None:
    """With patience 0 every epoch runs, however bad."""
    assert len(train(LineTask(scores=[0.9] + [0.1] * 14), tmp_path, epochs=15, patience=0)[0].history) == 15


def test_validates_at_the_interval_and_at_the_end(tmp_path: Path) -> None:
    """The last epoch is validated even where the interval would skip it."""
    result, _ = train(LineTask(), tmp_path, epochs=5, val_interval=2)
    assert [row["epoch"] for row in result.history if "val_dice" in row] == [2, 4, 5]


def test_max_minutes_ends_after_the_epoch_with_a_validation(tmp_path: Path) -> None:
    """Time runs out in the first epoch: it is validated although not due, and there is a model."""
    result, _ = train(LineTask(), tmp_path, epochs=50, val_interval=10, max_minutes=1e-9)
    assert len(result.history) == 1
    assert result.best.epoch == 1


def test_loss_is_a_mean_over_samples(tmp_path: Path) -> None:
    """A batch of one counts a seventh of a batch of seven."""
    task = LineTask(8)
    result, _ = train(task, tmp_path, epochs=1, batch_size=7, learning_rate=1e-12)
    torch.manual_seed(0)
    model = nn.Linear(1, 1)
    samples = torch.cat(task.seen)
    expected = float((model(samples) - samples).square().mean().detach())
    assert result.history[0]["train_loss"] == pytest.approx(expected, rel=1e-5)


def test_learning_rate_warms_up_then_falls_as_a_cosine(tmp_path: Path) -> None:
    """Ten steps, one an epoch, four of them warm-up."""
    result, _ = train(LineTask(2), tmp_path, epochs=10, warmup_fraction=0.4, learning_rate=1.0)
    rates = [row["learning_rate"] for row in result.history]
    cosine = [0.5 * (1 + math.cos(math.pi * k / 6)) for k in range(6)]
    assert rates == pytest.approx([0.25, 0.5, 0.75, 1.0, *cosine])


def test_the_same_seed_gives_the_same_run(tmp_path: Path) -> None:
    """Data and weights repeat with the seed, and differ with another."""
    runs = [train(LineTask(), tmp_path / str(k), epochs=3, seed=seed) for k, seed in enumerate((5, 5, 6))]
    first, again, other = ([row["train_loss"] for row in result.history] for result, _ in runs)
    assert first == again
    assert torch.equal(runs[0][1].weight, runs[1][1].weight)
    assert first != other


@pytest.mark.parametrize("learning_rate", [1e30])
def test_divergence_names_the_learning_rate(tmp_path: Path, learning_rate: float) -> None:
    """A loss that is not finite ends the run with a fix, not with a useless model."""
    with pytest.raises(SettingError, match=r"training loss became (nan|inf).*lower learning_rate \(now 1e\+30\)"):
        train(LineTask(), tmp_path, epochs=5, warmup_fraction=0, learning_rate=learning_rate)


def test_a_score_that_is_no_number_is_refused(tmp_path: Path) -> None:
    """A checkpoint can't be chosen by NaN."""
    with pytest.raises(SettingError, match="val_dice became nan"):
        train(LineTask(scores=[math.nan]), tmp_path, epochs=1)


def test_metrics_are_printed_each_epoch_and_the_best_last(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Tuning reads the last value of the objective: it must be the best one, not the last epoch's."""
    train(LineTask(scores=[0.7, 0.2]), tmp_path, epochs=2)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 3
    assert lines[1].startswith("epoch=2; train_loss=")
    assert "volumes_per_second=" in lines[1]
    assert lines[2] == "val_dice=0.7;"


def test_throughput_counts_volumes_and_not_their_patches(tmp_path: Path) -> None:
    """Two volumes with four patches each; each of the four batches takes 0.05 s at least."""

    class SlowTask(LineTask):
        samples_per_unit = 4

        def batch(self, samples: Sequence[int], epoch: int) -> Tensor:
            time.sleep(0.05)
            return super().batch(samples, epoch)

    history = train(SlowTask(num_samples=8), tmp_path, epochs=2, batch_size=2)[0].history
    assert all(0 < row["volumes_per_second"] <= 2 / 0.1 for row in history)


def test_tensorboard_gets_event_files(tmp_path: Path) -> None:
    """Every run leaves event files with the epoch's scores."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    result, _ = train(LineTask(), tmp_path, epochs=3)
    events = EventAccumulator(str(tmp_path / "tb"))
    events.Reload()
    assert [e.value for e in events.Scalars("val_dice")] == pytest.approx([r["val_dice"] for r in result.history])


def test_history_csv_leaves_blank_what_was_not_validated(tmp_path: Path) -> None:
    """One row an epoch; columns of scores are empty where the epoch wasn't validated."""
    from medloop.training.weights import write_history

    result, _ = train(LineTask(), tmp_path, epochs=2, val_interval=2)
    write_history(tmp_path / "history.csv", result.history)
    rows = list(csv.DictReader((tmp_path / "history.csv").open()))
    assert [row["val_dice"] == "" for row in rows] == [True, False]
    assert float(rows[0]["train_loss"]) == result.history[0]["train_loss"]


class LastStep(LineTask):
    """One batch, whose loss is finite and whose step is not."""

    def loss(self, model: nn.Module, batch: Tensor, reduction: Reduction) -> Tensor:
        """A finite value with an infinite gradient."""
        value = model(batch).mean()
        return (value - value.detach()).mul(1e30).mul(1e30)


def test_weights_that_diverge_in_the_last_step_are_no_model(tmp_path: Path) -> None:
    """The last step comes after the last loss: weights of NaN must not become the best checkpoint."""
    with pytest.raises(SettingError, match="a weight became nan: training diverged; lower learning_rate"):
        train(LastStep(4, scores=[0.5]), tmp_path, epochs=1)
    assert not list((tmp_path / "checkpoints").glob("best-*"))


def test_a_validation_loss_that_is_no_number_is_refused(tmp_path: Path) -> None:
    """A Dice is finite even where every logit is NaN; the loss is not."""
    task = LineTask(scores=[0.5])
    task.losses[0] = math.nan
    with pytest.raises(SettingError, match="val_loss became nan"):
        train(task, tmp_path, epochs=1)


def test_time_that_runs_out_between_two_looks_ends_after_a_validation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The clock passes the limit after an epoch that was not due for validation: the next one is validated."""
    start, looks = time.monotonic(), itertools.count()
    monkeypatch.setattr(time, "monotonic", lambda: start + next(looks))
    for limit in range(1, 12):
        looks = itertools.count()
        result, _ = train(LineTask(), tmp_path / str(limit), epochs=9, val_interval=9, max_minutes=(limit + 0.5) / 60)
        assert "val_dice" in result.history[-1]


def test_a_checkpoint_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    """A folder in the file's place (as good as a full disk) is a user's error that names the checkpoint."""
    (tmp_path / "checkpoints" / ".best-00001.safetensors.partial").mkdir(parents=True)
    with pytest.raises(TargetError, match=r"best-00001\.safetensors: can't be written"):
        train(LineTask(), tmp_path, epochs=1)
