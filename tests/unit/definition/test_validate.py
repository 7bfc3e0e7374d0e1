"""What a pipeline definition may not be, each rule broken once."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from medloop.definition.requests import service_model
from medloop.definition.validate import validate
from tests.unit.definition.documents import get, processing, registering, small_definition

Edit = Callable[[dict[str, Any]], Any]


def arguments(document: dict[str, Any], step: int) -> dict[str, Any]:
    """A top-level step's arguments."""
    step_arguments: dict[str, Any] = document["Steps"][step]["Arguments"]
    return step_arguments


def spec(document: dict[str, Any]) -> dict[str, Any]:
    """The processing step's application."""
    specification: dict[str, Any] = arguments(document, 0)["AppSpecification"]
    return specification


def test_the_users_own_aws_settings_do_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    """A definition can be checked with a profile that doesn't exist: no session is opened."""
    monkeypatch.setenv("AWS_PROFILE", "no-such-profile")
    service_model.cache_clear()
    assert validate(json.dumps(small_definition())) == []


def test_the_unbroken_definition_is_accepted() -> None:
    """The document that the other tests break has no fault."""
    assert validate(json.dumps(small_definition())) == []


BROKEN: dict[str, tuple[Edit, str]] = {
    "required member missing": (
        lambda d: arguments(d, 0).pop("ProcessingResources"),
        "step Score: ProcessingResources: is missing",
    ),
    "unknown member": (
        lambda d: arguments(d, 1).update(Epochs=3),
        "step Train: Epochs: the service knows no such member",
    ),
    "number as text": (
        lambda d: arguments(d, 1)["StoppingCondition"].update(MaxRuntimeInSeconds="60"),
        "MaxRuntimeInSeconds: must be of type integer, not '60'",
    ),
    "text as number": (
        lambda d: arguments(d, 1)["HyperParameters"].update(seed=3),
        "HyperParameters.seed: must be of type string, not 3",
    ),
    "boolean as number": (
        lambda d: arguments(d, 1)["ResourceConfig"].update(InstanceCount=True),
        "InstanceCount: must be of type integer, not True",
    ),
    "integer parameter in a text slot": (
        lambda d: arguments(d, 1)["HyperParameters"].update(epochs=get("Parameters.Epochs")),
        "parameter Epochs is of type Integer, and the service wants string",
    ),
    "joined text in a number's slot": (
        lambda d: arguments(d, 1)["ResourceConfig"].update(InstanceCount={"Std:Join": {"On": "", "Values": ["1"]}}),
        "Std:Join gives text, and the service wants integer",
    ),
    "expression for a whole structure": (
        lambda d: arguments(d, 1).update(ResourceConfig=get("Parameters.Data")),
        "an expression can't stand for a structure",
    ),
    "value that the service doesn't list": (
        lambda d: arguments(d, 0)["ProcessingResources"]["ClusterConfig"].update(InstanceType="ml.toaster"),
        "InstanceType: 'ml.toaster' is none of the service's values",
    ),
    "parameter's default that the service doesn't list": (
        lambda d: d["Parameters"][2].update(DefaultValue="ml.toaster"),
        "InstanceType (default of Instance): 'ml.toaster' is none",
    ),
    "pattern": (lambda d: arguments(d, 0).update(RoleArn="jobs"), "step Score: RoleArn: "),
    "too small": (
        lambda d: arguments(d, 1)["StoppingCondition"].update(MaxRuntimeInSeconds=0),
        "MaxRuntimeInSeconds: 0 is less than the minimum 1",
    ),
    "more than 100 arguments": (
        lambda d: spec(d).update(ContainerArguments=["x"] * 101),
        "ContainerArguments: 101 entries is more than the maximum 100",
    ),
    "an argument of more than 256 characters": (
        lambda d: spec(d).update(ContainerArguments=["x" * 257]),
        "ContainerArguments[0]: 257 characters is more than the maximum 256",
    ),
    "more than 10 inputs": (
        lambda d: arguments(d, 0).update(ProcessingInputs=arguments(d, 0)["ProcessingInputs"] * 11),
        "ProcessingInputs: 11 entries is more than the maximum 10",
    ),
    "metadata that the service refuses": (
        lambda d: d["Steps"][2]["Arguments"]["IfSteps"][0]["Arguments"].update(CustomerMetadataProperties={"a": "x*y"}),
        "CustomerMetadataProperties.a: 'x*y' does not match",
    ),
    "same name twice": (
        lambda d: d["Steps"].append(processing("Train")),
        "step Train: the name is used 2 times",
    ),
    "same name in a branch": (
        lambda d: d["Steps"][2]["Arguments"]["IfSteps"].append(registering("Score")),
        "step Score: the name is used 2 times",
    ),
    "name too long": (lambda d: d["Steps"].append(processing("S" * 65)), "the name has 65 characters; 64 are allowed"),
    "name with a space": (lambda d: d["Steps"].append(processing("My Step")), "step My Step: names hold letters"),
    "unknown step type": (lambda d: d["Steps"][0].update(Type="Magic"), "step Score: unknown type Magic"),
    "nested condition": (
        lambda d: d["Steps"][2]["Arguments"]["IfSteps"].append(
            {"Name": "Inner", "Type": "Condition", "Arguments": {"Conditions": [{"Type": "Equals"}]}}
        ),
        "step Inner: is nested in condition Gate; SageMaker has no nested conditions",
    ),
    "condition without conditions": (
        lambda d: arguments(d, 2).update(Conditions=[]),
        "step Gate: has no conditions",
    ),
    "unknown condition": (
        lambda d: arguments(d, 2)["Conditions"][0].update(Type="Roughly"),
        "step Gate: unknown condition Roughly",
    ),
    "cycle": (
        lambda d: d["Steps"][0].update(DependsOn=["Train"]),
        "steps wait for each other: ",
    ),
    "step that doesn't exist": (
        lambda d: d["Steps"][0].update(DependsOn=["Absent"]),
        "step Score: refers to step Absent, which does not exist",
    ),
    "parameter that isn't declared": (
        lambda d: spec(d)["ContainerArguments"].append(get("Parameters.Nothing")),
        "step Score: refers to parameter Nothing, which is not declared",
    ),
    "output that doesn't exist": (
        lambda d: spec(d)["ContainerArguments"].append(
            get("Steps.Score.ProcessingOutputConfig.Outputs['no'].S3Output.S3Uri")
        ),
        "refers to output no of Score, which has out",
    ),
    "property file that doesn't exist": (
        lambda d: d["Steps"][0].pop("PropertyFiles"),
        "step Gate: refers to property file scores of Score, which has no such file",
    ),
    "property file in no output": (
        lambda d: d["Steps"][0]["PropertyFiles"][0].update(OutputName="nowhere"),
        "property file scores is in output nowhere, which the step doesn't have",
    ),
    "reference into a branch": (
        lambda d: d["Steps"].append(
            {**registering("Again"), "DependsOn": [], "Arguments": {"SourceUri": get("Steps.Register.ModelPackageArn")}}
        ),
        "step Again: refers to Register, which runs only in a branch of Gate",
    ),
    "no reference at all": (
        lambda d: spec(d)["ContainerArguments"].append(get("Weather.Today")),
        "step Score: Weather.Today is not a reference",
    ),
    "execution variable in an argument": (
        lambda d: spec(d)["ContainerArguments"].append(get("Execution.StartDateTime")),
        "step Score: AppSpecification holds Execution.StartDateTime",
    ),
    "execution variable in the environment": (
        lambda d: arguments(d, 1).update(Environment={"RUN": get("Execution.PipelineExecutionId")}),
        "step Train: Environment holds Execution.PipelineExecutionId",
    ),
    "parameter declared twice": (
        lambda d: d["Parameters"].append({"Name": "Data", "Type": "String"}),
        "parameter Data: is declared 2 times",
    ),
    "parameter of an unknown type": (
        lambda d: d["Parameters"][0].update(Type="Date"),
        "parameter Data: unknown type Date",
    ),
    "parameter's default of another type": (
        lambda d: d["Parameters"][1].update(DefaultValue="three"),
        "parameter Epochs: default 'three' is not of type Integer",
    ),
    "retries of a Fail step": (
        lambda d: d["Steps"][2]["Arguments"]["ElseSteps"][0].update(RetryPolicies=[]),
        "step Stop: a Fail step takes no retry policies",
    ),
    "a cache's duration that is none": (
        lambda d: d["Steps"][0].update(CacheConfig={"Enabled": True, "ExpireAfter": "soon"}),
        "ExpireAfter 'soon' is not a duration",
    ),
    "a retry policy without an end": (
        lambda d: d["Steps"][0].update(RetryPolicies=[{"ExceptionType": ["Step.THROTTLING"]}]),
        "a retry policy is wrong: must have either MaxAttempts or ExpireAfterMin",
    ),
    "caching of a condition": (
        lambda d: d["Steps"][2].update(CacheConfig={"Enabled": True}),
        "step Gate: a Condition step is never cached",
    ),
    "failure without words": (
        lambda d: d["Steps"][2]["Arguments"]["ElseSteps"][0].update(Arguments={}),
        "step Stop: ErrorMessage must be text",
    ),
}


