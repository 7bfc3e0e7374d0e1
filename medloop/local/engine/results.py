"""Results of steps as their records keep them: for a retry, for the step cache, for steps that aren't selected."""

from __future__ import annotations

from medloop.definition.read import CONDITION, read_definition
from medloop.definition.step_types import type_in_metadata
from medloop.local.engine.executions import job_in_metadata
from medloop.local.engine.step_runs.base import StepResult
from medloop.local.jobs.job import TUNING
from medloop.local.state.store import Document, Table, Transaction
from medloop.local.tuning import tuning_jobs


def property_files(declared: list[Document], job: Document) -> dict[str, str]:
    """The S3 URI of each property file that a Processing step declares, by name; from the record of its job."""
    outputs = job.get("ProcessingOutputConfig", {}).get("Outputs") or []
    uris = {output["OutputName"]: output["S3Output"]["S3Uri"].rstrip("/") for output in outputs}
    return {
        file["PropertyFileName"]: f"{uris[file['OutputName']]}/{file['FilePath']}"
        for file in declared
        if file["OutputName"] in uris
    }


def recorded(transaction: Transaction, execution: Document, record: Document) -> StepResult:
    """The result of a step that succeeded.

    Args:
        transaction: The records.
        execution: The record of the execution that ran it.
        record: The step's record. If it doesn't contain the result itself (it was ended for an engine that died, or
            recorded before results were kept), the job, the package or the outcome that it names does.
    """
    metadata: Document = record.get("Metadata") or {}
    if "_properties" in record:
        return StepResult("Succeeded", record["_properties"], metadata, property_files=record["_property_files"])
    if kind_and_job := job_in_metadata(transaction, metadata):
        kind, job = kind_and_job
        if kind is TUNING:
            return StepResult("Succeeded", tuning_jobs.properties(transaction, job), metadata)
        step = read_definition(execution["_definition"]).step(record["StepName"])
        files = property_files(step.document.get("PropertyFiles") or [], job)
        return StepResult("Succeeded", job, metadata, property_files=files)
    for row, known in ((type_in_metadata(member), known) for member, known in metadata.items()):
        if row.operation == "CreateModelPackage":
            arn = known[row.arn_member]
            return StepResult("Succeeded", transaction.get(Table.PACKAGES, arn) or {"ModelPackageArn": arn}, metadata)
        if row.name == CONDITION:
            return StepResult("Succeeded", dict(known), metadata)
    return StepResult("Succeeded", {}, metadata)
