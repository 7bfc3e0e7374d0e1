"""The step cache: an earlier run's result instead of a new one, by AWS's rule.

Of the same pipeline and step, with equal compared arguments (`medloop.definition.caching`), succeeded, not older than
ExpireAfter. Unlike AWS, a run whose stored outputs were deleted or changed since doesn't count: the step runs again.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, replace

from medloop.definition.caching import compared, is_cached, max_age
from medloop.definition.read import Step
from medloop.definition.step_types import type_of
from medloop.local.engine import executions
from medloop.local.engine.expressions import Scope, resolve
from medloop.local.engine.results import recorded
from medloop.local.engine.step_runs.base import StepResult
from medloop.local.errors import ExpressionError, ServiceError
from medloop.local.state.backend import Backend
from medloop.local.state.home import now
from medloop.local.state.objects import split_uri
from medloop.local.state.runtime import CONTAINER, PROCESS
from medloop.local.state.store import Document, Table, Transaction


@dataclass(frozen=True)
class Lookup:
    """The result of looking a step up in the cache.

    Args:
        key: The key of its result in the cache; empty if the step isn't cached.
        hit: The earlier run's result, if there is one.
        note: Why an earlier run of equal arguments doesn't count, if so.
    """

    key: str = ""
    hit: StepResult | None = None
    note: str = ""


def look_up(backend: Backend, execution: str, step: Step, scope: Scope) -> Lookup:
    """Look for an earlier run of a step; `execution` is the ARN of the one that it belongs to now."""
    key = key_of(backend, execution, step, scope)
    if not key:
        return Lookup()
    with backend.store.read() as read:
        entry = read.get(Table.CACHE, key)
        if entry is None:
            return Lookup(key)
        source = read.get(Table.EXECUTIONS, entry["execution"])
        record = read.get(Table.STEPS, f"{entry['execution']}/{step.name}")
        result = recorded(read, source, record) if source and record else None
    if result is None:
        return Lookup(key)
    age, limit = now() - entry["ended"], max_age(step)
    if limit is not None and age > limit:
        return Lookup(key)
    if changed := _changed(backend, entry["outputs"]):
        identifier = entry["execution"].rpartition("/")[2]
        note = f"step cache: the result of execution {identifier} is not used: {changed} changed or was deleted since"
        return Lookup(key, note=note)
    return Lookup(key, replace(result, source=entry["execution"]))


def entry_of(backend: Backend, execution: str, step: Step, result: StepResult) -> Document:
    """The entry of a step that succeeded; reads the listing of its outputs, so not within a transaction."""
    job = type_of(step).job
    outputs = {uri: _state(backend, uri) for uri in (job.outputs(result.properties) if job else ())}
    return {"execution": execution, "ended": now(), "outputs": outputs}


def remember(write: Transaction, key: str, entry: Document) -> None:
    """Put a result into the cache, in the transaction that ends its step; a later one replaces an earlier one."""
    write.put(Table.CACHE, key, entry, parent=executions.pipeline_of(entry["execution"]))


def key_of(backend: Backend, execution: str, step: Step, scope: Scope) -> str:
    """Pipeline, step and a digest of what is compared; empty where the step isn't cached, or a value is missing.

    A result of processes isn't one of containers: who asks for these wants to see that they run.
    """
    if not is_cached(step):
        return ""
    try:
        arguments = resolve(compared(step), scope)
    except ExpressionError:
        return ""
    runtime = [] if backend.runtime == PROCESS else [CONTAINER]
    text = json.dumps([step.type, arguments, *runtime], sort_keys=True)
    return f"{executions.pipeline_of(execution)}/{step.name}/{hashlib.sha256(text.encode()).hexdigest()}"


def _state(backend: Backend, uri: str) -> str:
    """A digest of the objects under a URI: their keys and their content's ETags; empty if there are none."""
    try:
        bucket, key = split_uri(uri)
        etags = backend.objects.etags(backend.objects.walk(bucket, key))
    except ServiceError:
        return ""
    return hashlib.sha256(json.dumps(list(etags.items())).encode()).hexdigest() if etags else ""


def _changed(backend: Backend, outputs: dict[str, str]) -> str:
    """The first output that isn't as it was; empty where all are."""
    return next((uri for uri, state in outputs.items() if _state(backend, uri) != state), "")
