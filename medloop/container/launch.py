"""From one process to many: the entry point becomes torchrun, where the job asks for more than one process.

`launch` is called when the hyperparameters are known to be right and before torch is loaded. The process stays the same
one for the system (`exec`), so that a container's SIGTERM arrives; `medloop.container.torchrun` is what it becomes.
Works alike for own containers, script mode, tuning and runs on one machine: all that it needs is the contract.
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
"""Where several hosts meet, on the first of them, unless MASTER_PORT says otherwise: torch's own default."""
LOOPBACK: Final = "127.0.0.1"
TWO: Final = 2
"""Processes on a host without GPU, where none are asked for: enough to be more than one."""
_CHILD = ("RANK", "WORLD_SIZE", "LOCAL_RANK")
"""torchrun sets them (https://docs.pytorch.org/docs/stable/elastic/run.html, "Environment Variables")."""
_THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS")

Become = Callable[[str, list[str], dict[str, str]], object]
"""As `os.execve`."""


@dataclass(frozen=True)
class Plan:
    """How many processes train together, and where they meet.

    Args:
        local: Processes of this host.
        hosts: Number of hosts.
        place: This host's number, from 0.
        master: Where they meet.
        port: There; 0 takes a free one, on one host.
        interface: The network interface between hosts.
    """

    local: int
    hosts: int = 1
    place: int = 0
    master: str = LOOPBACK
    port: int = 0
    interface: str | None = None

    @property
    def size(self) -> int:
        """Processes in all."""
        return self.local * self.hosts

    def to_text(self) -> str:
        """As the launcher's argument."""
        return json.dumps(asdict(self))

    @classmethod
    def from_text(cls, text: str) -> Plan:
        """What `to_text` wrote."""
        return cls(**json.loads(text))


def launch(
    strategy: str,
    processes: int,
    argv: Sequence[str],
    environ: Mapping[str, str] | None = None,
    become: Become = os.execve,
) -> None:
    """Become torchrun where more than one process is to train; return where this process trains.

    Args:
        strategy: `single`, `ddp` or `fsdp`.
        processes: On each host; 0 is one a GPU, two on a host without.
        argv: This program with its arguments, which each process is started with.
        environ: The environment; the process's own by default.
        become: Replaces this process.

    Raises:
        SettingError: The strategy doesn't suit the job's machines, or what is said of them can't be understood.
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
        print(f"strategy={strategy}: {_machine(gpus)}, so one process trains, as with strategy=single", flush=True)
        return
    spread = f", {plan.local} on each of {plan.hosts} hosts" if plan.hosts > 1 else ""
    print(f"strategy={strategy}: {plan.size} processes{spread} ({_machine(gpus)})", flush=True)
    # A signal that comes while the launcher loads waits until it listens.
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    become(sys.executable, command(plan, argv), environment(plan, env))


def make_plan(cluster: Cluster, processes: int, gpus: int, port: int = PORT) -> Plan:
    """How a job's processes are spread over its hosts, which are alike.

    Args:
        cluster: The hosts.
        processes: Asked for on each host; 0 leaves it to the GPUs. GPUs aren't shared: there are never more processes.
        gpus: Of this host.
        port: Where several hosts meet.
    """
    local = processes or gpus or TWO
    if gpus:
        local = min(local, gpus)
    if len(cluster.hosts) == 1:
        return Plan(local)
    return Plan(local, len(cluster.hosts), cluster.place, cluster.hosts[0], port, cluster.interface)


def command(plan: Plan, argv: Sequence[str]) -> list[str]:
    """The launcher's command line."""
    program = os.path.abspath(argv[0])
    return [sys.executable, "-m", "medloop.container.torchrun", plan.to_text(), program, *argv[1:]]


def environment(plan: Plan, environ: Mapping[str, str], cores: int | None = None) -> dict[str, str]:
    """The environment of launcher and processes.

    Args:
        plan: The processes.
        environ: This process's.
        cores: Of this host, which its processes divide; as many as this process may run on by default.
    """
    env = dict(environ)
    root = str(Path(medloop.__file__).parents[1])
    paths = [path for path in env.get("PYTHONPATH", "").split(os.pathsep) if path]
    if root not in paths:  # by hand, the program's own folder may be all that leads to this package
        env["PYTHONPATH"] = os.pathsep.join([*paths, root])
    if "ML_ROOT" in env:  # on one machine, jobs are told what they may use: their processes divide it
        for name in _THREADS:
            if env.get(name, "").isdigit():
                env[name] = str(max(1, int(env[name]) // plan.local))
    available = len(os.sched_getaffinity(0)) if cores is None else cores
    env.setdefault("OMP_NUM_THREADS", str(max(1, available // plan.local)))
    if plan.interface is not None and plan.hosts > 1:
        env.setdefault("NCCL_SOCKET_IFNAME", plan.interface)
        env.setdefault("GLOO_SOCKET_IFNAME", plan.interface)
    elif plan.hosts == 1 and Path("/sys/class/net/lo").exists():
        # Gloo would look this host's name up, which not every machine can.
        env.setdefault("GLOO_SOCKET_IFNAME", "lo")
    return env


def _port(environ: Mapping[str, str]) -> int:
    text = environ.get("MASTER_PORT", str(PORT))
    if not text.isdecimal() or not 0 < int(text) < 2**16:
        raise SettingError(f"MASTER_PORT={text[:20]!r}: must be a port's number, 1 to 65535; mend it, or leave it out")
    return int(text)


def _machine(gpus: int) -> str:
    return "no GPU" if gpus == 0 else "one GPU" if gpus == 1 else f"{gpus} GPUs"
