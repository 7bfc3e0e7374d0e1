"""The name of the container that a staged folder's program runs in: known before the container is made.

The engine's client is the job's process, and its death leaves the container running: the process that ends the job, or
finds it dead, removes the container by its name.
"""

from __future__ import annotations

import json
import re
import subprocess
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from medloop.cloud.container_engines import ENGINES, ContainerEngine
from medloop.documents.json_text import read_json
from medloop.local.state.home import new_id

_FILE = "container.json"
_NAME = re.compile(r"medloop-[a-z0-9]+")
_SECONDS = 120


def write_record(root: Path, engine: str) -> str:
    """Record a new container of a staged folder; returns its name."""
    name = f"medloop-{new_id(20)}"
    (root / _FILE).write_text(json.dumps({"engine": engine, "name": name}), encoding="utf-8")
    return name


@dataclass(frozen=True)
class ContainerRecord:
    """A container: its engine, and its name there."""

    engine: ContainerEngine
    name: str


def read_record(root: Path) -> ContainerRecord | None:
    """The container of a staged folder; None if it has none, or the record is damaged."""
    try:
        record = read_json(root / _FILE)
        engine, name = ENGINES[record["engine"]], str(record["name"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return ContainerRecord(engine, name) if _NAME.fullmatch(name) else None


def remove_container(root: Path) -> None:
    """Kill and remove a staged folder's container, if it has one that is still there."""
    if (record := read_record(root)) is None:
        return
    with suppress(OSError, subprocess.TimeoutExpired):
        subprocess.run(  # noqa: S603 (a program of the table, and a name that was checked)
            [record.engine.name, *record.engine.remove, record.name],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            check=False,
            timeout=_SECONDS,
        )
