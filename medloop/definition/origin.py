"""The origin of a definition: the settings that it records, and its differences from one that a checkout builds.

A definition's Metadata take texts of 1,024 characters (the service's JSON schema of definitions), so that the settings
are recorded as JSON in several entries. With them, any checkout can build the definition again.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from medloop.definition.diff import Change, diff_definitions
from medloop.errors import SettingError

MAX_TEXT = 1024
"""Characters of an entry of Metadata."""
COMMIT = "git_commit"
"""The entry of a registered version that names the commit; no other member of a definition depends on the commit."""
_COMMIT_PATH = f".CustomerMetadataProperties.{COMMIT}"
_HASH = re.compile(r"[0-9a-f]{40}(-dirty)?|none")
_METADATA, _PIPELINE, _SETTINGS = "Metadata", "medloop_pipeline", "medloop_settings_"


@dataclass(frozen=True)
class Recorded:
    """The record of its build in a definition.

    Args:
        pipeline: The installed pipeline.
        settings: The settings that were chosen, as JSON's types.
    """

    pipeline: str
    settings: Mapping[str, Any]


def with_origin(definition: str, recorded: Recorded) -> str:
    """The definition's JSON text with the origin in its Metadata."""
    document = json.loads(definition)
    text = json.dumps(recorded.settings, sort_keys=True)
    pieces = [text[start : start + MAX_TEXT] for start in range(0, len(text), MAX_TEXT)]
    entries = {f"{_SETTINGS}{number:03}": piece for number, piece in enumerate(pieces, start=1)}
    document[_METADATA] = {**document.get(_METADATA, {}), _PIPELINE: recorded.pipeline, **entries}
    return json.dumps(document)


def read_origin(definition: str) -> Recorded | None:
    """Read what a definition records; None if it records nothing that can be read.

    Raises:
        SettingError: The text is no JSON object.
    """
    metadata = _document(definition).get(_METADATA)
    if not isinstance(metadata, dict) or not isinstance(metadata.get(_PIPELINE), str):
        return None
    pieces = [str(metadata[name]) for name in sorted(metadata) if name.startswith(_SETTINGS)]
    try:
        settings = json.loads("".join(pieces))
    except ValueError:
        return None
    return Recorded(metadata[_PIPELINE], settings) if isinstance(settings, dict) else None


def commit_of(definition: str) -> str | None:
    """The commit that a definition registers with its versions; None if it registers none."""
    return _find(_document(definition), COMMIT)


def differences(before: str, after: str) -> list[Change]:
    """The differences between two definitions' JSON texts, except for the commit that they register.

    Equal members name equal code, by its digest: a commit that changed neither builds the same pipeline.

    Raises:
        SettingError: One of the texts is not JSON, or names a member twice, which readers take for one or the other.
    """
    for text in (before, after):
        _document(text)
    return [change for change in diff_definitions(before, after) if not _is_commit(change)]


def changes_to_review(before: str, after: str) -> list[Change]:
    """List the differences between two definitions' JSON texts as a reviewer reads them.

    The settings that were chosen differently come first (`settings train.epochs`; empty: the default), then their
    effects and those of code, then the commit. The text in which a definition records its settings is left out.

    Raises:
        SettingError: One of the texts is not JSON, or names a member twice.
    """
    old, new = _document(before), _document(after)
    rest = diff_definitions(*(json.dumps(_without_record(document)) for document in (old, new)))
    commits = [Change(change.kind, "commit", change.before, change.after) for change in rest if _is_commit(change)]
    effects = [change for change in rest if not _is_commit(change)]
    return [*_settings_changes(before, after), *effects, *commits[:1]]


def _settings_changes(before: str, after: str) -> list[Change]:
    """The differences between the recorded settings; of a definition that records none, only that."""
    old, new = read_origin(before), read_origin(after)
    if old is None or new is None:
        texts = ["" if recorded is None else "recorded" for recorded in (old, new)]
        kind = "added" if old is None else "removed"
        return [] if old is new else [Change(kind, "settings", *texts)]
    changes = diff_definitions(*(json.dumps(dict(recorded.settings)) for recorded in (old, new)))
    pipeline = [] if old.pipeline == new.pipeline else [Change("changed", "pipeline", old.pipeline, new.pipeline)]
    return [*pipeline, *(replace(change, path=f"settings {change.path}") for change in changes)]


def _without_record(document: Mapping[str, Any]) -> dict[str, Any]:
    """A definition without the record of its build."""
    metadata = document.get(_METADATA)
    if not isinstance(metadata, dict):
        return dict(document)
    entries = {name: text for name, text in metadata.items() if name != _PIPELINE and not name.startswith(_SETTINGS)}
    return {**document, _METADATA: entries} if entries else {n: v for n, v in document.items() if n != _METADATA}


def _is_commit(change: Change) -> bool:
    """True if a change is one commit in the place of another, of a version's metadata: nothing that anything runs."""
    texts = (change.before, change.after)
    return change.path.endswith(_COMMIT_PATH) and all(_HASH.fullmatch(text) for text in texts)


def _document(definition: str) -> dict[str, Any]:
    try:
        document = json.loads(definition, object_pairs_hook=_members)
    except ValueError as error:
        raise SettingError(f"pipeline definition: is no valid JSON ({error}); run the pipeline again") from None
    if not isinstance(document, dict):
        raise SettingError("pipeline definition: is no JSON object; run the pipeline again")
    return document


def _members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) < len(pairs):
        raise ValueError(f"an object has a member twice: {sorted(name for name, _ in pairs)}")
    return members


def _find(value: Any, key: str) -> str | None:
    """The first text of this key, at any depth."""
    if isinstance(value, dict) and isinstance(value.get(key), str):
        return str(value[key])
    members = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return next((text for text in (_find(member, key) for member in members) if text is not None), None)
