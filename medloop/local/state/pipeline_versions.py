"""Versions of pipelines as records: every UpdatePipeline makes one, and an execution may start from any."""

from __future__ import annotations

from medloop.local.errors import not_found
from medloop.local.state.store import Document, Table, Transaction

_SAID = ("PipelineVersionDisplayName", "PipelineVersionDescription")
_VERSIONED = ("PipelineDefinition", "PipelineDescription", "PipelineDisplayName", "RoleArn", "ParallelismConfiguration")


def keep(write: Transaction, pipeline: Document) -> Document:
    """Record a pipeline's newest version, unless it is; returns its record.

    A pipeline that was made before versions were kept has its newest one only.
    """
    number = pipeline["_version"]
    key = _key(pipeline, number)
    if known := write.get(Table.VERSIONS, key):
        return known
    version = {name: pipeline[name] for name in _VERSIONED if name in pipeline}
    version |= {"PipelineArn": pipeline["PipelineArn"], "PipelineVersionId": number}
    version["CreationTime"] = pipeline["LastModifiedTime"]
    write.put(Table.VERSIONS, key, version, parent=pipeline["PipelineName"])
    return version


def change(write: Transaction, pipeline: Document, number: int, **fields: object) -> None:
    """Change a version's record; one that isn't there stays so."""
    key = _key(pipeline, number)
    if version := write.get(Table.VERSIONS, key):
        write.put(Table.VERSIONS, key, {**version, **fields})


def find(transaction: Transaction, pipeline: Document, number: int | None) -> Document:
    """A pipeline as one of its versions has it: its record, with that version's fields instead of the newest one's.

    Args:
        transaction: The records.
        pipeline: The pipeline's record.
        number: The version; None for the newest.

    Raises:
        ServiceError: ResourceNotFound.
    """
    newest: int = pipeline["_version"]
    requested = newest if number is None else number
    version = transaction.get(Table.VERSIONS, _key(pipeline, requested))
    if version is None and requested == newest:
        return pipeline
    if version is None:
        raise not_found(f"Pipeline version {requested} of '{pipeline['PipelineArn']}' does not exist.")
    rest = {name: value for name, value in pipeline.items() if name not in _VERSIONED}
    return rest | {name: version[name] for name in (*_VERSIONED, *_SAID) if name in version} | {"_version": requested}


def all_versions(transaction: Transaction, pipeline: Document) -> list[Document]:
    """All versions of a pipeline that are known, the oldest first."""
    known = transaction.select(Table.VERSIONS, pipeline["PipelineName"])
    if not any(version["PipelineVersionId"] == pipeline["_version"] for version in known):
        newest = {"PipelineVersionId": pipeline["_version"], "CreationTime": pipeline["LastModifiedTime"]}
        known.append({"PipelineArn": pipeline["PipelineArn"], **newest})
    return known


def _key(pipeline: Document, number: int) -> str:
    return f"{pipeline['PipelineName']}/{number}"
