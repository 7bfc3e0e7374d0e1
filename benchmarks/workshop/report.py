"""Markdown tables, and the device of the measurement."""

from __future__ import annotations

import datetime
import os
import platform
import threading
from collections.abc import Iterable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

import psutil
import torch

POLL_SECONDS = 0.02


def print_table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Print a table in Markdown, row by row."""
    print(f"| {' | '.join(columns)} |\n|{'---|' * len(columns)}", flush=True)
    for row in rows:
        print(row_text(row), flush=True)
    print()


def row_text(row: Sequence[object]) -> str:
    """One row in Markdown; numbers to three significant digits, missing values are empty."""
    return f"| {' | '.join(_cell(value) for value in row)} |"


def _cell(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.0f}" if abs(value) >= 1000 else f"{value:.3g}"
    return str(value)


def ratio(numerator: float | None, denominator: float | None) -> float | None:
    """Divide the first by the second, if both were measured."""
    return numerator / denominator if numerator and denominator else None


def header(title: str, notes: Sequence[str] = ()) -> str:
    """Make a heading with date and device: `## DATE: title`."""
    today = datetime.datetime.now(tz=datetime.UTC).date()
    lines = [f"## {today}: {title}", "", f"{device_name()}; torch {torch.__version__}, MONAI {_monai_version()}."]
    return "\n".join([*lines, *notes, ""])


def device_name() -> str:
    """Name the GPU, or the processor without one."""
    cores = len(os.sched_getaffinity(0))
    if torch.cuda.is_available():
        return f"{torch.cuda.device_count()} x {torch.cuda.get_device_name()}, {cores} CPU cores"
    return f"{_processor()}, {cores} CPU cores, {torch.get_num_threads()} threads"


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def _monai_version() -> str:
    from importlib.metadata import version

    return version("monai")


class PeakMemory:
    """Peak memory of a block: allocated on the GPU, or resident in this process without one, minus that at the start.

    The resident set of a process is read now and then: a shorter peak is missed.
    """

    def __enter__(self) -> Self:
        self._gpu = torch.cuda.is_available()
        if self._gpu:
            torch.cuda.synchronize()
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()
            return self
        self._process, self._stop = psutil.Process(), threading.Event()
        self._start = self._peak = int(self._process.memory_info().rss)
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._gpu:
            self.num_bytes = int(torch.cuda.max_memory_allocated())
            return
        self._stop.set()
        self._thread.join()
        self.num_bytes = self._peak - self._start

    def _watch(self) -> None:
        while not self._stop.wait(POLL_SECONDS):
            self._peak = max(self._peak, int(self._process.memory_info().rss))


def mebibytes(num_bytes: float) -> float:
    """Convert for tables."""
    return num_bytes / 2**20
