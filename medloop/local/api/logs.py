"""CloudWatch Logs' operations on jobs' logs: a group is a folder, a stream a file that grows while its job runs."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from medloop.local.errors import ServiceError, invalid
from medloop.local.state.backend import Backend
from medloop.local.state.store import Document

_MAX_EVENTS = 10_000
_MAX_STREAMS = 50


def describe_streams(backend: Backend, params: Document) -> Document:
    """DescribeLogStreams, in the order of their names."""
    group = _group(backend, params)
    prefix, after = params.get("logStreamNamePrefix", ""), params.get("nextToken", "")
    names = sorted(path.relative_to(group).as_posix() for path in group.glob("*/*") if path.is_file())
    left = [name for name in names if name.startswith(prefix) and name > after]
    shown = left[: params.get("limit", _MAX_STREAMS)]
    response: Document = {"logStreams": [_stream(group / name, name) for name in shown]}
    if len(left) > len(shown):
        response["nextToken"] = shown[-1]
    return response


def get_events(backend: Backend, params: Document) -> Document:
    """GetLogEvents: forward only; the token is the position in the stream, and repeats itself at the stream's end.

    Without a token it begins at the head of the stream when startFromHead asks for it, else with the last events.
    """
    path = _group(backend, params) / params["logStreamName"]
    if not re.fullmatch(r"[^/]+/[^/]+", params["logStreamName"]) or not path.is_file():
        raise _absent("log stream")
    limit = params.get("limit", _MAX_EVENTS)
    start = _position(params.get("nextToken"))
    events = [(end, event) for end, event in _events(path, start) if _within(event, params)]
    if not params.get("nextToken") and not params.get("startFromHead"):
        events = events[-limit:]
    shown = events[:limit]
    end = shown[-1][0] if shown else start
    return {
        "events": [event for _, event in shown],
        "nextForwardToken": f"f/{end}",
        "nextBackwardToken": f"b/{start}",
    }


def filter_events(backend: Backend, params: Document) -> Document:
    """FilterLogEvents, by streams, times and one literal text; all in one response."""
    group = _group(backend, params)
    names = params.get("logStreamNames") or [path.relative_to(group).as_posix() for path in sorted(group.glob("*/*"))]
    text = params.get("filterPattern", "").strip('"')
    events = []
    for name in names:
        if not name.startswith(params.get("logStreamNamePrefix", "")) or not (group / name).is_file():
            continue
        for end, event in _events(group / name, 0):
            if text in event["message"] and _within(event, params):
                events.append({**event, "logStreamName": name, "eventId": f"{name}/{end}"})
    return {"events": sorted(events, key=lambda event: event["timestamp"])[: params.get("limit", _MAX_EVENTS)]}


def _group(backend: Backend, params: Document) -> Path:
    name = params["logGroupName"].strip("/")
    group: Path = backend.home.logs / name
    if ".." in name.split("/") or not group.is_dir():
        raise _absent("log group")
    return group


def _absent(resource: str) -> ServiceError:
    return ServiceError("ResourceNotFoundException", f"The specified {resource} does not exist.")


def _stream(path: Path, name: str) -> Document:
    stat = path.stat()
    times = {"creationTime": int(stat.st_ctime * 1000), "lastEventTimestamp": int(stat.st_mtime * 1000)}
    return {"logStreamName": name, "storedBytes": stat.st_size, **times}


def _position(token: str | None) -> int:
    match = re.fullmatch(r"[fb]/(\d+)", token or "f/0")
    if match is None:
        raise invalid("The specified nextToken is invalid.")
    return int(match[1])


def _events(path: Path, start: int) -> Iterator[tuple[int, Document]]:
    """The whole lines after a position, each with the position of its end; a line half written is left for later."""
    with path.open("rb") as file:
        file.seek(start)
        for line in file:
            if not line.endswith(b"\n"):
                return
            start += len(line)
            time, _, text = line.decode("utf-8", errors="replace").rstrip("\n").partition(" ")
            yield start, {"timestamp": int(time), "message": text, "ingestionTime": int(time)}


def _within(event: Document, params: Document) -> bool:
    time: int = event["timestamp"]
    return params.get("startTime", 0) <= time and not time >= params.get("endTime", time + 1)
