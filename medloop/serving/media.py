"""The format of a request's file, and the media type of the response that it accepts. Torch-free.

A body is recognised by its first bytes. Content-Type may be of no use (absent, application/octet-stream, the form type
that curl adds); if it names a format, the two must agree.
"""

from __future__ import annotations

from collections.abc import Sequence

from medloop.documents.split import Task
from medloop.imaging.formats import ALL_FORMATS, AnyFormat, recognise
from medloop.serving.service import RefusalError

JSON = "application/json"
_GENERIC = ("", "application/octet-stream", "binary/octet-stream", "application/x-www-form-urlencoded")


def find_format(body: bytes, content_type: str, task: Task, formats: Sequence[AnyFormat]) -> AnyFormat:
    """Find the format of a body.

    Args:
        body: The whole body.
        content_type: The header; "" where there is none.
        task: The model's.
        formats: Those that the model supports.

    Raises:
        RefusalError: 400 for an empty body; 415 where its format is unknown, not this task's, or not what the header
            says.
    """
    supported = " or ".join(form.media_types[0] for form in formats)
    if not body:
        raise RefusalError(400, f"the body is empty; send the bytes of one file: {supported}")
    declared = content_type.partition(";")[0].strip().lower()
    named = next((form for form in formats if form.has_media_type(declared)), None)
    if named is None and declared not in _GENERIC:
        raise RefusalError(415, f"this Content-Type is not supported by a {task} model; send {supported}")
    form = recognise(body, formats)
    actual = form or recognise(body, ALL_FORMATS)
    if actual is None:
        raise RefusalError(415, f"the body is no file of a known format, by its first bytes; send {supported}")
    if named is not None and actual is not named:
        reason = f"Content-Type says {named.name}, the first bytes say {actual.name}; fix the header"
        raise RefusalError(415, reason)
    if form is None:
        raise RefusalError(415, f"the body is {actual.name}, which a {task} model does not support; send {supported}")
    return form


def negotiate(accept: str, offers: Sequence[str]) -> str:
    """Choose the media type of the response.

    Args:
        accept: The header, as RFC 9110 section 12.5.1 writes it; "" accepts anything.
        offers: Media types, the default first; among equals the first one wins.

    Raises:
        RefusalError: 406: the client accepts none of them.
    """
    ranges = [_read_range(part) for part in accept.split(",") if part.strip()] or [("*/*", 1.0)]
    qualities = {offer: _quality(offer, ranges) for offer in offers}
    best = max(offers, key=lambda offer: qualities[offer])
    if qualities[best] <= 0:
        raise RefusalError(406, f"Accept contains no media type of this model; accept {' or '.join(offers)}")
    return best


def _read_range(part: str) -> tuple[str, float]:
    name, *parameters = (token.strip().lower() for token in part.split(";"))
    quality = next((token[2:] for token in parameters if token.startswith("q=")), "1")
    try:
        number = float(quality)
    except ValueError:
        number = 0.0
    return name, number if 0 <= number <= 1 else 0.0


def _quality(offer: str, ranges: Sequence[tuple[str, float]]) -> float:
    """Find the quality of the most specific range that covers the offer; 0 if none does."""
    by_name = dict(reversed(ranges))
    for name in (offer, f"{offer.partition('/')[0]}/*", "*/*", "*"):
        if name in by_name:
            return by_name[name]
    return 0.0
