"""The memory that is left for new processes: of the machine, or of the container around this process.

Standard library only: the servers of warm jobs load it by its path.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

_UNIFIED = ("memory.max", "memory.current", "inactive_file", "active_file")
_LEGACY = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file", "total_active_file")
"""Files of a control group (version 2, version 1), and lines of its memory.stat: caches are given up when needed."""


def available_memory(proc: Path = Path("/proc"), groups: Path = Path("/sys/fs/cgroup")) -> int | None:
    """The number of bytes that programs may still take; None if the system doesn't report it.

    Args:
        proc: The proc file system (proc_meminfo(5), MemAvailable).
        groups: The file system of control groups (cgroups(7)); a group's limit holds for all groups in it.
    """
    machine = _fields(proc / "meminfo").get("MemAvailable:")
    rooms = [] if machine is None else [machine * 1024]
    for folder, names in _groups(proc, groups):
        try:
            limit, usage = (int((folder / name).read_text(encoding="ascii")) for name in names[:2])
        except (OSError, ValueError):  # no such group in this container; "max": no limit
            continue
        statistics = _fields(folder / "memory.stat")
        rooms.append(limit - usage + sum(statistics.get(name, 0) for name in names[2:]))
    return min(rooms, default=None)


def _groups(proc: Path, root: Path) -> Iterator[tuple[Path, tuple[str, ...]]]:
    """The memory control groups around this process, each with the names of its files."""
    for line in _text(proc / "self/cgroup").splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers and "memory" not in controllers.split(","):
            continue
        base, names = (root / "memory", _LEGACY) if controllers else (root, _UNIFIED)
        group = base / path.lstrip("/")
        yield from ((folder, names) for folder in (group, *group.parents) if folder.is_relative_to(base))


def _fields(path: Path) -> dict[str, int]:
    """The numbers of a file whose lines are `name number`."""
    rows = [line.split() for line in _text(path).splitlines()]
    return {row[0]: int(row[1]) for row in rows if len(row) > 1 and row[1].isdigit()}


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
