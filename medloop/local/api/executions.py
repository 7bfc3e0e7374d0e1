"""SageMaker's operations on executions of pipelines."""

from __future__ import annotations

from medloop.definition.read import Definition
from medloop.definition.step_types import type_in_metadata
from medloop.local import processes
from medloop.local.api.paging import is_listed, page
from medloop.local.api.pipelines import find
from medloop.local.engine import executions
from medloop.local.engine.executions import RUNNING, reap
from medloop.local.engine.graph import read_graph, typed_parameters
from medloop.local.engine.selection import Selection
from medloop.local.errors import invalid
from medloop.local.state import pipeline_versions
from medloop.local.state.backend import Backend
from medloop.local.state.home import new_id, now
from medloop.local.state.model_packages import created_by
from medloop.local.state.runtime import PROCESS
from medloop.local.state.store import Document, Table, pick

_SUMMARY = (
    "PipelineExecutionArn",
    "PipelineExecutionStatus",
    "PipelineExecutionDescription",
    "PipelineExecutionDisplayName",
)


def start(backend: Backend, params: Document) -> Document:
    """StartPipelineExecution: records the execution and starts its engine, detached; a repeated token starts nothing.

    The engine is started within the transaction and waits for its record: a caller that is killed leaves neither.
    """
    with backend.store.write() as write:
        pipeline = find(write, params["PipelineName"])
        token = f"{pipeline['PipelineName']}/{params['ClientRequestToken']}"
        known = write.get(Table.TOKENS, token)
        if known:
            return known
        version = pipeline_versions.find(write, pipeline, params.get("PipelineVersionId"))
        definition = read_graph(version["PipelineDefinition"])
        document = _new_execution(version, definition, params)
        arn, name = document["PipelineExecutionArn"], pipeline["PipelineName"]
        reused: list[Document] = []
        if config := params.get("SelectiveExecutionConfig"):
            reused = Selection(config).reused(write, name, definition)
            document["SelectiveExecutionConfig"] = config
        document["_runtime"] = backend.runtime
        document["_engine"] = processes.start_detached(backend.home, arn, backend.runtime)
        write.put(Table.EXECUTIONS, arn, document, parent=name)
        for step in reused:
            write.put(Table.STEPS, f"{arn}/{step['StepName']}", step, parent=arn)
        write.put(Table.TOKENS, token, {"PipelineExecutionArn": arn}, parent=arn)
        write.put(Table.PIPELINES, name, {**pipeline, "LastRunTime": document["CreationTime"]})
        pipeline_versions.keep(write, pipeline)
        pipeline_versions.change(write, pipeline, version["_version"], LastExecutionPipelineExecutionArn=arn)
    return {"PipelineExecutionArn": arn}


def retry(backend: Backend, params: Document) -> Document:
    """RetryPipelineExecution: the same execution resumes at the steps that failed or were stopped.

    The engine is started as by `start`. An execution whose engine died is ended first, and so can be retried.
    """
    arn = _read(backend, params)["PipelineExecutionArn"]
    with backend.store.write() as write:
        token = f"{arn}/{params['ClientRequestToken']}"
        if write.get(Table.TOKENS, token):
            return {"PipelineExecutionArn": arn}
        document, steps = executions.read(write, arn), write.select(Table.STEPS, arn)
        _check_retry(document, steps)
        again = [step for step in steps if step["StepStatus"] != "Succeeded"]
        for step in again:
            write.delete(Table.STEPS, f"{arn}/{step['StepName']}")
        document.pop("FailureReason", None)
        document |= pick(params, "ParallelismConfiguration")
        attempts = {step["StepName"]: step.get("AttemptCount", 1) for step in again}
        document |= {"PipelineExecutionStatus": "Executing", "LastModifiedTime": now()}
        document["_attempts"] = document.get("_attempts", {}) | attempts
        document["_engine"] = processes.start_detached(backend.home, arn, document.get("_runtime", PROCESS))
        write.put(Table.EXECUTIONS, arn, document)
        write.put(Table.TOKENS, token, {"PipelineExecutionArn": arn}, parent=arn)
    return {"PipelineExecutionArn": arn}


def _check_retry(execution: Document, steps: list[Document]) -> None:
    arn, status = execution["PipelineExecutionArn"], execution["PipelineExecutionStatus"]
    if status not in ("Failed", "Stopped"):
        raise invalid(
            f"Only pipeline executions with 'Failed' or 'Stopped' status can be retried; {arn} has the status {status}"
        )
    if ended_by := next((step["StepName"] for step in steps if _is_final(step)), None):
        raise invalid(
            f"Pipeline execution {arn} ended by its Fail step {ended_by} and can't be retried; start a new execution"
        )


def _is_final(step: Document) -> bool:
    return any(type_in_metadata(name).is_final for name in step.get("Metadata") or {})


