"""Pipelines and executions through the client: what is refused, what is listed, and how steps without jobs run."""

from __future__ import annotations

import json
from typing import Any

import botocore.session
import pytest
from botocore.exceptions import ClientError
from botocore.model import ListShape, MapShape, Shape, StructureShape

from medloop.identity import caller, starter
from medloop.local.state.home import BUCKET, ROLE_ARN
from tests.unit.local.steps import compare, condition, fail, processing, register, training

MODEL = botocore.session.get_session().get_service_model("sagemaker")


def create(local: Any, steps: list[Any], parameters: list[Any] | None = None, name: str = "p", **more: Any) -> None:
    """Create a pipeline of these steps."""
    definition = json.dumps({"Version": "2020-12-01", "Parameters": parameters or [], "Steps": steps})
    local.sagemaker.create_pipeline(PipelineName=name, PipelineDefinition=definition, RoleArn=ROLE_ARN, **more)


def assert_in_shape(value: Any, shape: Shape, path: str = "") -> None:
    """Every field of a response exists in the service's model, down to the leaves, with its type."""
    if isinstance(shape, StructureShape):
        unknown = set(value) - set(shape.members) - ({"ResponseMetadata"} if not path else set())
        assert not unknown, f"{path}: {unknown}"
        assert not set(shape.required_members) - set(value), path
        for name, member in value.items():
            if name != "ResponseMetadata":
                assert_in_shape(member, shape.members[name], f"{path}.{name}")
    elif isinstance(shape, ListShape):
        for index, member in enumerate(value):
            assert_in_shape(member, shape.member, f"{path}[{index}]")
    elif isinstance(shape, MapShape):
        for name, member in value.items():
            assert_in_shape(member, shape.value, f"{path}.{name}")
    else:
        kinds = {"timestamp": "datetime", "string": "str", "boolean": "bool", "float": "float", "double": "float"}
        assert type(value).__name__ == kinds.get(shape.type_name, "int"), f"{path}: {value!r}"


def call(local: Any, operation: str, **request: Any) -> dict[str, Any]:
    """Call an operation and check its response against the service's model."""
    method = "".join(f"_{letter.lower()}" if letter.isupper() else letter for letter in operation).lstrip("_")
    response: dict[str, Any] = getattr(local.sagemaker, method)(**request)
    shape = MODEL.operation_model(operation).output_shape
    if shape is not None:
        assert_in_shape(response, shape)
    return response


def test_gate_takes_its_branch_and_registers(local: Any) -> None:
    """With the condition true, the first branch's steps run and the others leave no trace; responses fit the model."""
    gate = condition(
        "Gate",
        compare("GreaterThanOrEqualTo", {"Get": "Parameters.Score"}, 0.5),
        yes=[register("Register", ModelApprovalStatus={"Get": "Parameters.Approval"})],
        no=[fail("Stop", "never")],
    )
    parameters = [
        {"Name": "Score", "Type": "Float", "DefaultValue": 0.1},
        {"Name": "Approval", "Type": "String", "DefaultValue": "Approved"},
    ]
    create(local, [gate], parameters, Tags=[{"Key": "a", "Value": "b"}])
    arn = call(
        local,
        "StartPipelineExecution",
        PipelineName="p",
        PipelineParameters=[{"Name": "Score", "Value": "0.5"}],
        PipelineExecutionDisplayName="mine",
    )["PipelineExecutionArn"]
    assert local.finish(arn)["PipelineExecutionStatus"] == "Succeeded"
    described = call(local, "DescribePipelineExecution", PipelineExecutionArn=arn)
    assert (described["PipelineExecutionDisplayName"], "FailureReason" in described) == ("mine", False)
    steps = call(local, "ListPipelineExecutionSteps", PipelineExecutionArn=arn)["PipelineExecutionSteps"]
    assert [(step["StepName"], step["StepStatus"]) for step in steps] == [
        ("Gate", "Succeeded"),
        ("Register", "Succeeded"),
    ]
    assert steps[0]["Metadata"] == {"Condition": {"Outcome": "True"}}
    package = call(local, "DescribeModelPackage", ModelPackageName=steps[1]["Metadata"]["RegisterModel"]["Arn"])
    assert package["ModelApprovalStatus"] == "Approved"
    _check_the_lists(local, arn)


