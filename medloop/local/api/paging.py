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
) -> Document:
    """One page of a list.

    Args:
        items: All items that the request's filters leave.
        params: The request: SortOrder (Ascending by default), MaxResults (10 by default) and NextToken.
        member: The response's field for the items.
        sort: Sort key of an item, unique among them (its last part is an ARN or a name).

    Raises:
        ServiceError: ValidationException for a token that isn't one.
    """
    descending = params.get("SortOrder") == "Descending"
    ordered = sorted(items, key=sort, reverse=descending)
    if params.get("NextToken"):
        last = _decode(params["NextToken"])
        ordered = [item for item in ordered if (sort(item) < last if descending else sort(item) > last)]
    count = min(params.get("MaxResults", _DEFAULT_PAGE), _MAX_PAGE)
    response: Document = {member: ordered[:count]}
    if len(ordered) > count:
        response["NextToken"] = _encode(sort(ordered[count - 1]))
    return response


def page_of_records(
    records: Iterable[Document],
    params: Document,
    *,
    member: str,
    name: str,
    status: str = "",
    show: Callable[[Document], Document],
    then: tuple[str, ...] = (),
) -> Document:
    """One page of the records that a list request asks for, by CreationTime unless its SortBy says Name or Status.

    Args:
        records: The records that the operation's own filters leave.
        params: The request.
        member: The response's field for the items.
        name: The field of a record's name, unique unless `then` is given.
        status: The field of a record's status; empty if it has none.
        show: A record as the response has it.
        then: The fields that order items alike in the first; by default, the name.
    """
    shown = [show(record) for record in records if is_listed(record, params, name, status)]
    sort_field = {"Name": name, "Status": status}.get(params.get("SortBy", "")) or "CreationTime"
    fields = (sort_field, *(then or (name,)))
    return page(shown, params, member=member, sort=lambda item: tuple(item[field] for field in fields))


def is_listed(record: Document, params: Document, name: str = "", status: str = "") -> bool:
    """True if a record passes a list request's filters: by its times, and by the fields of its name and its status."""
    return (
        not (name and params.get("NameContains", "") not in record[name])
        and not (status and params.get("StatusEquals", record[status]) != record[status])
        and _is_within(record, "CreationTime", params.get("CreationTimeAfter"), params.get("CreationTimeBefore"))
        and _is_within(record, "CreationTime", params.get("CreatedAfter"), params.get("CreatedBefore"))
        and _is_within(
            record, "LastModifiedTime", params.get("LastModifiedTimeAfter"), params.get("LastModifiedTimeBefore")
        )
    )


def _is_within(record: Document, field: str, after: Any, before: Any) -> bool:
    if after is not None and record[field] <= _epoch(after):
        return False
    return before is None or bool(record[field] < _epoch(before))


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
