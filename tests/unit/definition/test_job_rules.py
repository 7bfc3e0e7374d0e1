"""What a job's request may not combine, each rule broken once."""

from __future__ import annotations

import json
from typing import Any

import pytest

from medloop.definition.validate import validate
from tests.unit.definition.documents import get, small_definition

SPOT = {
    "EnableManagedSpotTraining": True,
    "StoppingCondition": {"MaxRuntimeInSeconds": 60, "MaxWaitTimeInSeconds": 120},
    "CheckpointConfig": {"S3Uri": "s3://bucket/checkpoints"},
}
ISOLATED = {"EnableNetworkIsolation": True}
DRIVERS = {
    "ChannelName": "sm_drivers",
    "DataSource": {"S3DataSource": {"S3DataType": "S3Prefix", "S3Uri": "s3://bucket/drivers"}},
}


def problems(**changes: Any) -> list[str]:
    """The faults of the small definition with some of its training step's arguments changed."""
    document = small_definition()
    document["Steps"][1]["Arguments"].update(changes)
    document["Parameters"] += [
        {"Name": "Uri", "Type": "String", "DefaultValue": "https://tracker"},
        {"Name": "NoUri", "Type": "String", "DefaultValue": ""},
    ]
    return [problem for problem in validate(json.dumps(document)) if "Uri is not used" not in problem]


@pytest.mark.parametrize(
    "changes",
    [
        SPOT,
        ISOLATED,
        ISOLATED | {"Environment": {"MLFLOW_TRACKING_URI": get("Parameters.NoUri")}},
        ISOLATED | {"Environment": {"MLFLOW_TRACKING_URI": "", "WANDB_MODE": "offline"}},
        {"Environment": {"MLFLOW_TRACKING_URI": "https://tracker", "WANDB_MODE": "online"}},
    ],
)
def test_what_goes_together_is_accepted(changes: dict[str, Any]) -> None:
    """Spot with checkpoints; isolation with trackers that are off; trackers without isolation."""
    assert problems(**changes) == []


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        (SPOT | {"StoppingCondition": {"MaxRuntimeInSeconds": 60}}, "needs a MaxWaitTimeInSeconds"),
        (
            SPOT | {"StoppingCondition": {"MaxRuntimeInSeconds": 60, "MaxWaitTimeInSeconds": 59}},
            "MaxWaitTimeInSeconds is 59, less than MaxRuntimeInSeconds, 60",
        ),
        (
            {"StoppingCondition": {"MaxRuntimeInSeconds": 60, "MaxWaitTimeInSeconds": 90}},
            "is for EnableManagedSpotTraining only",
        ),
        (
            SPOT
            | {
                "ResourceConfig": {
                    "InstanceType": "ml.m5.xlarge",
                    "InstanceCount": 1,
                    "VolumeSizeInGB": 30,
                    "KeepAlivePeriodInSeconds": 60,
                }
            },
            "exclude each other",
        ),
        (SPOT | {"CheckpointConfig": None}, "starts again from nothing"),
        (SPOT | {"InputDataConfig": [DRIVERS]}, "in script mode"),
        (ISOLATED | {"InputDataConfig": [DRIVERS]}, "network isolation in script mode"),
        (ISOLATED | {"Environment": {"MLFLOW_TRACKING_URI": "https://tracker"}}, "MLflow server"),
        (ISOLATED | {"Environment": {"MLFLOW_TRACKING_URI": get("Parameters.Uri")}}, "MLflow server"),
        (ISOLATED | {"Environment": {"WANDB_MODE": "online"}}, "Weights & Biases online"),
        (ISOLATED | {"Environment": {"WANDB_API_KEY": "x"}}, "Weights & Biases online"),
    ],
)
def test_what_excludes_itself_is_refused(changes: dict[str, Any], problem: str) -> None:
    """Each as one line that names the step."""
    matching = [line for line in problems(**changes) if problem in line]
    assert len(matching) == 1
    assert matching[0].startswith("step Train: ")


def test_a_tuning_jobs_training_is_checked_too() -> None:
    """The rules hold for the jobs that a tuning job starts."""
    document = small_definition()
    training = document["Steps"][1]["Arguments"]
    document["Steps"].append(
        {
            "Name": "Tune",
            "Type": "Tuning",
            "Arguments": {"TrainingJobDefinition": {**training, **SPOT} | {"CheckpointConfig": None}},
        }
    )
    assert any(
        line.startswith("step Tune: EnableManagedSpotTraining without") for line in validate(json.dumps(document))
    )


def test_members_of_the_wrong_form_are_named_not_tripped_over() -> None:
    """A hostile definition gives lines, not a traceback."""
    wrong = {"StoppingCondition": 3, "ResourceConfig": [], "Environment": "x", "InputDataConfig": {}, **ISOLATED}
    assert all("must be a" in line for line in problems(**wrong))
