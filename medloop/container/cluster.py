"""The hosts of a training job, and the GPUs of this one."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from medloop.container.paths import ml_root
from medloop.documents.json_text import JsonError, parse_json
from medloop.errors import SettingError

FILE = "resourceconfig.json"
MAX_HOSTS = 1024
_HOST = re.compile(r"[A-Za-z0-9]([A-Za-z0-9.-]{0,251}[A-Za-z0-9])?")
_INTERFACE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.:-]{0,14}")
"""A network interface's name has 15 characters at most (Linux, IFNAMSIZ)."""
_GPU = re.compile(r"nvidia\d+")


@dataclass(frozen=True)
class Cluster:
    """The hosts of a training job, in the same order on all of them; the first one has the rendezvous."""

    hosts: tuple[str, ...] = ("localhost",)
    current: str = "localhost"
    interface: str | None = None
    """The network interface between hosts; None if none is named."""

    @property
    def rank(self) -> int:
        """This host's number, from 0."""
        return self.hosts.index(self.current)

    @classmethod
    def read(cls, environ: Mapping[str, str]) -> Cluster:
        """Read the hosts: from `SM_*` (script mode), else from the service's file; without either, one host.

        Source of both: https://docs.aws.amazon.com/sagemaker/latest/dg/your-algorithms-training-algo-running-container.html
        ("Distributed Training Configuration") and the SDK's sagemaker/train/container_drivers/scripts/environment.py.

        Raises:
            SettingError: The description of hosts or network is malformed.
        """
        if "SM_HOSTS" in environ:
            description = {
                "hosts": _json(environ["SM_HOSTS"], "SM_HOSTS"),
                "current_host": environ.get("SM_CURRENT_HOST"),
                "network_interface_name": environ.get("SM_NETWORK_INTERFACE_NAME"),
            }
            return cls._validated(description, "SM_HOSTS")
        path = ml_root() / "input" / "config" / FILE
        if not path.is_file():
            return cls()
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise _broken(FILE, f"can't be read ({error})") from None
        return cls._validated(_json(text, FILE), FILE)

    @classmethod
    def _validated(cls, description: object, source: str) -> Cluster:
        if not isinstance(description, dict):
            raise _broken(source, "is not a JSON object")
        hosts, current, interface = (
            description.get(key) for key in ("hosts", "current_host", "network_interface_name")
        )
        if not isinstance(hosts, list) or not 1 <= len(hosts) <= MAX_HOSTS:
            raise _broken(source, f"hosts is not a list of 1 to {MAX_HOSTS} names")
        if not all(isinstance(host, str) and _HOST.fullmatch(host) for host in hosts):
            raise _broken(source, "hosts contains something other than host names")
        if len(set(hosts)) != len(hosts):
            raise _broken(source, "hosts contains a duplicate")
        if current not in hosts:
            raise _broken(source, f"current_host is {str(current)[:80]!r}, which is not in hosts")
        if interface is not None and not (isinstance(interface, str) and _INTERFACE.fullmatch(interface)):
            raise _broken(source, "network_interface_name is not the name of a network interface")
        return cls(tuple(sorted(hosts)), str(current), interface)


def _json(text: str, source: str) -> object:
    try:
        return parse_json(text)
    except JsonError:
        raise _broken(source, "is not JSON") from None


def _broken(source: str, problem: str) -> SettingError:
    return SettingError(f"{source}: {problem}; start the job again")


def count_gpus(environ: Mapping[str, str], devices: Path = Path("/dev")) -> int:
    """Count the NVIDIA GPUs that this process may use, without loading torch, which takes seconds.

    Args:
        environ: `SM_NUM_GPUS` (script mode) is their number, `CUDA_VISIBLE_DEVICES` restricts them.
        devices: Folder of the driver's device files, one per GPU.
    """
    visible = environ.get("CUDA_VISIBLE_DEVICES")
    num_stated = environ.get("SM_NUM_GPUS", "")
    if num_stated.isdecimal():
        num_gpus = int(num_stated)
    else:
        num_gpus = sum(1 for name in os.listdir(devices) if _GPU.fullmatch(name)) if devices.is_dir() else 0
    if visible is None:
        return num_gpus
    # CUDA ends the list at the first entry that names no GPU (such as -1).
    num_visible = 0
    for name in visible.split(","):
        if not name.strip() or name.strip().startswith("-"):
            break
        num_visible += 1
    # A part of a divided GPU (MIG) has a name of its own and no device file.
    return num_visible if "MIG" in visible else min(num_gpus, num_visible)
