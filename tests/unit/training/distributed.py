"""Runs a function on several processes of this machine, as torchrun starts them."""

from __future__ import annotations

import multiprocessing
import os
import socket
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
import torch.multiprocessing as mp

from medloop.training.ranks import join_ranks

CPU = torch.device("cpu")
Work = Callable[..., Any]
"""Takes the processes' view of each other, then the arguments of `on_ranks`; returns what torch.save keeps."""


def on_ranks(size: int, folder: Path, work: Work, *arguments: Any, preload: Sequence[str] = ()) -> list[Any]:
    """What `work` returned on each of the processes.

    Args:
        size: How many.
        folder: For what they return.
        work: A function of a module, so that the other processes find it.
        arguments: For `work`.
        preload: Modules that the work imports late.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    folder.mkdir(parents=True, exist_ok=True)
    # Forked from one process that has imported the work's module: torch and MONAI are 5 s of CPU time for each rank.
    multiprocessing.set_forkserver_preload([work.__module__, *preload])
    mp.start_processes(_enter, (size, port, folder, work, arguments), nprocs=size, start_method="forkserver")
    return [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in range(size)]


def _enter(rank: int, size: int, port: int, folder: Path, work: Work, arguments: tuple[Any, ...]) -> None:
    names = {"RANK": rank, "WORLD_SIZE": size, "LOCAL_RANK": rank, "LOCAL_WORLD_SIZE": size, "MASTER_PORT": port}
    os.environ.update({name: str(value) for name, value in names.items()}, MASTER_ADDR="127.0.0.1")
    torch.set_num_threads(1)
    try:
        with join_ranks(CPU) as ranks:
            torch.save(work(ranks, *arguments), folder / f"{rank}.pt")
    except BaseException:
        traceback.print_exc()
        raise
