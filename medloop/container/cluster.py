"""The machines of a training job, and what this one has."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from medloop.container.paths import ml_root
from medloop.errors import SettingError

FILE = "resourceconfig.json"
MAX_HOSTS = 1024
_HOST = re.compile(r"[A-Za-z0-9]([A-Za-z0-9.-]{0,251}[A-Za-z0-9])?")
_INTERFACE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.:-]{0,14}")
"""A network interface's name has 15 characters at most (Linux, IFNAMSIZ)."""
_GPU = re.compile(r"nvidia\d+")


@dataclass(frozen=True)
class Cluster:
    """The hosts of a training job, by one order on all of them; the first one is where they meet."""

    hosts: tuple[str, ...] = ("localhost",)
    current: str = "localhost"
    interface: str | None = None
    """The network interface that they reach one another by; None where none is named."""

    @property
    def place(self) -> int:
        """This host's number, from 0."""
        return self.hosts.index(self.current)

    @classmethod
    def read(cls, environ: Mapping[str, str]) -> Cluster:
        """Read who takes part: from `SM_*` (script mode), else from the service's file; without either, one host.

        Source of both: https://docs.aws.amazon.com/sagemaker/latest/dg/your-algorithms-training-algo-running-container.html
        ("Distributed Training Configuration") and the SDK's sagemaker/train/container_drivers/scripts/environment.py.

        Args:
            environ: The environment.

        Raises:
            SettingError: What it says of hosts or network can't be.
        """
        if "SM_HOSTS" in environ:
            given = {
                "hosts": _json(environ["SM_HOSTS"], "SM_HOSTS"),
                "current_host": environ.get("SM_CURRENT_HOST"),
                "network_interface_name": environ.get("SM_NETWORK_INTERFACE_NAME"),
            }
            return cls._checked(given, "SM_HOSTS")
        path = ml_root() / "input" / "config" / FILE
        if not path.is_file():
            return cls()
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise _broken(FILE, f"can't be read ({error})") from None
        return cls._checked(_json(text, FILE), FILE)

    @classmethod
    def _checked(cls, given: object, source: str) -> Cluster:
        if not isinstance(given, dict):
            raise _broken(source, "must hold a JSON object")
        hosts, current, interface = (given.get(key) for key in ("hosts", "current_host", "network_interface_name"))
        if not isinstance(hosts, list) or not 1 <= len(hosts) <= MAX_HOSTS:
            raise _broken(source, f"hosts must be a list of 1 to {MAX_HOSTS} names")
        if not all(isinstance(host, str) and _HOST.fullmatch(host) for host in hosts):
            raise _broken(source, "hosts holds what is no host's name")
        if len(set(hosts)) != len(hosts):
            raise _broken(source, "hosts names one of them twice")
        if current not in hosts:
            raise _broken(source, f"current_host is {str(current)[:80]!r}, which is none of hosts")
        if interface is not None and not (isinstance(interface, str) and _INTERFACE.fullmatch(interface)):
            raise _broken(source, "network_interface_name is no network interface's name")
        return cls(tuple(sorted(hosts)), str(current), interface)


def _json(text: str, source: str) -> object:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        raise _broken(source, "is no JSON") from None


def _broken(source: str, what: str) -> SettingError:
    return SettingError(f"{source}: {what}; the job's configuration is broken")


def count_gpus(environ: Mapping[str, str], devices: Path = Path("/dev")) -> int:
    """NVIDIA GPUs that this process may use, counted without loading torch, which takes seconds.

    Args:
        environ: `SM_NUM_GPUS` (script mode) says how many there are, `CUDA_VISIBLE_DEVICES` restricts them.
        devices: Where the driver's device files are, one a GPU.
    """
    visible = environ.get("CUDA_VISIBLE_DEVICES")
    told = environ.get("SM_NUM_GPUS", "")
    if told.isdecimal():
        found = int(told)
    else:
        found = sum(1 for name in os.listdir(devices) if _GPU.fullmatch(name)) if devices.is_dir() else 0
    if visible is None:
        return found
    # As CUDA reads it: the list ends at the first entry that names none (such as -1).
    chosen = 0
    for name in visible.split(","):
        if not name.strip() or name.strip().startswith("-"):
            break
        chosen += 1
    # A part of a divided GPU (MIG) has a name of its own and no device file.
    return chosen if "MIG" in visible else min(found, chosen)
