"""Interrupted runs resume, and end with the weights of a run without interruption."""

from __future__ import annotations

import hashlib
import json
import os
import pickle
import shutil
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from medloop.errors import DataError, SettingError, TargetError, Terminated
from medloop.training.checkpoint import CheckpointWriter, RunProgress
from medloop.training.ranks import ALONE, Ranks
from medloop.training.resume import lock_checkpoint_dir
from tests.unit.training.distributed import on_ranks
from tests.unit.training.killing import finish_with_kills
from tests.unit.training.resumable import run, state

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Tensor]:
    """The weights of a run that nothing cut off."""
    return state(run(tmp_path_factory.mktemp("whole")))


@pytest.fixture
def stopped(tmp_path: Path) -> Path:
    """The folder of a run that was stopped in its third epoch, with its two newest checkpoints."""
    with pytest.raises(Terminated):
        run(tmp_path, stop_at=14)
    return tmp_path


def steps(folder: Path) -> list[int]:
    """Steps after which there is a checkpoint, oldest first."""
    return sorted(int(path.name.removeprefix("step-")) for path in folder.glob("step-*"))


def assert_equal(first: dict[str, Tensor], second: dict[str, Tensor]) -> None:
    """Bit for bit."""
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_resume_leads_to_the_same_weights(stopped: Path, uninterrupted: dict[str, Tensor], capsys: Any) -> None:
    """Stopped in the middle of an epoch: the weights are those of a whole run, to the last bit."""
    assert_equal(state(run(stopped)), uninterrupted)
    assert "resumed from checkpoint step-" in capsys.readouterr().out


def test_sigterm_leaves_a_checkpoint_within_two_steps(tmp_path: Path) -> None:
    """The signal comes while a batch is made (ahead of its step); at most two steps later the run has ended, saved."""
    with pytest.raises(Terminated, match=r"stopped by SIGTERM in epoch 1 .* resumes from its checkpoint"):
        run(tmp_path, stop_at=3, checkpoint_minutes=100)  # accumulation 2: the third batch belongs to the second step
    assert len(steps(tmp_path)) == 1
    assert steps(tmp_path)[0] <= 2


def test_killed_at_a_random_instant(tmp_path: Path, uninterrupted: dict[str, Tensor]) -> None:
    """SIGKILL at a random instant; another process resumes, to the same weights."""
    for seed in range(20):  # a run of a second may end before its instant when other work delays the kill
        num_kills, weights = finish_with_kills(tmp_path / str(seed), num_kills=1, seed=seed, epochs=4)
        assert_equal(weights, uninterrupted)
        if num_kills:
            return
    pytest.fail("every run ended before it could be killed")


