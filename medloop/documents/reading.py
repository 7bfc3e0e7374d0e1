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


def read_record(model: type[Record], path: Path, *, version: int, mend: str) -> Record:
    """Read a versioned document.

    Args:
        model: Its pydantic model.
        path: The file.
        version: The newest version that this code knows.
        mend: What the user does about a broken file, such as "run the split step again".

    Raises:
        DataError: The file is absent, malformed, or of a newer version; the version is looked at first, since a newer
            file is malformed to this code.
    """
    try:
        content = path.read_bytes()
        if (found := _Version.model_validate_json(content).version) > version:
            raise DataError(f"{path.name}: version {found} is newer than {version}; update medloop")
        return model.model_validate_json(content)
    except OSError as error:
        raise DataError(f"{path.name}: can't be read ({error.strerror}); {mend}") from None
    except ValidationError as error:
        problem = first_problem(error)
        raise DataError(f"{path.name}: {problem.field or 'content'}: {problem.reason}; {mend}") from None