def _check_the_lists(local: Any, arn: str) -> None:
    values = call(local, "ListPipelineParametersForExecution", PipelineExecutionArn=arn)["PipelineParameters"]
    assert values == [{"Name": "Approval", "Value": "Approved"}, {"Name": "Score", "Value": "0.5"}]
    call(local, "DescribePipelineDefinitionForExecution", PipelineExecutionArn=arn)
    assert "LastRunTime" in call(local, "DescribePipeline", PipelineName="p")
    assert len(call(local, "ListPipelineExecutions", PipelineName="p")["PipelineExecutionSummaries"]) == 1
    (version,) = call(local, "ListPipelineVersions", PipelineName="p")["PipelineVersionSummaries"]
    assert (version["PipelineVersionId"], version["LastExecutionPipelineExecutionArn"]) == (1, arn)
    assert "LastExecutionTime" in call(local, "ListPipelines")["PipelineSummaries"][0]
    for operation in ("ListModelPackages", "ListModelPackageGroups", "ListTrainingJobs", "ListProcessingJobs"):
        call(local, operation)
    pipeline = call(local, "DescribePipeline", PipelineName="p")["PipelineArn"]
    assert call(local, "ListTags", ResourceArn=pipeline)["Tags"] == [{"Key": "a", "Value": "b"}]


def test_fail_step_ends_the_execution_with_its_message(local: Any) -> None:
    """With the condition false, Fail's message is on the step and on the execution; nothing is registered."""
    message = {"Std:Join": {"On": " ", "Values": ["score", {"Get": "Parameters.Score"}, "below 2"]}}
    gate = condition(
        "Gate", compare("GreaterThan", {"Get": "Parameters.Score"}, 2), yes=[register("R")], no=[fail("Stop", message)]
    )
    ended, steps = local.run([gate], [{"Name": "Score", "Type": "Integer", "DefaultValue": 1}])
    assert ended["PipelineExecutionStatus"] == "Failed"
    assert ended["FailureReason"] == "Step failure: One or multiple steps failed. Stop: score 1 below 2"
    assert (steps["Stop"]["FailureReason"], steps["Stop"]["StepStatus"]) == ("score 1 below 2", "Failed")
    assert (steps["Gate"]["Metadata"]["Condition"]["Outcome"], "R" in steps) == ("False", False)
    assert local.sagemaker.list_model_packages(ModelPackageType="Both")["ModelPackageSummaryList"] == []


@pytest.mark.slow
def test_refused_request_fails_its_step_with_the_reason(local: Any) -> None:
    """A step's resolved request is checked against the service's model; the reason names operation and field."""
    ended, steps = local.run(
        [training("Train", "image", HyperParameters={"epochs": {"Get": "Parameters.N"}})],
        [{"Name": "N", "Type": "Integer", "DefaultValue": 1}],
    )
    assert ended["PipelineExecutionStatus"] == "Failed"
    assert steps["Train"]["FailureReason"].startswith(
        "ClientError: Failed to invoke sagemaker:CreateTrainingJob. Error"
    )
    assert "HyperParameters.epochs" in steps["Train"]["FailureReason"]


@pytest.mark.slow
def test_same_token_starts_once(local: Any) -> None:
    """StartPipelineExecution with a token used before answers with what it started then, by the caller, user@host."""
    create(local, [])
    request = {"PipelineName": "p", "ClientRequestToken": "t" * 32}
    first = local.sagemaker.start_pipeline_execution(**request)["PipelineExecutionArn"]
    assert starter(local.describe(first)["CreatedBy"]).is_same(caller(local.boto.client("sts").get_caller_identity()))  # type: ignore[union-attr]
    assert local.sagemaker.start_pipeline_execution(**request)["PipelineExecutionArn"] == first
    assert len(local.sagemaker.list_pipeline_executions(PipelineName="p")["PipelineExecutionSummaries"]) == 1
    local.finish(first)
    local.sagemaker.delete_pipeline(PipelineName="p")
    with pytest.raises(ClientError, match="ResourceNotFound"):
        local.describe(first)


def test_duplicate_pipeline_is_refused_in_the_words_that_upsert_reads(local: Any) -> None:
    """CreatePipeline twice is a ValidationException; UpdatePipeline changes the definition and counts versions."""
    create(local, [])
    with pytest.raises(ClientError, match=r"ValidationException.*must be unique within an AWS account"):
        create(local, [])
    updated = local.sagemaker.update_pipeline(PipelineName="p", PipelineDefinition='{"Steps": [], "Version": "new"}')
    assert updated["PipelineVersionId"] == 2
    assert "new" in local.sagemaker.describe_pipeline(PipelineName=updated["PipelineArn"])["PipelineDefinition"]