def test_a_signal_in_a_validation_loses_no_score(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The epoch's row is in the log, then the run ends; resumed, the history has it once, numbered as an integer."""
    with pytest.raises(Terminated):
        run(tmp_path, stop_in_validation=2)
    assert [line.split(";")[0] for line in capsys.readouterr().out.splitlines() if "train_loss" in line] == [
        "epoch=1", "epoch=2",
    ]  # fmt: skip
    result = run(tmp_path)
    assert [str(row["epoch"]) for row in result.history] == ["1", "2", "3", "4"]


def test_keeps_the_newest(stopped: Path) -> None:
    """Two by default; and of the best weights those that a checkpoint or the run still needs."""
    assert len(steps(stopped)) == 2
    assert not list(stopped.glob(".step-*"))
    assert 1 <= len(list(stopped.glob("best-*.safetensors"))) <= 2


def truncate(checkpoint: Path) -> None:
    """Cut a file of tensors."""
    shard = next(checkpoint.glob("*.safetensors"))
    shard.write_bytes(shard.read_bytes()[:-7])


def flip_last(path: Path) -> None:
    """Change one bit near the end."""
    data = bytearray(path.read_bytes())
    data[-3] ^= 1
    path.write_bytes(data)


def flip(checkpoint: Path) -> None:
    """Change one bit."""
    flip_last(next(checkpoint.glob("*.safetensors")))


def pickled(checkpoint: Path) -> None:
    """Something that would run code if it were loaded as torch.load did for long."""
    next(checkpoint.glob("*.safetensors")).write_bytes(pickle.dumps({"model": 1}))


def garble(checkpoint: Path) -> None:
    """A manifest that is no JSON."""
    (checkpoint / "checkpoint.json").write_text("{" * 5000)


def lie(checkpoint: Path) -> None:
    """A manifest of another shape."""
    (checkpoint / "checkpoint.json").write_text(json.dumps({"version": 1, "progress": {"epoch": -1}}))


def lose(checkpoint: Path) -> None:
    """No manifest."""
    (checkpoint / "checkpoint.json").unlink()


def add(checkpoint: Path) -> None:
    """A file too many."""
    shutil.copyfile(next(checkpoint.glob("*.safetensors")), checkpoint / "shard-00009-x.safetensors")


def empty(checkpoint: Path) -> None:
    """Nothing."""
    for path in checkpoint.iterdir():
        path.unlink()


@pytest.mark.parametrize("damage", [truncate, flip, pickled, garble, lie, lose, add, empty])
def test_a_torn_checkpoint_is_named_and_skipped(
    stopped: Path, uninterrupted: dict[str, Tensor], damage: Callable[[Path], None], capsys: pytest.CaptureFixture[str]
) -> None:
    """The one before it serves; the end is the same."""
    older, newer = steps(stopped)
    damage(stopped / f"step-{newer:09d}")
    assert_equal(state(run(stopped)), uninterrupted)
    output = capsys.readouterr().out
    assert f"checkpoint step-{newer:09d}: " in output
    assert f"resumed from checkpoint step-{older:09d}" in output


def test_without_a_complete_checkpoint_training_starts_from_scratch(
    stopped: Path, uninterrupted: dict[str, Tensor]
) -> None:
    """All of them torn: it is logged, and only time is lost."""
    for step in steps(stopped):
        truncate(stopped / f"step-{step:09d}")
    assert_equal(state(run(stopped)), uninterrupted)


def test_a_checkpoint_of_another_run_is_refused(stopped: Path) -> None:
    """Resuming with other settings would give an undescribed model; settings of the computation may change."""
    with pytest.raises(SettingError, match=r"checkpoint step-\d+: of a run with other settings.*; set another"):
        run(stopped, learning_rate=0.02)
    run(stopped, keep_checkpoints=1, num_workers=3)


def test_a_checkpoint_of_another_version_is_refused(stopped: Path) -> None:
    """By name, with its version."""
    manifest = stopped / f"step-{steps(stopped)[-1]:09d}" / "checkpoint.json"
    manifest.write_text(json.dumps(json.loads(manifest.read_text()) | {"version": 0}))
    with pytest.raises(SettingError, match=r"version 0, this code writes 1; set another"):
        run(stopped)


def test_missing_best_weights_make_a_checkpoint_torn(stopped: Path, uninterrupted: dict[str, Tensor]) -> None:
    """A checkpoint without its best weights is torn."""
    for path in stopped.glob("best-*.safetensors"):
        path.unlink()
    assert_equal(state(run(stopped)), uninterrupted)


def test_best_weights_of_another_run_make_a_checkpoint_torn(stopped: Path, uninterrupted: dict[str, Tensor]) -> None:
    """The file of the best weights is of another job, which wrote to the same S3 prefix."""
    for path in stopped.glob("best-*.safetensors"):
        flip_last(path)
    assert_equal(state(run(stopped)), uninterrupted)


def test_two_equal_runs_at_once_keep_apart(
    tmp_path: Path, uninterrupted: dict[str, Tensor], capsys: pytest.CaptureFixture[str]
) -> None:
    """The second one finds the folder in use: it says so, touches nothing there, and ends with the same weights."""
    with lock_checkpoint_dir(tmp_path, ALONE) as mine:
        assert mine == tmp_path
        assert_equal(state(run(tmp_path)), uninterrupted)
        assert "is in use by an equal run" in capsys.readouterr().out
        assert [path.name for path in tmp_path.iterdir()] == [".lock"]
    assert_equal(state(run(tmp_path)), uninterrupted)
    assert steps(tmp_path)


def test_a_full_disk_is_one_line(tmp_path: Path) -> None:
    """A file where the folder should be, as good as a full disk."""
    target = tmp_path / "checkpoints"
    target.write_text("")
    with pytest.raises((TargetError, DataError), match="can't be written"):
        run(target)


PLAIN: dict[str, Any] = {"dropout": 0.0, "dtype": torch.float64}
"""Dropout is each process's own; float64 tells a wrong sum from rounding."""


def _stop(folder: Path, ranks: Ranks, strategy: str) -> None:
    with pytest.raises(Terminated):
        run(folder, ranks, stop_at=10, strategy=strategy, **PLAIN)


def _on_two(ranks: Ranks, folder: Path) -> dict[str, dict[str, Tensor]]:
    """Stop a run of two, and resume a stopped run of one."""
    states = {}
    for strategy in ("ddp", "fsdp"):
        _stop(folder / f"two {strategy}", ranks, strategy)
        states[strategy] = state(run(folder / f"one {strategy}", ranks, strategy=strategy, **PLAIN))
    return states


def test_another_number_of_processes_resumes(tmp_path: Path) -> None:
    """One process resumes a checkpoint of two, to the weights of one process; and two resume a checkpoint of one."""
    expected = state(run(tmp_path / "whole", **PLAIN))
    for strategy in ("ddp", "fsdp"):
        _stop(tmp_path / f"one {strategy}", ALONE, "single")
    both = on_ranks(2, tmp_path / "out", _on_two, tmp_path)
    for strategy in ("ddp", "fsdp"):
        assert steps(tmp_path / f"two {strategy}")
        resumed = state(run(tmp_path / f"two {strategy}", **PLAIN))
        for name, value in expected.items():
            torch.testing.assert_close(resumed[name], value, atol=1e-9, rtol=0)
            torch.testing.assert_close(both[0][strategy][name], value, atol=1e-9, rtol=0)


def _save_on_two_hosts(ranks: Ranks, folder: Path) -> str:
    """As on two hosts of one process each: a folder each, the best weights on the first only; the manifest's digest."""
    rank_folder = folder / str(ranks.rank)
    rank_folder.mkdir()
    best = rank_folder / "best-00001.safetensors"
    if ranks.first:
        best.write_bytes(b"weights")
    checkpoints = CheckpointWriter(rank_folder, "run", 2, replace(ranks, local_rank=0, local_size=1))
    checkpoints.save(RunProgress(total_steps=1), {"w": torch.ones(3)}, best)
    checkpoints.wait()
    manifest = json.loads((rank_folder / "step-000000001" / "checkpoint.json").read_text())
    return str(manifest["best_sha256"])


def test_manifests_of_two_hosts_are_one(tmp_path: Path) -> None:
    """The service copies each host's to one place in S3, where either may stay."""
    first, second = on_ranks(2, tmp_path / "out", _save_on_two_hosts, tmp_path)
    assert first == second == hashlib.sha256(b"weights").hexdigest()


def test_sigterm_before_and_after_is_as_it_was(tmp_path: Path) -> None:
    """The handler is the run's only while it trains."""
    before = signal.getsignal(signal.SIGTERM)
    run(tmp_path, epochs=1)
    assert signal.getsignal(signal.SIGTERM) is before
    assert os.getpid()
