"""Codes of a model's classes in DICOM results: those of a file, or private ones made of their names. Torch-free."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, StringConstraints

from medloop.documents.names import normalise
from medloop.documents.reading import Record
from medloop.errors import SettingError
from medloop.setting_errors import parse_settings
from medloop.yaml_text import MAX_CHARACTERS, read_yaml

PRIVATE_SCHEME = "99MEDLOOP"
"""Designator of the coding scheme of classes without a code: `99` begins private ones (PS3.16 chapter 8)."""
MAX_SHORT, MAX_LONG = 16, 64
"""Characters of SH and LO (PS3.5 6.2)."""
_BACKSLASH = "\\"


def _as_text(value: Any) -> Any:
    """SNOMED's codes are numbers, which YAML reads as such."""
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


_ONE_VALUE = r"^[^\\\x00-\x1f]+$"
ShortText = Annotated[
    str,
    BeforeValidator(_as_text),
    StringConstraints(strip_whitespace=True, min_length=1, max_length=MAX_SHORT, pattern=_ONE_VALUE),
]
LongText = Annotated[
    str,
    BeforeValidator(_as_text),
    StringConstraints(strip_whitespace=True, min_length=1, max_length=MAX_LONG, pattern=_ONE_VALUE),
]


class Code(Record):
    """A coded concept."""

    value: ShortText
    scheme: ShortText = "SCT"
    """SNOMED CT by default."""
    meaning: LongText


CONCEPT = Code(value="309825002", scheme="SCT", meaning="Spatial and Relational Concept")
"""The category of PS3.16 CID 7150 that claims nothing about a structure."""


class ClassCode(Code):
    """The code of a class."""

    category: Code = CONCEPT
    """Of PS3.16 CID 7150, such as 91723000 (Anatomical Structure) or 49755003 (Morphologically Abnormal Structure)."""


class CodesFile(Record):
    """Codes of classes by name."""

    classes: dict[str, ClassCode] = Field(default_factory=dict)


def read_codes(file: Path) -> dict[str, ClassCode]:
    """Read the codes of classes from YAML: `classes: {liver: {value: 10200004, meaning: Liver}}`.

    Raises:
        SettingError: The file can't be read, or has a field or value that no code has.
    """
    try:
        with file.open("rb") as opened:
            content = opened.read(4 * MAX_CHARACTERS + 1).decode("utf-8-sig")
    except OSError as error:
        raise SettingError(f"--codes {file}: can't be read ({error.strerror}); give a YAML file") from None
    except UnicodeDecodeError:
        raise SettingError(f"--codes {file}: is no UTF-8 text; write it as YAML") from None
    values = read_yaml(content, f"--codes {file}")
    if not isinstance(values, dict):
        example = "classes: {liver: {value: 10200004, meaning: Liver}}"
        raise SettingError(f"--codes {file}: must be a mapping; write it as `{example}`")
    return {
        normalise(name): code for name, code in parse_settings(CodesFile, values, f"--codes {file}").classes.items()
    }


def codes_of_classes(names: Sequence[str], codes: Mapping[str, ClassCode]) -> list[ClassCode]:
    """The code of each class, in order."""
    return [codes.get(normalise(name)) or private_code(name) for name in names]


def private_code(name: str) -> ClassCode:
    """The code of a class that no file names: its name if that is short enough, else a digest of it."""
    value = name if len(name) <= MAX_SHORT and name.isascii() else hashlib.sha256(name.encode()).hexdigest()[:MAX_SHORT]
    return ClassCode(value=long_text(value), scheme=PRIVATE_SCHEME, meaning=long_text(name))


def long_text(text: str) -> str:
    """A text as LO: one line of 64 characters without a backslash, which would separate values."""
    line = "".join(sign if sign.isprintable() else " " for sign in text.replace(_BACKSLASH, "/"))
    return line.strip()[:MAX_LONG].rstrip() or "-"