def test_definition_may_lie_in_s3(local: Any) -> None:
    """A long definition is given by its place."""
    local.s3.put_object(Bucket=BUCKET, Key="definition.json", Body=b'{"Steps": []}')
    location = {"Bucket": BUCKET, "ObjectKey": "definition.json"}
    local.sagemaker.create_pipeline(PipelineName="p", PipelineDefinitionS3Location=location, RoleArn=ROLE_ARN)
    assert local.sagemaker.describe_pipeline(PipelineName="p")["PipelineDefinition"] == '{"Steps": []}'


@pytest.mark.parametrize(
    ("steps", "reason"),
    [
        ([{"Name": "Wait", "Type": "Callback", "Arguments": {}}], "'Wait' has the type 'Callback'"),
        ([fail("A", "x"), fail("A", "y")], "'A' is used twice"),
        ([fail("A", {"Get": "Steps.B.X"})], "'A' refers to 'B'"),
        ([fail("A", {"Get": "Parameters.X"})], "Parameters.X"),
        ([{**fail("A", "x"), "DependsOn": ["B"]}, {**fail("B", "x"), "DependsOn": ["A"]}], "wait for each other"),
        ([condition("A", yes=[condition("B")])], "'B' is within"),
        ([condition("A", yes=[{"Name": "T", "Type": "EMR"}])], "'T' has the type 'EMR'"),
        ([{"Name": "", "Type": "Fail"}], "no valid Name"),
        ([fail("A" * 65, "x")], "no valid Name"),
        ([{**fail("A", "x"), "Arguments": []}, {**fail("B", "x"), "Arguments": ["x"]}], "Step B: Arguments"),
        ("none", "no list of Steps"),
    ],
)
def test_definition_that_can_not_run_is_refused_by_step(local: Any, steps: Any, reason: str) -> None:
    """CreatePipeline names the step and what is wrong with it, and makes nothing."""
    with pytest.raises(ClientError, match=reason) as caught:
        create(local, steps)
    assert caught.value.response["Error"]["Code"] == "ValidationException"
    assert local.sagemaker.list_pipelines()["PipelineSummaries"] == []


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({}, "'Data' has no default"),
        ({"Data": "d", "Epochs": "many"}, "'Epochs' is 'many', which is not of type Integer"),
        ({"Data": "d", "Epochs": "1.5"}, "'Epochs'"),
        ({"Data": "d", "Mode": "c"}, "'Mode' is 'c'; it must be one of a, b"),
        ({"Data": "d", "Typo": "1"}, "Unknown parameters: Typo"),
    ],
)
def test_wrong_parameter_is_refused_by_name(local: Any, values: dict[str, str], reason: str) -> None:
    """StartPipelineExecution checks names, types and allowed values, and starts nothing."""
    parameters = [
        {"Name": "Data", "Type": "String"},
        {"Name": "Epochs", "Type": "Integer", "DefaultValue": 1},
        {"Name": "Mode", "Type": "String", "DefaultValue": "a", "EnumValues": ["a", "b"]},
    ]
    create(local, [], parameters)
    values = [{"Name": name, "Value": value} for name, value in values.items()]
    with pytest.raises(ClientError, match=reason):
        local.sagemaker.start_pipeline_execution(PipelineName="p", PipelineParameters=values)
    assert local.sagemaker.list_pipeline_executions(PipelineName="p")["PipelineExecutionSummaries"] == []


def test_pipelines_are_listed_in_pages_by_prefix(local: Any) -> None:
    """Filters, order and pages of ListPipelines."""
    for name in ("b", "a2", "a1", "a3"):
        create(local, [], name=name)
    pages = local.sagemaker.get_paginator("list_pipelines").paginate(
        PipelineNamePrefix="a", SortBy="Name", SortOrder="Descending", PaginationConfig={"PageSize": 2}
    )
    assert [[item["PipelineName"] for item in page["PipelineSummaries"]] for page in pages] == [["a3", "a2"], ["a1"]]


@pytest.mark.parametrize("name", ["../p", "a b", "-p", ""])
def test_name_that_is_no_name_is_refused(local: Any, name: str) -> None:
    """Names that would be paths never reach a path."""
    with pytest.raises(Exception, match=r"PipelineName"):
        create(local, [], name=name)
    step = processing("S", "image")["Arguments"]
    with pytest.raises(Exception, match=r"ProcessingJobName"):
        local.sagemaker.create_processing_job(ProcessingJobName=name, **step)
