"""The number of volumes that are decoded at once, by the available memory. Torch-free."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path

from medloop.container.memory import available_memory
from medloop.imaging.files import FileError
from medloop.imaging.formats import VOLUME_SUFFIXES, read_volume_header
from medloop.imaging.layouts import IMAGE, RawCase
from medloop.imaging.on_all_cores import num_cores

BYTES_PER_VOXEL = 40
"""Of checking a subject: the scaled image, its label and their sorted or turned copies (measured: 17 to 33)."""


def processes_for_volumes(
    root: Path, cases: Sequence[RawCase], memory: Callable[[], int | None] = available_memory
) -> int:
    """Processes that may each check a subject as large as the largest: at least one, at most one a core.

    Args:
        root: The data set.
        cases: Its subjects.
        memory: Returns the available bytes, or None if they aren't known.
    """
    files = ((path.stat().st_size, path) for case in cases for path in _images(root / case.path))
    with suppress(FileError, OSError):  # what can't be read is reported by the check
        _, largest = max(files, default=(0, None))
        if largest is not None and (available := memory()) is not None:
            size = BYTES_PER_VOXEL * math.prod(read_volume_header(largest).voxels.shape)
            return max(1, min(num_cores(), available // size))
    return num_cores()


def _images(root: Path) -> Iterator[Path]:
    return (path for suffix in VOLUME_SUFFIXES if (path := root / f"{IMAGE}{suffix}").is_file())
