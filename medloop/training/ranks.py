"""The processes that train one model together: who they are, and what they tell each other.

torchrun starts them (`medloop.container.launch`) and says by RANK, WORLD_SIZE, LOCAL_RANK and LOCAL_WORLD_SIZE which
is which. Numbers travel by NCCL between GPUs; flags, texts and scores by Gloo, so that no GPU is waited for.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import Final, cast

import torch
import torch.distributed as dist
from torch import Tensor

PATIENCE = timedelta(hours=4)
"""A process may prepare data, or write a checkpoint, while the others wait; torchrun ends those whose peer has died."""


@dataclass(frozen=True)
class Ranks:
    """One process's view of all of them; alone by default."""

    rank: int = 0
    size: int = 1
    local_rank: int = 0
    local_size: int = 1
    background: dist.ProcessGroup | None = None
    """A process group of its own, for what runs beside training."""

    @property
    def first(self) -> bool:
        """Whether this process reports, tracks and writes the model."""
        return self.rank == 0

    @property
    def local_share(self) -> tuple[int, int]:
        """(place among this host's processes, their number): what is prepared once a host is divided so."""
        return self.local_rank, self.local_size

    def sum(self, tensor: Tensor) -> Tensor:
        """The sum over all processes, through which gradients flow to this process's own part.

        Each process computes the same function of the sum; the sum of their gradients is the whole gradient.
        """
        if self.size == 1:
            return tensor
        total = tensor.detach().clone()
        dist.all_reduce(total)
        return total + (tensor - tensor.detach())

    def total(self, tensor: Tensor) -> Tensor:
        """The sum over all processes, in place, without gradient; every process has it."""
        if self.size > 1:
            dist.all_reduce(tensor)
        return tensor

    def largest(self, value: float) -> float:
        """The largest of the processes' values; NaN where one is NaN."""
        return max(self.gather(value), key=lambda other: float("inf") if other != other else other)

    def smallest(self, value: float) -> float:
        """The smallest of the processes' values."""
        return min(self.gather(value))

    def any(self, flag: bool) -> bool:
        """Whether the flag is set on any process: what all of them must decide alike."""
        return (self.size > 1 and self.largest(float(flag)) > 0) or flag

    def gather(self, value: float) -> list[float]:
        """Every process's value, by rank."""
        if self.size == 1:
            return [value]
        values = torch.zeros(self.size, dtype=torch.float64)
        values[self.rank] = value
        # NaN comes through a sum of zeros, and takes no other value with it.
        dist.all_reduce(values)
        return [float(one) for one in values]

    def text_of_first(self, text: str) -> str:
        """The first process's text, on all of them."""
        return self.texts(text)[0]

    def texts(self, text: str, group: dist.ProcessGroup | None = None) -> list[str]:
        """Every process's text, by rank."""
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
        """Wait for all."""
        self.gather(0.0)

    def say(self, line: str) -> None:
        """Print a line, once for all processes."""
        if self.first:
            print(line, flush=True)


ALONE: Final = Ranks()
"""One process that trains by itself."""


@contextmanager
def join_ranks(device: torch.device, environ: Mapping[str, str] | None = None) -> Iterator[Ranks]:
    """Meet the other processes that torchrun started; alone where it started none.

    Args:
        device: What this process trains on.
        environ: The environment; the process's own by default.
    """
    env = os.environ if environ is None else environ
    if int(env.get("WORLD_SIZE", "1")) == 1:
        yield ALONE
        return
    backend = "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo"
    dist.init_process_group(backend, timeout=PATIENCE, device_id=device if device.type == "cuda" else None)
    try:
        yield _met(env)
    except BaseException:
        _leave_at_once(device)
        raise
    dist.destroy_process_group()


def _met(env: Mapping[str, str]) -> Ranks:
    return Ranks(
        rank=dist.get_rank(),
        size=dist.get_world_size(),
        local_rank=int(env.get("LOCAL_RANK", "0")),
        local_size=int(env.get("LOCAL_WORLD_SIZE", "1")),
        background=cast(dist.ProcessGroup, dist.new_group(backend="gloo", timeout=PATIENCE)),
    )


def _leave_at_once(device: torch.device) -> None:
    """End this process's part after an error, which the others may know nothing of.

    `destroy_process_group` waits until NCCL's kernels are done, and those whose peers never come never are: this
    process wouldn't end, and the launcher wouldn't learn that it failed.
    """
    if device.type != "cuda":
        dist.destroy_process_group()
        return
    with suppress(Exception):  # the error at hand says more than one on the way out
        dist.distributed_c10d._abort_process_group()
