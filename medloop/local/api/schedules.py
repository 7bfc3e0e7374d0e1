"""EventBridge Scheduler's operations: schedules are recorded and shown; the local backend fires none."""

from __future__ import annotations

import re

from medloop.local.api.paging import page
from medloop.local.errors import ServiceError, invalid
from medloop.local.state.backend import Backend
from medloop.local.state.home import ACCOUNT, REGION, now
from medloop.local.state.store import Document, Table, Transaction, pick

_GROUP = "default"
_EXPRESSION = re.compile(
    r"(rate\([1-9]\d* (minutes?|hours?|days?)\)|cron\(\S+( \S+){5}\)|at\(\d{4}-\d\d-\d\dT[\d:]{8}\))"
)
_SUMMARY = ("Arn", "CreationDate", "GroupName", "LastModificationDate", "Name", "State")
_MAX_NAME = 64


def create(backend: Backend, params: Document) -> Document:
    """CreateSchedule."""
    name = params["Name"]
    if not re.fullmatch(rf"[0-9a-zA-Z._-]{{1,{_MAX_NAME}}}", name):
        raise invalid(f"Name '{name}' must be 1 to {_MAX_NAME} letters, digits, dots, hyphens and underscores")
    if not _EXPRESSION.fullmatch(params["ScheduleExpression"]):
        raise invalid(f"Invalid Schedule Expression {params['ScheduleExpression']}.")
    with backend.store.write() as write:
        if write.get(Table.SCHEDULES, name):
            raise ServiceError("ConflictException", f"Schedule {name} already exists.", 409)
        document = {key: value for key, value in params.items() if key not in ("ClientToken",)}
        document.setdefault("State", "ENABLED")
        document |= {"Arn": _arn(name), "GroupName": _GROUP, "CreationDate": now(), "LastModificationDate": now()}
        write.put(Table.SCHEDULES, name, document)
    return {"ScheduleArn": _arn(name)}


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
