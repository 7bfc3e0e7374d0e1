"""Records that one step writes as JSON and another reads (split.json, model.json, evaluation.json), and their problems.

What is wrong with a document, an argument or a setting is said in one line: the first problem that pydantic reports.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Self

from pydantic import BaseModel, ConfigDict, ValidationError

from medloop.documents.json_text import MAX_BYTES
from medloop.errors import DataError, printable


class Record(BaseModel):
    """A document or a part of one: unknown fields are refused."""

    model_config = ConfigDict(extra="forbid", protected_namespaces=(), defer_build=True)
    """A command imports more documents than it reads: a validator is built when it is first used."""


class DocumentFile(Record):
    """A versioned document, in a file of its own; the version's default is the newest that this code knows."""

    FILE: ClassVar[str]
    FIX: ClassVar[str]
    """What the user does about a broken file, such as "run the split step again"."""

    version: int

    @classmethod
    def read(cls, folder: Path) -> Self:
        """Read the document's file in a folder.

        Raises:
            DataError: The file is absent, malformed, or of a newer version than this code knows.
        """
        try:
            with (folder / cls.FILE).open("rb") as file:
                content = file.read(MAX_BYTES + 1)
        except OSError as error:
            raise DataError(f"{cls.FILE}: can't be read ({error.strerror}); {cls.FIX}") from None
        return cls.parse(content)

    @classmethod
    def parse(cls, content: bytes, name: str = "") -> Self:
        """Read the document's content.

        Args:
            content: JSON.
            name: What messages call it; the file's name by default.

        Raises:
            DataError: The content is malformed, or of a newer version; the version is checked first, since a newer
                file is malformed to this code.
        """
        name, newest = name or cls.FILE, cls.model_fields["version"].default
        if len(content) > MAX_BYTES:
            raise DataError(f"{name}: has more than {MAX_BYTES >> 20} MiB; {cls.FIX}")
        try:
            if (newer := _Version.model_validate_json(content).version) > newest:
                raise DataError(f"{name}: version {newer} is newer than {newest}; update medloop")
            return cls.model_validate_json(content)
        except ValidationError as error:
            problem = first_problem(error)
            raise DataError(f"{name}: {problem.field or 'content'}: {problem.reason}; {cls.FIX}") from None


class _Version(BaseModel):
    version: int


@dataclass(frozen=True)
class FieldProblem:
    """The first problem of a validation.

    Args:
        field: The field's dotted path; empty for the whole.
        kind: pydantic's name of the problem, such as `missing` or `extra_forbidden`.
        reason: What is wrong with the value.
        value: The value as it was given.
    """

    field: str
    kind: str
    reason: str
    value: Any


def first_problem(error: ValidationError) -> FieldProblem:
    """The first of an error's problems."""
    first = error.errors()[0]
    field = ".".join(str(part) for part in first["loc"])
    return FieldProblem(
        printable(field, allowed=""), first["type"], first["msg"].removeprefix("Value error, "), first["input"]
    )
