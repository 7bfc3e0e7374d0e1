"""The processes that train one model together, and their communication.

torchrun starts them (`medloop.container.launch`) and sets RANK, WORLD_SIZE, LOCAL_RANK and LOCAL_WORLD_SIZE. Tensors
are exchanged by NCCL between GPUs; flags, texts and scores by Gloo, which waits for no GPU.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import Final, cast

import torch
import torch.distributed as dist
from torch import Tensor

PATIENCE = timedelta(hours=4)
"""Processes wait for one that prepares data or writes a checkpoint; torchrun ends them if it dies."""


@dataclass(frozen=True)
class Ranks:
    """One process's view of all of them; alone by default."""

    rank: int = 0
    size: int = 1
    local_rank: int = 0
    local_size: int = 1
    background: dist.ProcessGroup | None = None
    """The process group of a thread that runs concurrently with training."""

    @property
    def first(self) -> bool:
        """True for the process that reports, tracks and writes the model."""
        return self.rank == 0

    @property
    def local_share(self) -> tuple[int, int]:
        """(number among this host's processes, their count): divides work that each host does once."""
        return self.local_rank, self.local_size

    def sum(self, tensor: Tensor) -> Tensor:
        """Sum over all processes; gradients flow to this process's part.

        Each process computes the same function of the sum; the sum of their gradients is the whole gradient.
        """
        if self.size == 1:
            return tensor
        total = tensor.detach().clone()
        dist.all_reduce(total)
        return total + (tensor - tensor.detach())

    def total(self, tensor: Tensor) -> Tensor:
        """Sum over all processes, in place, without gradient."""
        if self.size > 1:
            dist.all_reduce(tensor)
        return tensor

    def largest(self, value: float) -> float:
        """Return the largest of the processes' values; NaN if one is NaN."""
        return max(self.gather(value), key=lambda number: float("inf") if number != number else number)

    def any(self, flag: bool) -> bool:
        """True if the flag is set on any process, so that all decide the same."""
        return (self.size > 1 and self.largest(float(flag)) > 0) or flag

    def gather(self, value: float) -> list[float]:
        """Return every process's value, by rank."""
        if self.size == 1:
            return [value]
        values = torch.zeros(self.size, dtype=torch.float64)
        values[self.rank] = value
        # NaN in one position doesn't change the sums of others.
        dist.all_reduce(values)
        return [float(item) for item in values]

    def text_of_first(self, text: str) -> str:
        """Return the first process's text."""
        return self.texts(text)[0]

    def texts(self, text: str, group: dist.ProcessGroup | None = None) -> list[str]:
        """Return every process's text, by rank."""
        if self.size == 1:
            return [text]
        data = torch.frombuffer(bytearray(text.encode()) or bytearray(b"\0"), dtype=torch.uint8)
        lengths = torch.zeros(self.size, dtype=torch.int64)
        lengths[self.rank] = len(text.encode())
        dist.all_reduce(lengths, group=group)
        padded = torch.zeros(max(1, int(lengths.max())), dtype=torch.uint8)
        padded[: lengths[self.rank]] = data[: lengths[self.rank]]
        rows = [torch.empty_like(padded) for _ in range(self.size)]
        dist.all_gather(rows, padded, group=group)
        return [bytes(row[:length].tolist()).decode() for row, length in zip(rows, lengths.tolist(), strict=True)]

    def barrier(self) -> None:
        """Wait for all processes."""
        self.gather(0.0)

    def print_once(self, line: str) -> None:
        """Print a line, once for all processes."""
        if self.first:
            print(line, flush=True)


ALONE: Final = Ranks()
"""One process that trains by itself."""


@contextmanager
def join_ranks(device: torch.device) -> Iterator[Ranks]:
    """Join the processes that torchrun started for this one's device; `ALONE` if it started none."""
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield ALONE
        return
    backend = "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo"
    dist.init_process_group(backend, timeout=PATIENCE, device_id=device if device.type == "cuda" else None)
    try:
        yield Ranks(
            rank=dist.get_rank(),
            size=dist.get_world_size(),
            local_rank=int(os.environ.get("LOCAL_RANK", "0")),
            local_size=int(os.environ.get("LOCAL_WORLD_SIZE", "1")),
            background=cast(dist.ProcessGroup, dist.new_group(backend="gloo", timeout=PATIENCE)),
        )
    except BaseException:
        _abort(device)
        raise
    dist.destroy_process_group()


def _abort(device: torch.device) -> None:
    """Leave the process group after an error that other processes may not have.

    `destroy_process_group` waits for NCCL's kernels, which wait for the other processes: this process would never end,
    and the launcher would not notice its failure.
    """
    if device.type != "cuda":
        dist.destroy_process_group()
        return
    with suppress(Exception):  # the first error is the one to report
        dist.distributed_c10d._abort_process_group()
