"""Lists as the service gives them: filtered, sorted, and in pages whose tokens stay true when records are added."""

from __future__ import annotations

import base64
import binascii
import datetime
import json
from collections.abc import Callable, Iterable
from typing import Any

from medloop.local.errors import invalid
from medloop.local.state.store import Document

_DEFAULT_PAGE = 10
_MAX_PAGE = 100


def page(
    items: Iterable[Document],
    params: Document,
    *,
    member: str,
    sort: Callable[[Document], tuple[Any, ...]],
    max_page: int = _MAX_PAGE,
) -> Document:
    """One page of a list.

    Args:
        items: All items that the request's filters leave.
        params: The request: SortOrder (Ascending by default), MaxResults (10 by default) and NextToken.
        member: The response's field for the items.
        sort: Sort key of an item, unique among them (its last part is an ARN or a name).
        max_page: The most items that a page may have.

    Raises:
        ServiceError: ValidationException for a token that isn't one.
    """
    descending = params.get("SortOrder") == "Descending"
    ordered = sorted(items, key=sort, reverse=descending)
    if params.get("NextToken"):
        last = _decode(params["NextToken"])
        ordered = [item for item in ordered if (sort(item) < last if descending else sort(item) > last)]
    count = min(params.get("MaxResults", _DEFAULT_PAGE), max_page)
    response: Document = {member: ordered[:count]}
    if len(ordered) > count:
        response["NextToken"] = _encode(sort(ordered[count - 1]))
    return response


def is_listed(document: Document, params: Document, name: str, status: str) -> bool:
    """True if a record passes a list request's filters: by its name, its status and its times.

    Args:
        document: The record.
        params: The request.
        name: The field of the record's name.
        status: The field of its status.
    """
    modified = document["LastModifiedTime"]
    return (
        params.get("NameContains", "") in document[name]
        and params.get("StatusEquals", document[status]) == document[status]
        and created_between(document, params, "CreationTimeAfter", "CreationTimeBefore")
        and not ("LastModifiedTimeAfter" in params and modified <= _epoch(params["LastModifiedTimeAfter"]))
        and not ("LastModifiedTimeBefore" in params and modified >= _epoch(params["LastModifiedTimeBefore"]))
    )


def created_between(document: Document, params: Document, after: str, before: str) -> bool:
    """True if a record's CreationTime is within the request's interval, or the request has none."""
    time: float = document["CreationTime"]
    return not (
        (params.get(after) is not None and time <= _epoch(params[after]))
        or (params.get(before) is not None and time >= _epoch(params[before]))
    )


def _epoch(time: Any) -> float:
    """A request's time stamp (datetime, number or ISO text) in seconds since the epoch."""
    if isinstance(time, int | float):
        return float(time)
    parsed = time if isinstance(time, datetime.datetime) else datetime.datetime.fromisoformat(str(time))
    return parsed.timestamp()


def _encode(key: tuple[Any, ...]) -> str:
    return base64.urlsafe_b64encode(json.dumps(key).encode()).decode()


def _decode(token: str) -> tuple[Any, ...]:
    try:
        return tuple(json.loads(base64.urlsafe_b64decode(token)))
    except (ValueError, TypeError, binascii.Error) as error:
        raise invalid("The provided NextToken is invalid.") from error
