"""The table of step types: every row can be used."""

from __future__ import annotations

import pytest

from medloop.definition.read import Step
from medloop.definition.requests import service_model
from medloop.definition.step_types import JOB_TYPES, STEP_TYPES, JobType, StepType, type_in_metadata, type_of
from medloop.local.engine.step_runs.base import StepRunner
from medloop.local.engine.step_runs.runners import runner_of


@pytest.mark.parametrize("name", [name for name, row in STEP_TYPES.items() if row.runner])
def test_the_runner_that_a_row_names_exists(name: str) -> None:
    """Its class is imported when a step of the type starts, so only this test sees a wrong path before."""
    assert isinstance(runner_of(name), StepRunner)


@pytest.mark.parametrize("row", [row for row in STEP_TYPES.values() if row.operation], ids=lambda row: row.name)
def test_a_rows_operation_and_its_required_member_are_the_services(row: StepType) -> None:
    """The installed botocore's model has both."""
    shape = service_model().operation_model(row.operation).input_shape
    assert shape is not None
    assert not row.filled_in or row.filled_in in shape.required_members


@pytest.mark.parametrize("job", JOB_TYPES.values(), ids=lambda job: job.kind)
def test_a_job_is_described_by_its_name(job: JobType) -> None:
    """The Describe operation takes the member that names the job, and answers with the times of the job."""
    operation = service_model().operation_model(job.operation.replace("Create", "Describe"))
    assert operation.input_shape is not None
    assert operation.output_shape is not None
    assert operation.input_shape.required_members == [job.name_member]
    if not job.trials:
        assert {f"{job.time_prefix}StartTime", f"{job.time_prefix}EndTime"} <= set(operation.output_shape.members)


def test_every_types_metadata_is_a_member_of_the_services_answer() -> None:
    """ListPipelineExecutionSteps names the type of a step by a member of its Metadata, which holds the ARN."""
    shape = service_model().shape_for("PipelineExecutionStepMetadata")
    for row in STEP_TYPES.values():
        metadata = shape.members[row.metadata_member]  # type: ignore[attr-defined]
        assert row.arn_member in metadata.members or not (row.operation or row.variants), row.name
        assert type_in_metadata(row.metadata_member) is row


def test_a_type_outside_the_table_allows_nothing() -> None:
    """A definition with one is read, drawn and refused; nothing fails over the missing row."""
    row = type_of(Step("A", "Callback", {}, {}, frozenset()))
    assert (row.name, row.runner, row.operation, row.compared, row.retried) == ("Callback", "", "", (), frozenset())
