"""SageMaker's operations on pipelines."""

from __future__ import annotations

from medloop.local.api.paging import is_listed, page, page_of_records
from medloop.local.engine.executions import RUNNING, reap
from medloop.local.engine.graph import read_graph
from medloop.local.errors import ServiceError, check_name, in_use, invalid, not_found
from medloop.local.state import pipeline_versions
from medloop.local.state.backend import Backend
from medloop.local.state.home import arn, now
from medloop.local.state.model_packages import created_by
from medloop.local.state.store import Document, Table, Transaction, pick
from medloop.local.state.tags import put_tags

_SUMMARY = ("PipelineArn", "PipelineName", "PipelineDisplayName", "PipelineDescription", "RoleArn", "CreationTime")
_VERSION_SUMMARY = (
    "PipelineArn",
    "PipelineVersionId",
    "CreationTime",
    "PipelineVersionDisplayName",
    "PipelineVersionDescription",
    "LastExecutionPipelineExecutionArn",
)


def find(transaction: Transaction, name_or_arn: str) -> Document:
    """A pipeline's record, by its name or ARN. Raises ServiceError ResourceNotFound."""
    name = name_or_arn.rpartition("/")[2]
    absent = not_found(f"Pipeline '{arn(f'pipeline/{name}')}' does not exist.")
    return transaction.require(Table.PIPELINES, name, absent)


def create(backend: Backend, params: Document) -> Document:
    """CreatePipeline."""
    name, time = params["PipelineName"], now()
    check_name("PipelineName", name, 256)
    document = pick(params, "PipelineName", "PipelineDescription", "RoleArn", "ParallelismConfiguration")
    document |= {
        "PipelineArn": arn(f"pipeline/{name}"),
        "PipelineDisplayName": params.get("PipelineDisplayName", name),
        "PipelineDefinition": _definition(backend, params),
        "PipelineStatus": "Active",
        "CreationTime": time,
        "LastModifiedTime": time,
        "CreatedBy": created_by(),
        "LastModifiedBy": created_by(),
        "_version": 1,
        "_token": params["ClientRequestToken"],
    }
    with backend.store.write() as write:
        existing = write.get(Table.PIPELINES, name)
        if existing and existing["_token"] != params["ClientRequestToken"]:
            raise invalid(
                "Pipeline names must be unique within an AWS account and region. "
                f"Pipeline with name ({name}) already exists."
            )
        if not existing:
            write.put(Table.PIPELINES, name, document)
            pipeline_versions.keep(write, document)
            put_tags(write, document["PipelineArn"], params.get("Tags") or [])
    return {"PipelineArn": document["PipelineArn"]}


def update(backend: Backend, params: Document) -> Document:
    """UpdatePipeline: makes a version."""
    changes = pick(params, "PipelineDisplayName", "PipelineDescription", "RoleArn", "ParallelismConfiguration")
    if "PipelineDefinition" in params or "PipelineDefinitionS3Location" in params:
        changes["PipelineDefinition"] = _definition(backend, params)
    with backend.store.write() as write:
        document = find(write, params["PipelineName"])
        pipeline_versions.keep(write, document)
        document |= {**changes, "LastModifiedTime": now(), "_version": document["_version"] + 1}
        write.put(Table.PIPELINES, document["PipelineName"], document)
        pipeline_versions.keep(write, document)
    return {"PipelineArn": document["PipelineArn"], "PipelineVersionId": document["_version"]}


def describe(backend: Backend, params: Document) -> Document:
    """DescribePipeline: the newest version, or the requested one."""
    with backend.store.read() as read:
        return pipeline_versions.find(read, find(read, params["PipelineName"]), params.get("PipelineVersionId"))


def list_versions(backend: Backend, params: Document) -> Document:
    """ListPipelineVersions."""
    with backend.store.read() as read:
        versions = pipeline_versions.all_versions(read, find(read, params["PipelineName"]))
    shown = [pick(version, *_VERSION_SUMMARY) for version in versions if is_listed(version, params)]
    return page(shown, params, member="PipelineVersionSummaries", sort=lambda version: (version["PipelineVersionId"],))


def update_version(backend: Backend, params: Document) -> Document:
    """UpdatePipelineVersion: its display name and description; aliases aren't kept."""
    if "PipelineVersionAliasOperations" in params:
        raise invalid("The local backend keeps no aliases of pipeline versions.")
    number = params["PipelineVersionId"]
    with backend.store.write() as write:
        pipeline = find(write, params["PipelineArn"])
        pipeline_versions.find(write, pipeline, number)
        pipeline_versions.keep(write, pipeline)
        fields = pick(params, "PipelineVersionDisplayName", "PipelineVersionDescription")
        pipeline_versions.change(write, pipeline, number, **fields)
    return {"PipelineArn": pipeline["PipelineArn"], "PipelineVersionId": number}


def delete(backend: Backend, params: Document) -> Document:
    """DeletePipeline, with the records of its executions; refused while one runs."""
    with backend.store.read() as read:
        document = find(read, params["PipelineName"])
        executions = read.select(Table.EXECUTIONS, document["PipelineName"])
    if any(reap(backend, execution)["PipelineExecutionStatus"] in RUNNING for execution in executions):
        raise in_use(f"Pipeline {document['PipelineArn']} has an execution that runs; stop it first.")
    with backend.store.write() as write:
        write.delete(Table.PIPELINES, document["PipelineName"])
        write.delete(Table.TAGS, document["PipelineArn"])
    return {"PipelineArn": document["PipelineArn"]}


def list_(backend: Backend, params: Document) -> Document:
    """ListPipelines."""
    with backend.store.read() as read:
        known = read.select(Table.PIPELINES)
    prefix = params.get("PipelineNamePrefix", "")
    named = [document for document in known if document["PipelineName"].startswith(prefix)]
    return page_of_records(named, params, member="PipelineSummaries", name="PipelineName", show=_summary)


def _summary(document: Document) -> Document:
    summary = pick(document, *_SUMMARY, "LastModifiedTime")
    if "LastRunTime" in document:
        summary["LastExecutionTime"] = document["LastRunTime"]
    return summary


def _definition(backend: Backend, params: Document) -> str:
    """The request's definition, inline or in S3, checked."""
    if "PipelineDefinition" in params:
        text = str(params["PipelineDefinition"])
    elif "PipelineDefinitionS3Location" in params:
        location = params["PipelineDefinitionS3Location"]
        try:
            text = backend.objects.read(f"s3://{location['Bucket']}/{location['ObjectKey']}").decode()
        except ServiceError as error:
            raise invalid(f"PipelineDefinitionS3Location can't be read: {error.message}") from error
    else:
        raise invalid("Either PipelineDefinition or PipelineDefinitionS3Location must be given.")
    read_graph(text)
    return text
