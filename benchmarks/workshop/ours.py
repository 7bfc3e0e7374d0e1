"""Medloop's training through the functions that its containers call, measured by its log lines."""

from __future__ import annotations

import io
import re
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, redirect_stdout, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TextIO

from medloop.documents.hyperparameters import ClassificationHyperparameters, SegmentationHyperparameters
from workshop import data
from workshop.loops import LEARNING_RATE, WINDOW, Throughput
from workshop.report import PeakMemory
from workshop.sizes import Sizes, task_of

_METRIC = re.compile(r"(\w+)=([^;\s]+);")


@dataclass(frozen=True)
class Row:
    """An epoch in the log."""

    seconds: float
    """Seconds since the job started."""
    metrics: dict[str, float]


class EnoughError(Exception):
    """The requested number of epochs has been logged."""


@dataclass
class EpochLog(io.TextIOBase):
    """A log that records the time of each epoch's metrics, and copies everything to another stream.

    Args:
        then: Called after each epoch with the number of epochs so far.
        copy: Stream that lines are copied to; None drops them.
        enough: Number of epochs after which the writer is stopped; None: at its end.
    """

    then: Callable[[int], None] | None = None
    copy: TextIO | None = None
    enough: int | None = None
    rows: list[Row] = field(default_factory=list)
    _line: str = ""
    _began: float = field(default_factory=time.perf_counter)

    def write(self, text: str) -> int:
        """Take part of a line, or several lines."""
        *lines, self._line = (self._line + text).split("\n")
        for line in lines:
            self._note(line)
            if self.copy:
                print(line, file=self.copy, flush=True)
        return len(text)

    def writable(self) -> bool:
        """Return True."""
        return True

    def _note(self, line: str) -> None:
        metrics = {name: float(value) for name, value in _METRIC.findall(line)}
        if "epoch" in metrics:
            self.rows.append(Row(time.perf_counter() - self._began, metrics))
            if self.then:
                self.then(len(self.rows))
            if self.enough is not None and len(self.rows) >= self.enough:
                raise EnoughError


def settings(network: str, sizes: Sizes, changes: Mapping[str, Any]) -> dict[str, Any]:
    """Make the hyperparameters of a run on the benchmarks' data, comparable with the workshop's.

    Args:
        network: Its name.
        sizes: Of data and network.
        changes: Hyperparameters that take precedence.
    """
    task = task_of(network)
    common = {"model_name": network, "learning_rate": LEARNING_RATE[task], "patience": 0, **sizes.ours[network]}
    if task == "classification":
        return common | {"image_size": sizes.image_size, **changes}
    volumes = {"mode": "resize", "size": list(sizes.resized), "intensity": "window", "window": list(WINDOW)}
    return common | volumes | {"flips": True, "loss": "dice", **sizes.widths[network], **changes}


def train(
    folder: Path,
    hyperparameters: Mapping[str, Any],
    then: Callable[[int], None] | None = None,
    enough: int | None = None,
    *,
    echo: bool = False,
) -> list[Row]:
    """Train on a split's folders.

    Args:
        folder: Contains `train`, `val` and `split`.
        hyperparameters: By name; the network's name says which task it is.
        then: Called after each epoch, before the next one, with the number of epochs so far.
        enough: Epochs after which training is broken off, without what comes at its end.
        echo: Whether the log goes to the standard error too.
    """
    log = EpochLog(then, sys.stderr if echo else None, enough)
    with _scratch() as scratch, redirect_stdout(log), suppress(EnoughError):
        job = data.job(folder, scratch)
        if task_of(hyperparameters["model_name"]) == "segmentation":
            from medloop.training.segmentation import train_segmenter

            train_segmenter(job, SegmentationHyperparameters.model_validate(dict(hyperparameters)))
        else:
            from medloop.training.classification import train_classifier

            train_classifier(job, ClassificationHyperparameters.model_validate(dict(hyperparameters)))
    return log.rows


def measure(
    folder: Path,
    hyperparameters: Mapping[str, Any],
    warm_epochs: int,
    watched: int = 0,
    then: Callable[[int], None] | None = None,
) -> Throughput:
    """Train, and summarise the logged throughput of the epochs after the warm-up.

    Nothing is validated: a compiled network would be compiled again for it, which no epoch's throughput counts.

    Args:
        folder: As `train` takes it.
        hyperparameters: See `train`.
        warm_epochs: Not timed: the first steps compile, and choose kernels.
        watched: Epochs after them that aren't timed either: what watches them slows them down.
        then: As `train` takes it.
    """
    epochs = int(hyperparameters["epochs"])
    endless = {**hyperparameters, "epochs": epochs + 1, "val_interval": epochs + 1}
    with PeakMemory() as memory:
        rows = train(folder, endless, then, epochs)
    unit = "volumes" if task_of(hyperparameters["model_name"]) == "segmentation" else "images"
    samples = count_samples(folder, hyperparameters)
    visits = samples_per_unit(hyperparameters)
    timed = [visits * row.metrics[f"{unit}_per_second"] for row in rows[warm_epochs + watched :]]
    return Throughput(
        samples=samples * len(timed),
        seconds=sum(samples / rate for rate in timed),
        peak_bytes=memory.num_bytes,
        batch_size=int(hyperparameters["batch_size"]),
        losses=tuple(row.metrics["train_loss"] for row in rows),
        start_seconds=rows[warm_epochs - 1].seconds if warm_epochs else 0.0,
    )


def count_samples(folder: Path, hyperparameters: Mapping[str, Any]) -> int:
    """Count the samples of an epoch."""
    if task_of(hyperparameters["model_name"]) == "classification":
        return sum(1 for _ in (folder / "train").glob("*/*.png"))
    return samples_per_unit(hyperparameters) * sum(1 for _ in (folder / "train").iterdir())


def samples_per_unit(hyperparameters: Mapping[str, Any]) -> int:
    """Count the samples of an image or a volume in an epoch."""
    if task_of(hyperparameters["model_name"]) == "classification" or hyperparameters.get("mode") == "resize":
        return 1
    return int(hyperparameters.get("patches_per_volume", 2))


@contextmanager
def _scratch() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="medloop-benchmark-"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
