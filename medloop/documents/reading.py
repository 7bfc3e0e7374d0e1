"""Versioned JSON documents that one step writes and another reads: split.json, model.json, evaluation.json."""

from __future__ import annotations

from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from medloop.documents.validation import first_problem
from medloop.errors import DataError

Record = TypeVar("Record", bound=BaseModel)


class _Version(BaseModel):
    version: int


def read_record(model: type[Record], path: Path, *, version: int, fix: str) -> Record:
    """Read a versioned document's file; `parse_record` says what the arguments are.

    Raises:
        DataError: The file is absent, malformed, or of a newer version.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path.name}: can't be read ({error.strerror}); {fix}") from None
    return parse_record(model, content, name=path.name, version=version, fix=fix)


def parse_record(model: type[Record], content: bytes, *, name: str, version: int, fix: str) -> Record:
    """Read a versioned document's content.

    Args:
        model: Its pydantic model.
        content: JSON.
        name: What messages call it.
        version: The newest version that this code knows.
        fix: What the user does about a broken file, such as "run the split step again".

    Raises:
        DataError: The content is malformed, or of a newer version; the version is checked first, since a newer
            file is malformed to this code.
    """
    try:
        if (newer := _Version.model_validate_json(content).version) > version:
            raise DataError(f"{name}: version {newer} is newer than {version}; update medloop")
        return model.model_validate_json(content)
    except ValidationError as error:
        problem = first_problem(error)
        raise DataError(f"{name}: {problem.field or 'content'}: {problem.reason}; {fix}") from None
