"""Members of steps: what no definition is known to have is refused by step and member."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from medloop.definition.read import read_definition
from medloop.definition.requests import service_model
from medloop.definition.service_shape import DEFINITION_MEMBERS, PROVEN, Proof, check_members, schema_members, unproven
from medloop.definition.step_types import STEP_TYPES
from medloop.definition.validate import validate
from tests.unit.definition.documents import small_definition

Edit = Callable[[dict[str, Any]], Any]


def edited(edit: Edit) -> str:
    """The small definition's text after a change."""
    document = small_definition()
    edit(document)
    return json.dumps(document)


@pytest.mark.parametrize(
    ("edit", "problem"),
    [
        (lambda d: d["Steps"][1]["Arguments"].update(RemoteDebugConfig={}), "step Train: Arguments.RemoteDebugConfig"),
        (
            lambda d: d["Steps"][1]["Arguments"]["ResourceConfig"].update(TrainingPlanArn="arn"),
            "step Train: Arguments.ResourceConfig.TrainingPlanArn",
        ),
        (
            lambda d: d["Steps"][0]["Arguments"]["ProcessingInputs"][0]["S3Input"].update(Speed=1),
            "step Score: Arguments.ProcessingInputs.S3Input.Speed",
        ),
        (lambda d: d["Steps"][0].update(PropertyFile=[]), "step Score: PropertyFile"),
        (lambda d: d["Steps"][2].update(Reason="x"), "step Gate: Reason"),
        (lambda d: d["Steps"][2]["Arguments"]["IfSteps"][0]["Arguments"].update(ModelLifeCycle={}), "step Register: "),
        (lambda d: d["Steps"][2]["Arguments"]["ElseSteps"][0]["Arguments"].update(Code=1), "step Stop: Arguments.Code"),
    ],
)
def test_a_member_that_no_definition_is_known_to_have_is_refused(edit: Edit, problem: str) -> None:
    """In jobs' requests, in lists, on steps themselves and within branches; botocore knows some of them."""
    text = edited(edit)
    (line,) = check_members(read_definition(text))
    assert line.startswith(problem)
    assert "refuses unknown members; leave it out" in line
    assert line in validate(text)


@pytest.mark.parametrize("name", ["PipelineMetadata", "version", "ParallelismConfiguration", "Description"])
def test_a_member_of_the_definition_itself_is_refused(name: str) -> None:
    """Next to Steps, too: by name; some are members of CreatePipeline's request."""
    text = edited(lambda d: d.update({name: {}}))
    (line,) = check_members(read_definition(text))
    assert line.startswith(f"{name}: no definition with this member is known")
    assert line in validate(text)


def test_members_that_the_schema_has_are_proven_by_it() -> None:
    """The schema's four; the SDK's two have another proof, and may be null or an object."""
    schema = {name for name, (proof, _) in DEFINITION_MEMBERS.items() if proof == Proof.SCHEMA}
    assert schema == {"Version", "Metadata", "Parameters", "Steps"}
    for value in (None, {"ExperimentName": "a"}):
        text = edited(lambda d, value=value: d.update(dict.fromkeys(set(DEFINITION_MEMBERS) - schema, value)))
        assert list(check_members(read_definition(text))) == []


@pytest.mark.parametrize(
    "edit",
    [
        lambda d: None,
        lambda d: d["Steps"][1]["Arguments"].update(Environment={"ANY_NAME": "value"}),
        lambda d: d["Steps"][1]["Arguments"]["HyperParameters"].update(anything="1"),
        lambda d: d["Steps"][1]["Arguments"].update(VpcConfig={"Subnets": ["subnet-1"], "SecurityGroupIds": ["sg-1"]}),
        lambda d: d["Steps"][1].update(DependsOn=["Score"], CacheConfig={"Enabled": True, "ExpireAfter": "30d"}),
        lambda d: d["Steps"][2]["Arguments"]["IfSteps"][0]["Arguments"].update(ModelCard={"ModelCardStatus": "Draft"}),
        lambda d: d["Steps"].append({"Name": "Odd", "Type": "Odd", "Arguments": {"a": 1}}),
    ],
)
def test_what_is_proven_is_taken(edit: Edit) -> None:
    """The schema's members, those of the table, any key of a map; an unknown step type is another check's matter."""
    assert list(check_members(read_definition(edited(edit)))) == []


def test_every_row_has_its_use() -> None:
    """Each is missing in the schema, has a proof of its own, and is of a known type whose request has it."""
    for member in PROVEN:
        node: Any = schema_members()[member.type]
        *outer, last = member.path.split(".")
        for name in outer:
            node = node[name]
        assert last not in node, member
        assert member.proof != Proof.SCHEMA
        assert member.source
        if outer:
            operation = STEP_TYPES[member.type].operation
            shape: Any = service_model().operation_model(operation).input_shape
            for name in member.path.split(".")[1:]:
                shape = (shape.member if shape.type_name == "list" else shape).members[name]


def test_every_step_type_has_its_members() -> None:
    """A type of the table without described members would never be checked."""
    assert set(STEP_TYPES) <= set(schema_members())


def test_members_without_proof_are_listed() -> None:
    """Once each, however many steps have them; none for a definition that has none."""
    assert unproven(read_definition(json.dumps(small_definition()))) == []
    arguments = {
        "TrainingJobDefinition": {"Environment": {"A": "b"}},
        "HyperParameterTuningJobConfig": {"RandomSeed": 3},
    }
    tuning = {"Name": "Tune", "Type": "Tuning", "Arguments": arguments}
    document = small_definition() | {"Steps": [tuning, tuning | {"Name": "Again"}]}
    (member,) = unproven(read_definition(json.dumps(document)))
    assert member.path == "Arguments.HyperParameterTuningJobConfig.RandomSeed"
