"""Pseudonyms: repeatable with the key, silent without it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from medloop.errors import DataError
from medloop.imaging.identity import path_renamer, pseudonym, read_key


def test_pseudonym_depends_on_name_and_key() -> None:
    """The same name and key, the same pseudonym; another of either, another one."""
    first = pseudonym(b"k" * 32, "Müller, Hans")

    assert re.fullmatch("p[0-9a-f]{12}", first)
    assert first == pseudonym(b"k" * 32, "Müller, Hans")
    assert len({first, pseudonym(b"l" * 32, "Müller, Hans"), pseudonym(b"k" * 32, "Müller, Hanna")}) == 3


def test_paths_keep_known_parts_and_suffixes() -> None:
    """Names go, what is known and file types stay; a date after a dot is no file type."""
    rename = path_renamer(b"k" * 32, {"train", "img.nii.gz"})

    assert re.fullmatch(r"train/p\w{12}/img\.nii\.gz", rename("train/Hans Müller/img.nii.gz"))
    assert re.fullmatch(r"p\w{12}\.png", rename("Hans.png"))
    assert re.fullmatch(r"p\w{12}", rename("Hans.1950"))
    assert re.fullmatch(r"p\w{12}", rename("Doe.Jane"))
    assert re.fullmatch(r"p\w{12}\.NII\.GZ|p\w{12}\.nii\.gz", rename("Hans.NII.GZ"))


def test_key_file(tmp_path: Path) -> None:
    """A key of 32 bytes is read; an absent or short one is refused by its file's name."""
    with pytest.raises(DataError, match=r"pseudonyms\.key: can't be read"):
        read_key(tmp_path)
    (tmp_path / "pseudonyms.key").write_bytes(b"short")
    with pytest.raises(DataError, match="has 5 bytes"):
        read_key(tmp_path)
    (tmp_path / "pseudonyms.key").write_bytes(b"k" * 32)
    assert read_key(tmp_path) == b"k" * 32
