"""Launch of distributed training: the entry point becomes torchrun if the job needs more than one process.

`launch` is called after the hyperparameters are validated and before torch is loaded. The process keeps its identity
(`exec`), so that a container's SIGTERM arrives; it becomes `medloop.container.torchrun`. Own containers, script mode,
tuning and local runs launch in the same way, from the contract.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

import medloop
from medloop.container.cluster import Cluster, count_gpus
from medloop.errors import SettingError

PORT: Final = 29500
"""Rendezvous port on the first of several hosts unless MASTER_PORT is set: torch's default."""
LOOPBACK: Final = "127.0.0.1"
CPU_PROCESSES: Final = 2
"""Default number of processes on a host without GPU: the minimum of a distributed training."""
_CHILD = ("RANK", "WORLD_SIZE", "LOCAL_RANK")
"""torchrun sets them (https://docs.pytorch.org/docs/stable/elastic/run.html, "Environment Variables")."""
_THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS")

Become = Callable[[str, list[str], dict[str, str]], object]
"""The signature of `os.execve`."""


@dataclass(frozen=True)
class LaunchPlan:
    """The processes of a job, and their rendezvous.

    Args:
        processes_per_host: Processes on each host.
        num_hosts: Number of hosts.
        host_rank: This host's number, from 0.
        master: Host of the rendezvous.
        port: Port of the rendezvous; 0 chooses a free one, on one host.
        interface: The network interface between hosts.
    """

    processes_per_host: int
    num_hosts: int = 1
    host_rank: int = 0
    master: str = LOOPBACK
    port: int = 0
    interface: str | None = None

    @property
    def size(self) -> int:
        """Number of processes on all hosts."""
        return self.processes_per_host * self.num_hosts


def launch(
    strategy: str,
    processes: int,
    argv: Sequence[str],
    environ: Mapping[str, str] | None = None,
    become: Become = os.execve,
) -> None:
    """Become torchrun if more than one process trains; return if this process trains.

    Args:
        strategy: `single`, `ddp` or `fsdp`.
        processes: Number on each host; 0 is one per GPU, or two on a host without GPU.
        argv: This program with its arguments, the command of each process.
        environ: The environment; the process's own by default.
        become: Replaces this process.

    Raises:
        SettingError: The strategy doesn't suit the job's hosts, or their description is malformed.
    """
    env = dict(os.environ if environ is None else environ)
    if all(name in env for name in _CHILD):
        if strategy == "single" and env["WORLD_SIZE"] != "1":
            raise SettingError(f"strategy=single, but {env['WORLD_SIZE']} processes were started; set strategy=ddp")
        return
    cluster, gpus = Cluster.read(env), count_gpus(env)
    if strategy == "single":
        if len(cluster.hosts) > 1:
            raise SettingError(
                f"strategy=single trains on one host, and the job has {len(cluster.hosts)}; set strategy=ddp or fsdp, "
                "or one instance"
            )
        return
    plan = make_plan(cluster, processes, gpus, _port(env))
    if plan.size == 1:
        print(f"strategy={strategy}: {_describe(gpus)}, so one process trains, as with strategy=single", flush=True)
        return
    spread = f", {plan.processes_per_host} on each of {plan.num_hosts} hosts" if plan.num_hosts > 1 else ""
    print(f"strategy={strategy}: {plan.size} processes{spread} ({_describe(gpus)})", flush=True)
    # A signal is pending until the launcher has its handlers.
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    become(sys.executable, command(plan, argv), environment(plan, env))


def make_plan(cluster: Cluster, processes: int, gpus: int, port: int = PORT) -> LaunchPlan:
    """Distribute a job's processes over its hosts, which are identical.

    Args:
        cluster: The hosts.
        processes: Requested number on each host; 0 is one per GPU. There are never more processes than GPUs.
        gpus: Number of GPUs of this host.
        port: Rendezvous port of several hosts.
    """
    local = processes or gpus or CPU_PROCESSES
    if gpus:
        local = min(local, gpus)
    if len(cluster.hosts) == 1:
        return LaunchPlan(local)
    return LaunchPlan(local, len(cluster.hosts), cluster.rank, cluster.hosts[0], port, cluster.interface)


def command(plan: LaunchPlan, argv: Sequence[str]) -> list[str]:
    """Make the launcher's command line."""
    program = os.path.abspath(argv[0])
    return [sys.executable, "-m", "medloop.container.torchrun", json.dumps(asdict(plan)), program, *argv[1:]]


def environment(plan: LaunchPlan, environ: Mapping[str, str], cores: int | None = None) -> dict[str, str]:
    """Make the environment of launcher and processes.

    Args:
        plan: The processes.
        environ: The environment of this process.
        cores: Cores of this host, divided among its processes; by default those that this process may run on.
    """
    env = dict(environ)
    root = str(Path(medloop.__file__).parents[1])
    paths = [path for path in env.get("PYTHONPATH", "").split(os.pathsep) if path]
    if root not in paths:  # by hand, only the program's folder may be on the path
        env["PYTHONPATH"] = os.pathsep.join([*paths, root])
    if "ML_ROOT" in env:  # the local backend limits a job's threads: its processes divide them
        for name in _THREADS:
            if env.get(name, "").isdigit():
                env[name] = str(max(1, int(env[name]) // plan.processes_per_host))
    available = len(os.sched_getaffinity(0)) if cores is None else cores
    env.setdefault("OMP_NUM_THREADS", str(max(1, available // plan.processes_per_host)))
    if plan.interface is not None and plan.num_hosts > 1:
        env.setdefault("NCCL_SOCKET_IFNAME", plan.interface)
        env.setdefault("GLOO_SOCKET_IFNAME", plan.interface)
    elif plan.num_hosts == 1 and Path("/sys/class/net/lo").exists():
        # Gloo would resolve this host's name, which fails on some hosts.
        env.setdefault("GLOO_SOCKET_IFNAME", "lo")
    return env


def _port(environ: Mapping[str, str]) -> int:
    text = environ.get("MASTER_PORT", str(PORT))
    if not text.isdecimal() or not 0 < int(text) < 2**16:
        raise SettingError(f"MASTER_PORT={text[:20]!r}: is not a port number, 1 to 65535; correct or remove it")
    return int(text)


def _describe(gpus: int) -> str:
    return "no GPU" if gpus == 0 else "one GPU" if gpus == 1 else f"{gpus} GPUs"
