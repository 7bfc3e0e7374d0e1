"""The benchmarks run in a tiny size and print rows of finite numbers. Nothing is timed."""

from __future__ import annotations

import importlib
import math
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def import_path() -> Iterator[None]:
    """Put the benchmarks on the import path, and restore torch's settings after the test."""
    threads = torch.get_num_threads()
    sys.path.insert(0, str(BENCHMARKS))
    yield
    sys.path.remove(str(BENCHMARKS))
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(mode=False)


def run(name: str, capsys: pytest.CaptureFixture[str], *arguments: str) -> list[dict[str, str]]:
    """Run a benchmark, and return the rows of its tables by column."""
    importlib.import_module(name).main(list(arguments))
    rows: list[dict[str, str]] = []
    columns: list[str] = []
    for line in capsys.readouterr().out.splitlines():
        if not line.startswith("|"):
            columns = []
        elif not line.startswith("|---"):
            cells = [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
            rows += [dict(zip(columns, cells, strict=True))] if columns else []
            columns = columns or cells
    return rows


def numbers(rows: list[dict[str, str]], column: str) -> list[float]:
    """The numbers of a column, without empty cells."""
    values = [float(row[column]) for row in rows if row.get(column)]
    assert all(math.isfinite(value) and value > 0 for value in values)
    return values


@pytest.mark.parametrize("network", [pytest.param("unet", marks=pytest.mark.soak), "resnet18"])
def test_train_throughput(network: str, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """Three loops, two of them compared with ours; the profile has its groups."""
    arguments = ["--size", "tiny", "--networks", network, "--minutes", "0.01", "--profile", "--data", str(tmp_path)]
    rows = run("train_throughput", capsys, *arguments)
    assert len(numbers(rows, "samples/s")) == 3
    assert len(numbers(rows, "ours / it")) == 2
    assert len(numbers(rows, "GFLOP a sample")) == 3
    assert "convolution" in [row.get("group") for row in rows]


@pytest.mark.soak
def test_time_to_score(capsys: pytest.CaptureFixture[str]) -> None:
    """Both sides are trained and scored for each seed."""
    arguments = ["--size", "tiny", "--network", "resnet18", "--epochs", "2", "--seeds", "0", "1"]
    rows = [row for row in run("time_to_score", capsys, *arguments) if "seed" in row]
    assert len(numbers(rows, "best score")) == 4


@pytest.mark.soak
def test_time_to_score_of_volumes(capsys: pytest.CaptureFixture[str]) -> None:
    """Dice is at the original resolution; three epochs of two volumes may leave it at 0."""
    arguments = ["--size", "tiny", "--network", "unet", "--epochs", "3", "--seeds", "0", "--score", "2"]
    rows = [row for row in run("time_to_score", capsys, *arguments) if "seed" in row]
    assert [0 <= float(row["best score"]) <= 1 for row in rows] == [True, True]
    assert [row["seconds to the score"] for row in rows] == ["", ""]


@pytest.mark.soak
def test_scaling(capsys: pytest.CaptureFixture[str]) -> None:
    """Each of two processes has about half of the weights and optimiser state."""
    rows = run("scaling", capsys, "--size", "tiny", "--network", "unet", "--ranks", "2", "--strategies", "fsdp")
    assert len(numbers(rows, "samples/s")) == 2
    mebibytes = numbers(rows, "weights and optimiser, MiB a process")
    assert mebibytes[1] <= 0.55 * mebibytes[0]


def test_sliding_window(capsys: pytest.CaptureFixture[str]) -> None:
    """Ours and MONAI's probabilities agree."""
    rows = run("sliding_window", capsys, "--size", "tiny", "--networks", "unet", "--repeats", "1", "--at-once", "3")
    assert len(numbers(rows, "MONAI / it")) == len(rows) == 6
    assert all(float(row["largest difference"]) <= 1e-4 for row in rows)


def test_layouts(capsys: pytest.CaptureFixture[str]) -> None:
    """There is a ratio for the network, and for each up-sampling in both layouts."""
    rows = run("layouts", capsys, "--size", "tiny", "--networks", "resnet18", "--threads", "1", "--seconds", "0.1")
    assert len(numbers(rows, "plain / channels last")) == 1
    assert len(numbers(rows, "ratio")) == 6


def test_warm_jobs(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Cold and warm jobs and tunings run, the warm ones without a reason why they aren't."""
    for variable in ("MEDLOOP_WARM_MINUTES", "MEDLOOP_TARGET"):
        monkeypatch.setenv(variable, "0")  # the benchmark sets them
    rows = run("warm_jobs", capsys, "--jobs", "1", "--trials", "1", "--preload", "numpy")
    assert [row.get("job") or row["tuning of 1 trials"] for row in rows] == [
        "cold",
        "warm, the first",
        "warm",
        "cold",
        "warm",
    ]
    assert all(float(row["wall, s"]) > 0 for row in rows)


def test_local_engine(capsys: pytest.CaptureFixture[str]) -> None:
    """A remembered definition takes less CPU time than a built one."""
    rows = run("local_engine", capsys, "--parts", "commands", "--repeats", "1", "--definition-only")
    assert [row["seconds of"] for row in rows] == ["wall time", "CPU time"]
    assert numbers(rows, "built / remembered")[1] > 1


def test_many_files(capsys: pytest.CaptureFixture[str]) -> None:
    """Each step runs in both tasks, and no step's time of a file grows with the number of files."""
    rows = run("many_files", capsys, "--sizes", "60", "--volumes", "6")
    assert len(numbers(rows, "CPU, s")) == len(numbers(rows, "peak memory, MiB")) == len(rows) == 20


def test_local_engine_of_steps_and_lists(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Cold and warm steps are divided into the interpreter's and the engine's part; lists grow."""
    for variable in ("MEDLOOP_WARM_MINUTES", "MEDLOOP_TARGET"):
        monkeypatch.setenv(variable, "0")  # the benchmark sets them
    small = ["--parts", "steps", "lists", "--steps", "8", "--recorded", "1", "3", "--repeats", "1"]
    rows = run("local_engine", capsys, *small)
    steps, lists = rows[:4], rows[4:]
    assert [row["job"].partition(",")[0] for row in steps] == ["cold", "cold", "warm", "warm"]
    for row in (steps[0], steps[2]):
        step, engine, fastest = (float(row[name]) for name in ("a step, s", "engine, s", "engine, fastest tenth, s"))
        assert 0 < fastest <= engine < step
    assert len(numbers(steps, "steps a second")) == 4
    assert [row["executions"] for row in lists] == ["1", "3"]
    assert len(numbers(lists, "CPU, s")) == 2
