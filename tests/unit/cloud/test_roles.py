"""Which job runs with which role."""

from __future__ import annotations

import json
from typing import Any

import pytest

from medloop.cloud.roles import VARIABLES, Job, give_roles, roles_of_environment
from medloop.errors import TargetError

PIPELINE = "arn:aws:iam::111122223333:role/pipeline"
ROLES: dict[Job, str] = {job: f"arn:aws:iam::111122223333:role/{job}" for job in VARIABLES}
ENVIRONMENT = {VARIABLES[job]: role for job, role in ROLES.items()}
REGISTRY = "111122223333.dkr.ecr.eu-west-1.amazonaws.com"


def processing(name: str, image: Any) -> dict[str, Any]:
    """A processing step."""
    arguments = {"RoleArn": PIPELINE, "AppSpecification": {"ImageUri": image}}
    return {"Name": name, "Type": "Processing", "Arguments": arguments}


def definition() -> str:
    """One step of each kind, some in a branch."""
    branch = [
        {"Name": "Register", "Type": "RegisterModel", "Arguments": {"ModelPackageGroupName": "g"}},
        {"Name": "Model", "Type": "Model", "Arguments": {"ExecutionRoleArn": PIPELINE}},
        {"Name": "Config", "Type": "EndpointConfig", "Arguments": {"EndpointConfigName": "c"}},
    ]
    steps = [
        processing("Split", f"{REGISTRY}/medloop-split@sha256:1"),
        {"Name": "Train", "Type": "Training", "Arguments": {"RoleArn": PIPELINE}},
        {"Name": "Tune", "Type": "Tuning", "Arguments": {"TrainingJobDefinition": {"RoleArn": PIPELINE}}},
        {"Name": "Champion", "Type": "Lambda", "Arguments": {"RoleArn": "an input of that name"}},
        processing("Evaluate", f"{REGISTRY}/medloop-evaluate:abc"),
        {"Name": "Gate", "Type": "Condition", "Arguments": {"Conditions": [], "IfSteps": branch, "ElseSteps": []}},
    ]
    return json.dumps({"Version": "2020-12-01", "Steps": steps})


def test_each_job_gets_its_own() -> None:
    """Split and evaluation are both processing, told apart by their image; what starts no job is left alone."""
    steps = {step["Name"]: step for step in json.loads(give_roles(definition(), ROLES))["Steps"]}
    branch = {step["Name"]: step for step in steps["Gate"]["Arguments"]["IfSteps"]}
    assert steps["Split"]["Arguments"]["RoleArn"] == ROLES["processing"]
    assert steps["Train"]["Arguments"]["RoleArn"] == ROLES["training"]
    assert steps["Tune"]["Arguments"]["TrainingJobDefinition"]["RoleArn"] == ROLES["training"]
    assert "RoleArn" not in steps["Tune"]["Arguments"]
    assert steps["Evaluate"]["Arguments"]["RoleArn"] == ROLES["evaluation"]
    assert branch["Model"]["Arguments"] == {"ExecutionRoleArn": ROLES["inference"]}
    assert steps["Champion"]["Arguments"]["RoleArn"] == "an input of that name"
    assert "RoleArn" not in branch["Register"]["Arguments"]
    assert PIPELINE not in json.dumps(steps)


def test_without_roles_a_definition_stays_as_it_is() -> None:
    """To the byte: its text is its identity."""
    text = json.dumps(json.loads(definition()), indent=3)
    assert give_roles(text, {}) == text


def test_the_environment_names_all_or_none() -> None:
    """Half of them would let the other jobs run with the pipeline's rights, unnoticed."""
    assert roles_of_environment({}) == {}
    assert roles_of_environment(ENVIRONMENT) == ROLES
    with pytest.raises(TargetError, match="MEDLOOP_TRAINING_ROLE_ARN is not set"):
        roles_of_environment({name: role for name, role in ENVIRONMENT.items() if name != VARIABLES["training"]})
    with pytest.raises(TargetError, match=r"MEDLOOP_INFERENCE_ROLE_ARN: 'inference' is no role's ARN"):
        roles_of_environment({**ENVIRONMENT, VARIABLES["inference"]: "inference"})
