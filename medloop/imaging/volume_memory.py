"""The number of volumes that are decoded at once, by the available memory. Torch-free."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

from medloop.imaging.files import FileError
from medloop.imaging.formats import VOLUME_SUFFIXES, read_volume_header
from medloop.imaging.layouts import IMAGE, RawCase
from medloop.imaging.on_all_cores import num_cores

BYTES_PER_VOXEL = 40
"""Of checking a subject: the scaled image, its label and their sorted or turned copies (measured: 17 to 33)."""
_KIB = 1024


def processes_for_volumes(root: Path, cases: Sequence[RawCase]) -> int:
    """Processes that may each check a subject as large as the largest: at least one, at most one a core."""
    files = ((path.stat().st_size, path) for case in cases for path in _images(root / case.path))
    with suppress(FileError, OSError):  # what can't be read is reported by the check
        _, largest = max(files, default=(0, None))
        if largest is not None and (memory := available_memory()):
            size = BYTES_PER_VOXEL * math.prod(read_volume_header(largest).voxels.shape)
            return max(1, min(num_cores(), memory // size))
    return num_cores()


def available_memory(meminfo: Path = Path("/proc/meminfo"), cgroup: Path = Path("/sys/fs/cgroup")) -> int | None:
    """Bytes that processes may still allocate, of the host and of the container; None if that isn't known."""
    limits = []
    with suppress(OSError, ValueError):
        lines = meminfo.read_text().splitlines()
        limits += [int(line.split()[1]) * _KIB for line in lines if line.startswith("MemAvailable:")]
    with suppress(OSError, ValueError):  # without a limit the file contains `max`
        limits.append(int((cgroup / "memory.max").read_text()) - int((cgroup / "memory.current").read_text()))
    return max(0, min(limits)) if limits else None


def _images(root: Path) -> Iterator[Path]:
    return (path for suffix in VOLUME_SUFFIXES if (path := root / f"{IMAGE}{suffix}").is_file())
