"""JSON that another program wrote, within limits of size and depth. Standard library only: functions use it too."""

from __future__ import annotations

import json
from pathlib import Path
from typing import IO, Any

MAX_BYTES = 256 << 20
"""Size of a document: a split.json of more than a million patients."""
SMALL = 16 << 20
"""Size of a file that lists no cases."""


class JsonError(ValueError):
    """A text is no JSON, too long, or nested too deeply."""


def parse_json(content: bytes | str, max_bytes: int = MAX_BYTES, *, unique_keys: bool = False) -> Any:
    """Return the value of a JSON text.

    Args:
        content: The text.
        max_bytes: The longest text.
        unique_keys: Refuse an object in which a key is there twice; else the last one counts.

    Raises:
        JsonError: It is none, or exceeds a limit.
    """
    if len(content) > max_bytes:
        raise JsonError(f"has more than {max_bytes >> 20} MiB")
    try:
        return json.loads(content, object_pairs_hook=_unique if unique_keys else None)
    except JsonError:
        raise
    except RecursionError:
        raise JsonError("is nested too deeply") from None
    except ValueError as error:
        raise JsonError(str(error)) from None


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) < len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise JsonError(f"key {twice!r} is there twice")
    return values


def load_json(file: IO[bytes], max_bytes: int = MAX_BYTES) -> Any:
    """Return the value of an open file; no more of it is read than the limit and one byte.

    Raises:
        JsonError: See `parse_json`.
    """
    return parse_json(file.read(max_bytes + 1), max_bytes)


def read_json(path: Path, max_bytes: int = SMALL) -> Any:
    """Return the value of a file.

    Raises:
        OSError: It can't be read.
        JsonError: See `parse_json`.
    """
    with path.open("rb") as file:
        return load_json(file, max_bytes)
