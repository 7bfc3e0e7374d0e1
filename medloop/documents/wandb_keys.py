"""Refusal of W&B keys where anyone could read them: hyperparameters, settings and parameters are stored in the clear.

Standard library only: the command line and the jobs both ask.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from medloop.errors import SettingError

_KEY = re.compile(
    r"(?<![A-Za-z0-9])(?:local-|wandb-)?(?:[0-9a-f]{40}(?![0-9a-zA-Z])|wandb_v\d+_\w{16,})", re.IGNORECASE
)
"""40 hexadecimal digits (with a self-hosted server's prefix), or the newer form `wandb_v1_...`."""
_NAMES = re.compile(r"wandb_?(api)?_?key|wandb_?token", re.IGNORECASE)
_COMMITS = re.compile(r"commit|revision|sha|digest|version", re.IGNORECASE)
"""What is named so holds 40 hexadecimal digits by right: a git commit."""


def refuse_keys(values: Mapping[str, Any], kind: str) -> None:
    """Refuse a W&B key among values, under any name; the message never repeats the key.

    Args:
        values: By name; mappings and sequences are looked through, JSON text too.
        kind: What the values are, to begin the message with: `hyperparameter`, `--set`, ...

    Raises:
        SettingError: The message names the value and says where a key belongs.
    """
    for name, value in _all_leaves(values, kind):
        if _is_key(name, value):
            shown = _KEY.sub("***", name)
            raise SettingError(
                f"{kind} {shown}: holds a W&B key, which everyone who may read the job or the definition would see; "
                "put it into the environment variable WANDB_API_KEY, or into Secrets Manager and name the secret in "
                "tracking.wandb_secret; and renew the key, it may be in a log by now"
            )


def _is_key(name: str, value: Any) -> bool:
    last = name.rpartition(".")[2]
    if _NAMES.search(last.replace("-", "_")):
        return value not in (None, "")
    if _KEY.search(name):
        return True
    return isinstance(value, str) and bool(_KEY.search(value)) and not _COMMITS.search(last)


def _all_leaves(values: Mapping[str, Any], kind: str) -> Iterator[tuple[str, Any]]:
    for name, value in values.items():
        try:
            yield from list(_leaves(value, str(name)))
        except RecursionError:
            shown = _KEY.sub("***", str(name))
            raise SettingError(f"{kind} {shown}: is nested too deeply; set a plain value") from None


def _leaves(value: Any, name: str) -> Iterator[tuple[str, Any]]:
    if isinstance(value, str) and value[:1] in ("{", "["):
        try:
            value = json.loads(value)
        except ValueError:
            yield name, value
            return
    if isinstance(value, Mapping):
        for key, below in value.items():
            yield from _leaves(below, f"{name}.{key}" if name else str(key))
    elif isinstance(value, Sequence) and not isinstance(value, str | bytes):
        for index, below in enumerate(value):
            yield from _leaves(below, f"{name}[{index}]")
    else:
        yield name, value
