"""EventBridge Scheduler's operations: schedules are recorded and shown; the local backend fires none."""

from __future__ import annotations

import json
import re

from medloop.local.api.paging import page
from medloop.local.errors import ServiceError, invalid
from medloop.local.requests import check_limits
from medloop.local.state.backend import Backend
from medloop.local.state.home import ACCOUNT, REGION, now
from medloop.local.state.store import Document, Table, Transaction, pick

_GROUP = "default"
_EXPRESSION = re.compile(
    r"(rate\([1-9]\d* (minutes?|hours?|days?)\)|cron\(\S+( \S+){5}\)|at\(\d{4}-\d\d-\d\dT[\d:]{8}\))"
)
_SUMMARY = ("Arn", "CreationDate", "GroupName", "LastModificationDate", "Name", "State")
_MAX_NAME = 64
_EXAMPLES = {
    "<aws.scheduler.scheduled-time>": "2022-03-22T18:59:43Z",
    "<aws.scheduler.execution-id>": "d32c5kddcf5bb8c3",
    "<aws.scheduler.attempt-number>": "1",
}
"""https://docs.aws.amazon.com/scheduler/latest/UserGuide/managing-schedule-context-attributes.html"""


def create(backend: Backend, params: Document) -> Document:
    """CreateSchedule."""
    name = params["Name"]
    if not re.fullmatch(rf"[0-9a-zA-Z._-]{{1,{_MAX_NAME}}}", name):
        raise invalid(f"Name '{name}' must be 1 to {_MAX_NAME} letters, digits, dots, hyphens and underscores")
    if not _EXPRESSION.fullmatch(params["ScheduleExpression"]):
        raise invalid(f"Invalid Schedule Expression {params['ScheduleExpression']}.")
    _check_start(params["Target"])
    with backend.store.write() as write:
        if write.get(Table.SCHEDULES, name):
            raise ServiceError("ConflictException", f"Schedule {name} already exists.", 409)
        document = {key: value for key, value in params.items() if key not in ("ClientToken",)}
        document.setdefault("State", "ENABLED")
        document |= {"Arn": _arn(name), "GroupName": _GROUP, "CreationDate": now(), "LastModificationDate": now()}
        write.put(Table.SCHEDULES, name, document)
    return {"ScheduleArn": _arn(name)}


def _check_start(target: Document) -> None:
    """Check the request that a universal target sends at each start, with examples of what EventBridge fills in.

    Raises:
        ServiceError: ValidationException: each start would fail, and no one would see it.
    """
    if not str(target["Arn"]).endswith(":aws-sdk:sagemaker:startPipelineExecution"):
        return
    text = str(target.get("Input") or "{}")
    for placeholder, example in _EXAMPLES.items():
        text = text.replace(placeholder, example)
    try:
        request = json.loads(text)
    except ValueError as error:
        raise invalid(f"Target.Input is no JSON: {error}") from None
    check_limits("StartPipelineExecution", request)


def get(backend: Backend, params: Document) -> Document:
    """GetSchedule."""
    with backend.store.read() as read:
        return _find(read, params["Name"])


def list_(backend: Backend, params: Document) -> Document:
    """ListSchedules."""
    with backend.store.read() as read:
        schedules = read.select(Table.SCHEDULES)
    schedules = [item for item in schedules if item["Name"].startswith(params.get("NamePrefix", ""))]
    shown = [pick(item, *_SUMMARY) | {"Target": {"Arn": item["Target"]["Arn"]}} for item in schedules]
    return page(shown, {"MaxResults": 100, **params}, member="Schedules", sort=lambda item: (item["Name"],))


def delete(backend: Backend, params: Document) -> Document:
    """DeleteSchedule."""
    with backend.store.write() as write:
        _find(write, params["Name"])
        write.delete(Table.SCHEDULES, params["Name"])
    return {}


def _find(transaction: Transaction, name: str) -> Document:
    absent = ServiceError("ResourceNotFoundException", f"Schedule {name} does not exist.", 404)
    return transaction.require(Table.SCHEDULES, name, absent)


def _arn(name: str) -> str:
    return f"arn:aws:scheduler:{REGION}:{ACCOUNT}:schedule/{_GROUP}/{name}"
