"""Patients' pseudonyms: keyed hashes, the same for the same patient as long as the key is the same. Torch-free."""

from __future__ import annotations

import hmac
import secrets
from collections.abc import Callable, Collection
from pathlib import Path

from medloop.errors import DataError
from medloop.imaging.formats import IMAGE_SUFFIXES, VOLUME_SUFFIXES, find_suffix

KEY_FILE = "pseudonyms.key"
KEY_BYTES = 32
KEPT_SUFFIXES = (
    *(*IMAGE_SUFFIXES, ".gif"),
    *(*VOLUME_SUFFIXES, ".dcm", ".nrrd", ".mha", ".zip", ".gz"),
    *(".md", ".txt", ".csv", ".json", ".pdf", ".html", ".yaml", ".yml"),
)
"""File types that remain in renamed paths; any other text after a dot may be a name (`Doe.Jane`)."""
_DIGITS = 12
"""Length of the pseudonym's hash: 48 bits. Two patients who share one would count as one, which never leaks."""


def read_key(folder: Path) -> bytes:
    """Read the key that upsert made.

    Raises:
        DataError: There is none, or it is too short to keep a secret.
    """
    path = folder / KEY_FILE
    try:
        key = path.read_bytes()
    except OSError as error:
        raise DataError(f"{KEY_FILE}: can't be read ({error.strerror}); give the folder that holds it") from None
    if len(key) < KEY_BYTES:
        raise DataError(f"{KEY_FILE}: has {len(key)} bytes; give {KEY_BYTES} random ones")
    return key


def random_key() -> bytes:
    """A key of this moment: pseudonyms made with it can't be made again."""
    return secrets.token_bytes(KEY_BYTES)


def pseudonym(key: bytes, name: str) -> str:
    """`p` and 12 hexadecimal digits of HMAC-SHA256 over a patient's name or number."""
    return "p" + hmac.digest(key, name.encode("utf-8", "surrogateescape"), "sha256").hex()[:_DIGITS]


def patient_pseudonym(key: bytes, identifier: str) -> str:
    """The pseudonym of a patient whom patients.csv names."""
    return pseudonym(key, f"patient:{identifier}")


def path_pseudonym(key: bytes, path: str) -> str:
    """The pseudonym of a case without patients.csv: a path and an identifier may be one text, and mean two things."""
    return pseudonym(key, f"path:{path}")


def pseudonym_number(name: str) -> int:
    """A pseudonym as a number, in the pseudonyms' order."""
    return int(name[1:], 16)


def numbered_pseudonym(number: int) -> str:
    """The pseudonym of a number."""
    return f"p{number:0{_DIGITS}x}"


def case_stem(task: str, name: str, number: int, num_cases: int) -> str:
    """The name of a patient's case in outputs, without suffix: the pseudonym, numbered in the order of the content."""
    if task == "classification":
        return f"{name}_{number:04d}"
    return name if num_cases == 1 else f"{name}_{number}"


def path_renamer(key: bytes, known: Collection[str]) -> Callable[[str], str]:
    """Make a function that hides names in a path: a part that isn't `known` becomes its pseudonym and suffix.

    Args:
        key: Of the pseudonyms.
        known: Parts of paths that name no patient: splits, classes, `img.nii.gz`, `patients.csv`.
    """

    def hide(part: str) -> str:
        return part if part in known else pseudonym(key, part) + (find_suffix(part, KEPT_SUFFIXES) or "")

    return lambda path: "/".join(map(hide, path.split("/")))