@pytest.mark.parametrize("case", BROKEN)
def test_broken_definitions_are_refused_with_their_reason(case: str) -> None:
    """Each rule, broken alone, is named."""
    edit, expected = BROKEN[case]
    document = small_definition()
    edit(document)
    problems = validate(json.dumps(document))
    assert any(expected in problem for problem in problems), problems
    assert not any("\n" in problem for problem in problems)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("{", "is not JSON"),
        ("[]", "has no list of Steps"),
        ('{"Steps": [{}]}', "a step has no Name"),
        ('{"Steps": [{"Name": "A", "Arguments": []}]}', "Type"),
        ('{"Steps": [{"Name": "A", "Arguments": [1]}]}', "Arguments must be a mapping"),
        (
            '{"Steps": [{"Name": "A", "Type": "Condition", "Arguments": {"IfSteps": {"a": 1}}}]}',
            "IfSteps must be a list",
        ),
        ('{"Steps": [], "Parameters": [3]}', "a parameter has no Name"),
        (" " * 1_048_577, "1048576 are allowed"),
    ],
)
def test_what_is_no_definition_is_refused(text: str, expected: str) -> None:
    """Text of another shape gives a line, never a traceback."""
    problems = validate(text)
    assert any(expected in problem or expected.lower() in problem for problem in problems), problems
