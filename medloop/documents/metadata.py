"""Values of a model package's customer metadata: 256 characters of a restricted set (CreateModelPackage's own limits).

The service takes letters, digits, spaces and `_ . : / = + - @`. Text with anything else is written as in a
quoted-printable mail: `=` and two hexadecimal digits for each byte of its UTF-8 form. Nothing is ever cut.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping

PIPELINE = "pipeline"
"""Entry of a version: the pipeline that registered it, by its name on the target."""
MAX_VALUE = 256
"""Characters of one value."""
MAX_ENTRIES = 50
"""Entries of one version, CustomerMetadataMap's own limit."""
_SIGNS = frozenset("_.:/+-@")
_ESCAPE = re.compile(r"(?:=[0-9A-F]{2})+")


def encode(text: str) -> str:
    """The text in the service's set of characters; `decode` gives it back."""
    return "".join(map(_encode, text))


def decode(text: str) -> str:
    """The text that was encoded; a value without escapes is returned unchanged."""
    return _ESCAPE.sub(lambda match: bytes.fromhex(match[0].replace("=", "")).decode("utf-8", "replace"), text)


def decoded(metadata: Mapping[str, str] | None) -> dict[str, str]:
    """All entries of a version, decoded."""
    return {key: decode(value) for key, value in (metadata or {}).items()}


def pieces(text: str) -> list[str]:
    """The encoded text in as many values as it takes; each decodes alone, and all of them joined give the text."""
    values = [""]
    for character in text:
        written = _encode(character)
        if len(values[-1]) + len(written) > MAX_VALUE:
            values.append("")
        values[-1] += written
    return values


def _encode(character: str) -> str:
    if character in _SIGNS or character == " " or unicodedata.category(character)[0] in "LN":
        return character
    return "".join(f"={byte:02X}" for byte in character.encode())