def _new_execution(pipeline: Document, definition: Definition, params: Document) -> Document:
    parameters = {item["Name"]: item["Value"] for item in params.get("PipelineParameters") or []}
    values = typed_parameters(definition.parameters, parameters)
    identifier, time = new_id(), now()
    document = pick(params, "PipelineExecutionDescription", "ParallelismConfiguration")
    if "ParallelismConfiguration" in pipeline:
        document.setdefault("ParallelismConfiguration", pipeline["ParallelismConfiguration"])
    return document | {
        "PipelineArn": pipeline["PipelineArn"],
        "PipelineExecutionArn": f"{pipeline['PipelineArn']}/execution/{identifier}",
        "PipelineExecutionDisplayName": params.get("PipelineExecutionDisplayName", f"execution-{int(time * 1000)}"),
        "PipelineExecutionStatus": "Executing",
        "PipelineVersionId": pipeline["_version"],
        "RoleArn": params.get("RoleArn", pipeline["RoleArn"]),
        "CreationTime": time,
        "LastModifiedTime": time,
        "CreatedBy": created_by(),
        "LastModifiedBy": created_by(),
        "_definition": pipeline["PipelineDefinition"],
        "_parameters": {name: _text(value) for name, value in values.items()},
    }


def _text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _read(backend: Backend, params: Document) -> Document:
    with backend.store.read() as read:
        document = executions.read(read, params["PipelineExecutionArn"])
    return reap(backend, document)


def describe(backend: Backend, params: Document) -> Document:
    """DescribePipelineExecution."""
    return _read(backend, params)


def list_(backend: Backend, params: Document) -> Document:
    """ListPipelineExecutions: reads the executions of one page only."""
    with backend.store.read() as read:
        pipeline = find(read, params["PipelineName"])
        times = read.creation_times(pipeline["PipelineName"])
        known = [{"PipelineExecutionArn": arn, "CreationTime": time} for arn, time in times.items()]
        field = "PipelineExecutionArn" if params.get("SortBy") == "PipelineExecutionArn" else "CreationTime"
        sort = lambda item: (item[field], item["PipelineExecutionArn"])  # noqa: E731 (one expression, used once)
        listed = [item for item in known if is_listed(item, params)]
        response = page(listed, params, member="PipelineExecutionSummaries", sort=sort)
        arns = [item["PipelineExecutionArn"] for item in response["PipelineExecutionSummaries"]]
        documents = read.get_many(Table.EXECUTIONS, arns)
    return response | {"PipelineExecutionSummaries": [_summary(reap(backend, documents[arn])) for arn in arns]}


def _summary(document: Document) -> Document:
    summary = pick(document, *_SUMMARY) | {"StartTime": document["CreationTime"]}
    if "FailureReason" in document:
        summary["PipelineExecutionFailureReason"] = document["FailureReason"]
    return summary


def list_steps(backend: Backend, params: Document) -> Document:
    """ListPipelineExecutionSteps: those that have started, in that order."""
    arn = _read(backend, params)["PipelineExecutionArn"]
    with backend.store.read() as read:
        steps = read.select(Table.STEPS, arn)
    return page(
        steps, params, member="PipelineExecutionSteps", sort=lambda step: (step.get("StartTime", 0), step["StepName"])
    )


def list_parameters(backend: Backend, params: Document) -> Document:
    """ListPipelineParametersForExecution: the start's and the defaults."""
    values = _read(backend, params)["_parameters"]
    items = [{"Name": name, "Value": value} for name, value in values.items()]
    return page(items, params, member="PipelineParameters", sort=lambda item: (item["Name"],))


def describe_definition(backend: Backend, params: Document) -> Document:
    """DescribePipelineDefinitionForExecution: the definition as it was at the start."""
    document = _read(backend, params)
    return {"PipelineDefinition": document["_definition"], "CreationTime": document["CreationTime"]}


def stop(backend: Backend, params: Document) -> Document:
    """StopPipelineExecution: the engine sees it within a fraction of a second and ends its jobs."""
    document = _read(backend, params)
    if document["PipelineExecutionStatus"] not in RUNNING:
        status = document["PipelineExecutionStatus"]
        raise invalid(f"Only pipelines with 'Executing' status can be stopped: it has ended ({status}).")
    with backend.store.write() as write:
        executions.change(write, document["PipelineExecutionArn"], PipelineExecutionStatus="Stopping")
    return pick(document, "PipelineExecutionArn")


def update(backend: Backend, params: Document) -> Document:
    """UpdatePipelineExecution: its display name and description."""
    changes = pick(params, "PipelineExecutionDisplayName", "PipelineExecutionDescription")
    with backend.store.write() as write:
        document = executions.read(write, params["PipelineExecutionArn"]) | changes
        write.put(Table.EXECUTIONS, document["PipelineExecutionArn"], {**document, "LastModifiedTime": now()})
    return pick(document, "PipelineExecutionArn")
