"""Which kind of file a request holds, and which form of answer it accepts. Torch-free.

A body is recognised by its first bytes. Content-Type may say nothing of use (absent, application/octet-stream, the
form type that curl adds of itself); where it names a kind, the two must agree.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from medloop.documents.split import Task
from medloop.serving.refusals import RefusalError

Kind = Literal["png", "jpeg", "nifti", "npy"]

JSON = "application/json"
NIFTI = "application/x-nifti"
NPY = "application/x-npy"
TAKEN: dict[Task, dict[Kind, str]] = {
    "classification": {"png": "image/png", "jpeg": "image/jpeg", "npy": NPY},
    "segmentation": {"nifti": NIFTI, "npy": NPY},
}
"""Kinds of input, and the media type that a client sends with each."""
_KINDS: dict[str, Kind] = {
    "image/png": "png",
    "image/jpeg": "jpeg",
    "image/jpg": "jpeg",
    NPY: "npy",
    NIFTI: "nifti",
    "application/nifti": "nifti",
    "application/gzip": "nifti",
    "application/x-gzip": "nifti",
}
_GENERIC = ("", "application/octet-stream", "binary/octet-stream", "application/x-www-form-urlencoded")
_MAGIC: dict[bytes, Kind] = {
    b"\x89PNG\r\n\x1a\n": "png",
    b"\xff\xd8\xff": "jpeg",
    b"\x93NUMPY": "npy",
    b"\x1f\x8b": "nifti",
}
_NIFTI_HEADERS = {
    (348).to_bytes(4, "little"),
    (348).to_bytes(4, "big"),
    (540).to_bytes(4, "little"),
    (540).to_bytes(4, "big"),
}


def kind_of(body: bytes, content_type: str, task: Task) -> Kind:
    """The kind of file that a body is.

    Args:
        body: The whole body.
        content_type: The header; "" where there is none.
        task: The model's.

    Raises:
        RefusalError: 400 for an empty body; 415 where its kind is unknown, not this task's, or not what the header
            says.
    """
    if not body:
        raise RefusalError(400, f"the body is empty; send the bytes of one file: {_wanted(task)}")
    declared = content_type.partition(";")[0].strip().lower()
    if declared not in _GENERIC and _KINDS.get(declared) not in TAKEN[task]:
        raise RefusalError(415, f"this Content-Type is not taken by a {task} model; send {_wanted(task)}")
    found = _recognise(body)
    if found is None:
        raise RefusalError(415, f"the body is no file of a known kind, by its first bytes; send {_wanted(task)}")
    if declared not in _GENERIC and _KINDS[declared] != found:
        raise RefusalError(415, f"Content-Type says {_KINDS[declared]}, the first bytes say {found}; mend the header")
    if found not in TAKEN[task]:
        raise RefusalError(415, f"the body is {found}, which a {task} model does not take; send {_wanted(task)}")
    return found


def choose(accept: str, offers: Sequence[str]) -> str:
    """The form of answer that a client likes best.

    Args:
        accept: The header, as RFC 9110 section 12.5.1 writes it; "" accepts anything.
        offers: Media types, the server's own favourite first, which wins among equals.

    Raises:
        RefusalError: 406: it accepts none of them.
    """
    ranges = [_read_range(part) for part in accept.split(",") if part.strip()] or [("*/*", 1.0)]
    liked = {offer: _quality(offer, ranges) for offer in offers}
    best = max(offers, key=lambda offer: liked[offer])
    if liked[best] <= 0:
        raise RefusalError(406, f"Accept names no form of answer that there is; accept {' or '.join(offers)}")
    return best


def _wanted(task: Task) -> str:
    return " or ".join(dict.fromkeys(TAKEN[task].values()))


def _recognise(body: bytes) -> Kind | None:
    for magic, kind in _MAGIC.items():
        if body.startswith(magic):
            return kind
    return "nifti" if body[:4] in _NIFTI_HEADERS else None


def _read_range(part: str) -> tuple[str, float]:
    name, *parameters = (word.strip().lower() for word in part.split(";"))
    quality = next((word[2:] for word in parameters if word.startswith("q=")), "1")
    try:
        number = float(quality)
    except ValueError:
        number = 0.0
    return name, number if 0 <= number <= 1 else 0.0


def _quality(offer: str, ranges: Sequence[tuple[str, float]]) -> float:
    """The quality of the most specific range that covers the offer; 0 where none does."""
    given = dict(reversed(ranges))
    for name in (offer, f"{offer.partition('/')[0]}/*", "*/*", "*"):
        if name in given:
            return given[name]
    return 0.0
