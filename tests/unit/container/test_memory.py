"""Available memory, of the machine and of each control group around the process, and the processes that it allows."""

from __future__ import annotations

from pathlib import Path

import pytest

from medloop.container.memory import available_memory
from medloop.imaging.layouts import RawCase
from medloop.imaging.on_all_cores import num_cores
from medloop.imaging.volume_memory import BYTES_PER_VOXEL, processes_for_volumes
from tests.unit.imaging.niftis import VOXELS, make_file, make_header

GB = 10**9


VOLUME_BYTES = BYTES_PER_VOXEL * VOXELS.size


def write(root: Path, files: dict[str, str]) -> Path:
    """Files below a folder that stands for a file system of the kernel."""
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


MACHINE = {"proc/meminfo": f"MemTotal: 99999999 kB\nMemAvailable: {8 * GB // 1024} kB\nHugePages_Total: 0\n"}
GROUPS = {
    "no limit": ({"proc/self/cgroup": "0::/\n"}, 8),
    "a container": (
        {
            "proc/self/cgroup": "0::/\n",
            "cg/memory.max": f"{4 * GB}\n",
            "cg/memory.current": f"{3 * GB}\n",
            "cg/memory.stat": f"anon 1\ninactive_file {GB}\nactive_file {GB}\n",
        },
        3,
    ),
    "more than the machine": (
        {"proc/self/cgroup": "0::/\n", "cg/memory.max": f"{99 * GB}", "cg/memory.current": "0"},
        8,
    ),
    "a limit on an outer group": (
        {
            "proc/self/cgroup": "0::/user.slice/job.scope\n",
            "cg/user.slice/job.scope/memory.max": "max\n",
            "cg/user.slice/memory.max": f"{2 * GB}",
            "cg/user.slice/memory.current": f"{GB}",
        },
        1,
    ),
    "version 1": (
        {
            "proc/self/cgroup": "9:cpu,cpuacct:/x\n4:memory:/docker/abc\n0::/\n",
            "cg/memory/memory.limit_in_bytes": f"{6 * GB}",
            "cg/memory/memory.usage_in_bytes": f"{5 * GB}",
            "cg/memory/memory.stat": f"total_inactive_file {GB}\ninactive_file 5\n",
        },
        2,
    ),
    "version 1 without a limit": (
        {
            "proc/self/cgroup": "4:memory:/\n",
            "cg/memory/memory.limit_in_bytes": "9223372036854771712",
            "cg/memory/memory.usage_in_bytes": "5",
        },
        8,
    ),
    "overdrawn": (
        {"proc/self/cgroup": "0::/\n", "cg/memory.max": f"{GB}", "cg/memory.current": f"{2 * GB}"},
        -1,
    ),
    "a group of another name space": ({"proc/self/cgroup": "0::/../../elsewhere\n"}, 8),
}


@pytest.mark.parametrize("name", GROUPS)
def test_available_memory_is_that_of_the_container(tmp_path: Path, name: str) -> None:
    """The least of the machine's and of each surrounding group's room, in which caches count as available."""
    files, expected = GROUPS[name]
    write(tmp_path, {**MACHINE, **files})
    memory = available_memory(tmp_path / "proc", tmp_path / "cg")
    assert memory is not None
    assert memory == pytest.approx(expected * GB, abs=1024)


def test_unknown_memory_is_no_limit(tmp_path: Path) -> None:
    """A system without these files, as macOS is."""
    assert available_memory(tmp_path, tmp_path) is None


@pytest.fixture(scope="module")
def subject(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data set of one small subject."""
    folder = tmp_path_factory.mktemp("data")
    (folder / "one").mkdir()
    (folder / "one" / "img.nii").write_bytes(make_file(make_header()))
    return folder


@pytest.mark.parametrize(
    ("available", "processes"),
    [
        (None, num_cores()),
        (-GB, 1),
        (0, 1),
        (VOLUME_BYTES - 1, 1),
        (2 * VOLUME_BYTES, min(2, num_cores())),
        (9999 * VOLUME_BYTES, num_cores()),
    ],
)
def test_volumes_are_checked_by_as_many_processes_as_fit(subject: Path, available: int | None, processes: int) -> None:
    """One where nothing is left: a group that exceeds its limit is not one without a limit."""
    assert processes_for_volumes(subject, [RawCase("one", "", None)], lambda: available) == processes


@pytest.mark.parametrize("name", GROUPS)
def test_caches_of_a_container_leave_memory_for_volumes(subject: Path, tmp_path: Path, name: str) -> None:
    """The decoders of volumes count what the servers of warm jobs count."""
    files, expected = GROUPS[name]
    write(tmp_path, {**MACHINE, **files})
    processes = processes_for_volumes(
        subject, [RawCase("one", "", None)], lambda: available_memory(tmp_path / "proc", tmp_path / "cg")
    )
    assert processes == (num_cores() if expected > 0 else 1)
