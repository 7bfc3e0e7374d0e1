"""The host's NVIDIA driver and the image's CUDA: SageMaker chooses the driver, the image brings CUDA.

Torch-free. An image's CUDA needs a driver of its time or newer. For older drivers the base images bring a compatible
`libcuda` in `/usr/local/cuda/compat`, which must be first in the library path before CUDA is loaded; AWS's own entry
points do that, and ours replace them.
https://docs.nvidia.com/deploy/cuda-compatibility/
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from medloop.container import paths
from medloop.container.cluster import count_gpus

VERSION_FILE: Final = Path("/proc/driver/nvidia/version")
"""Written by the driver's kernel module; in a container it is the host's."""
COMPATIBLE: Final = Path("/usr/local/cuda/compat")
MIN_DRIVER: Final = {11: 450, 12: 525, 13: 580}
"""The first driver branch that runs any minor version of a CUDA major version.

https://docs.nvidia.com/deploy/cuda-compatibility/minor-version-compatibility.html
"""
_LIBRARY_PATH = "LD_LIBRARY_PATH"
_KERNEL_MODULE = re.compile(r"Kernel Module(?: for \S+)?\s+([0-9]+(?:\.[0-9]+)+)")
_LIBCUDA = re.compile(r"libcuda\.so\.([0-9]+(?:\.[0-9]+)+)")
_FIX = "base in containers/*/container.toml, docs/training.md"

Become = Callable[[str, list[str], dict[str, str]], object]
"""The signature of `os.execve`."""


@dataclass(frozen=True)
class Host:
    """The host's folders, which tests replace.

    Args:
        devices: Folder of device files.
        version_file: The driver's version.
        compatible: The image's folder of a libcuda for older drivers.
    """

    devices: Path = Path("/dev")
    version_file: Path = VERSION_FILE
    compatible: Path = COMPATIBLE

    @property
    def driver(self) -> str | None:
        """The driver's version, such as `535.183.01`; None without one."""
        try:
            match = _KERNEL_MODULE.search(self.version_file.read_text(encoding="utf-8", errors="replace"))
        except OSError:
            return None
        return match[1] if match else None

    @property
    def compatible_driver(self) -> str | None:
        """The version of the image's own libcuda; None if the image brings none."""
        try:
            match = _LIBCUDA.search((self.compatible / "libcuda.so.1").resolve(strict=True).name)
        except OSError:
            return None
        return match[1] if match else None


def prefer_compatible_cuda(
    environ: Mapping[str, str] | None = None,
    host: Host | None = None,
    become: Become = os.execve,
    argv: list[str] | None = None,
) -> None:
    """Start this program again with the image's own libcuda first in the library path, if the driver is older.

    The loader reads the path at a process's start only. Return if nothing is to be done, as on every host without GPU.

    Args:
        environ: The environment; the process's own by default.
        host: The host's folders.
        become: Replaces this process.
        argv: The program with its arguments.
    """
    env, host = dict(os.environ if environ is None else environ), host or Host()
    driver, compatible = host.driver, host.compatible_driver
    if driver is None or compatible is None or _numbers(driver) >= _numbers(compatible):
        return
    libraries = [folder for folder in env.get(_LIBRARY_PATH, "").split(os.pathsep) if folder]
    if str(host.compatible) in libraries:
        return
    env[_LIBRARY_PATH] = os.pathsep.join([str(host.compatible), *libraries])
    print(f"driver {driver} is older than CUDA's {compatible}: using {host.compatible}", flush=True)
    sys.stdout.flush()
    become(sys.executable, [sys.executable, *(sys.orig_argv[1:] if argv is None else argv)], env)


def unusable_gpu(cuda: str | None, environ: Mapping[str, str] | None = None, host: Host | None = None) -> str | None:
    """Return why a GPU that is there can't be used, as one line with the fix; None without a GPU.

    Args:
        cuda: The version of CUDA that PyTorch was built for; None: for the CPU only.
        environ: The environment; the process's own by default.
        host: The host's folders.
    """
    host = host or Host()
    if not count_gpus(os.environ if environ is None else environ, host.devices):
        return None
    if cuda is None:
        return f"GPU: this image's PyTorch is built for the CPU; choose a CPU instance, or build on a GPU base ({_FIX})"
    driver, least = host.driver or "of unknown version", MIN_DRIVER.get(int(cuda.partition(".")[0]))
    need = f"driver {least} or newer" if least else "a newer driver"
    return (
        f"GPU: driver {driver} can't run this image's CUDA {cuda}, which needs {need}; choose an instance type with "
        f"such a driver, or build on a CUDA 12 base ({_FIX})"
    )


def is_on_sagemaker(environ: Mapping[str, str] | None = None) -> bool:
    """True if SageMaker started this job: the contract's folder is mounted, and no other one is set."""
    return "ML_ROOT" not in (os.environ if environ is None else environ) and Path(paths.PREFIX).is_dir()


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split("."))
