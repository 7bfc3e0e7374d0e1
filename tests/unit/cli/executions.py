"""Executions in an account of a test, as pages of executions show them."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

from tests.unit.cli.account import ARN, START, Account
from tests.unit.cli.versions import EVALUATION

HOSTILE = "</pre><script>alert(1)</script><img src=x onerror=alert(2)>"
METRICS = [
    {"Name": "val_auroc", "Regex": "val_auroc=([0-9.]+);"},
    {"Name": "train_loss", "Regex": "train_loss=([0-9.]+);"},
]
GATE = {
    "Name": "Gate",
    "Type": "Condition",
    "DependsOn": ["Tune"],
    "Arguments": {
        "Conditions": [
            {"Type": "GreaterThanOrEqualTo", "LeftValue": 0.7, "RightValue": {"Get": "Parameters.MinScore"}}
        ],
        "IfSteps": [{"Name": "Register", "Type": "RegisterModel", "Arguments": {}}],
        "ElseSteps": [{"Name": "Refuse", "Type": "Fail", "Arguments": {}}],
    },
}
STEPS = [
    {"Name": "Split", "Type": "Processing", "Arguments": {}},
    {"Name": "Tune", "Type": "Tuning", "Arguments": {}, "DependsOn": ["Split"]},
    GATE,
]


def definition(*steps: dict[str, Any]) -> str:
    """A pipeline's definition of these steps."""
    return json.dumps({"Version": "2020-12-01", "Parameters": [], "Steps": [*steps]})


def cluster(instance: str, count: int = 1) -> dict[str, Any]:
    """Instances with a volume of 100 GB each."""
    return {"InstanceType": instance, "InstanceCount": count, "VolumeSizeInGB": 100}


def processing_job(minutes: float | None = 2.0, instance: str = "ml.m5.xlarge") -> dict[str, Any]:
    """A split job that took so long, or still runs."""
    return {
        "ProcessingResources": {"ClusterConfig": cluster(instance)},
        "AppSpecification": {
            "ImageUri": "image:split",
            "ContainerArguments": ["--task", "segmentation", "--api-key", "abcdefgh", "--seed", "0"],
        },
        "ProcessingInputs": [{"InputName": "data", "S3Input": {"S3Uri": "s3://bucket/data/"}}],
        "ProcessingOutputConfig": {
            "Outputs": [{"OutputName": "train", "S3Output": {"S3Uri": "s3://bucket/split/train"}}]
        },
        "StoppingCondition": {"MaxRuntimeInSeconds": 7200},
        "ProcessingStartTime": START,
        **({"ProcessingEndTime": START + timedelta(minutes=minutes)} if minutes is not None else {}),
    }


def training_job(instance: str = "ml.g4dn.xlarge", count: int = 1, **more: Any) -> dict[str, Any]:
    """A training job that trained for an hour."""
    hyperparameters = {f"option_{number}": str(number) for number in range(12)}
    source = {"S3DataSource": {"S3Uri": "s3://bucket/split/train", "S3DataType": "S3Prefix"}}
    return {
        "AlgorithmSpecification": {"TrainingImage": "image:train", "MetricDefinitions": METRICS},
        "HyperParameters": {"model_name": '"resnet18"', "wandb_token": "0123456789abcdef", **hyperparameters},
        "Environment": {"WANDB_API_KEY": "f00dfeedf00dfeed", "TRACKING": "https://me:pass@host/x"},
        "InputDataConfig": [{"ChannelName": "train", "DataSource": source}],
        "OutputDataConfig": {"S3OutputPath": "s3://bucket/train"},
        "ModelArtifacts": {"S3ModelArtifacts": "s3://bucket/train/model.tar.gz"},
        "ResourceConfig": cluster(instance, count),
        "TrainingStartTime": START,
        "TrainingEndTime": START + timedelta(hours=1),
        "TrainingTimeInSeconds": 3600,
        "BillableTimeInSeconds": 3600,
        **more,
    }


def trial(number: int, rate: str, value: float | None, status: str = "Completed", **more: Any) -> dict[str, Any]:
    """A trial's summary."""
    objective = {"Type": "Maximize", "MetricName": "val_auroc", "Value": value}
    return {
        "TrainingJobName": f"tuning-{number:03d}-abcdefgh",
        "TrainingJobStatus": status,
        "TunedHyperParameters": {"learning_rate": rate, "model_name": "vit" if number % 2 else "resnet18"},
        "TrainingStartTime": START,
        "TrainingEndTime": START + timedelta(seconds=61),
        **({"FinalHyperParameterTuningJobObjectiveMetric": objective} if value is not None else {}),
        **more,
    }


def add_tuning(account: Account, arn: str, status: str = "Succeeded", last: str = HOSTILE) -> None:
    """A step that tuned, the last lines of whose trials' logs are as given; one of three trials failed."""
    account.add_step(arn, "Tune", status, {"TuningJob": {"Arn": f"{ARN}:hyper-parameter-tuning-job/tuning"}})
    account.jobs["tuning"] = {
        "HyperParameterTuningJobStatus": "Completed",
        "HyperParameterTuningJobConfig": {
            "Strategy": "Bayesian",
            "HyperParameterTuningJobObjective": {"Type": "Maximize", "MetricName": "val_auroc"},
            "ResourceLimits": {"MaxNumberOfTrainingJobs": 3, "MaxParallelTrainingJobs": 2},
            "ParameterRanges": {
                "ContinuousParameterRanges": [
                    {"Name": "learning_rate", "ScalingType": "Logarithmic", "MinValue": "1e-5", "MaxValue": "0.1"}
                ]
            },
        },
        "TrainingJobDefinition": {
            "AlgorithmSpecification": {"TrainingImage": "image:train", "MetricDefinitions": METRICS},
            "ResourceConfig": cluster("ml.g4dn.xlarge"),
            "StaticHyperParameters": {"epochs": "2"},
        },
        "BestTrainingJob": {"TrainingJobName": "tuning-002-abcdefgh"},
        "trials": [
            trial(1, "1e-05", 0.5),
            trial(2, "0.001", 0.75),
            trial(3, "0.01", None, "Failed", FailureReason=last),
        ],
    }
    for number, values in ((1, (0.4, 0.5)), (2, (0.6, 0.75))):
        lines = [f"epoch={epoch}; train_loss=1.0; val_auroc={value};" for epoch, value in enumerate(values, 1)]
        account.logs[f"tuning-{number:03d}-abcdefgh/algo-1"] = [*lines, last]


def add_split(account: Account, arn: str, status: str = "Succeeded") -> None:
    """A processing step."""
    account.add_step(arn, "Split", status, {"ProcessingJob": {"Arn": f"{ARN}:processing-job/s-1"}})
    account.jobs["s-1"] = processing_job(None if status == "Executing" else 2.0)
    account.logs["s-1/algo-1"] = ["train 11 patients"]


def add_training(account: Account, arn: str, status: str = "Succeeded", job: dict[str, Any] | None = None) -> None:
    """A training step with three epochs in its log."""
    account.add_step(arn, "Train", status, {"TrainingJob": {"Arn": f"{ARN}:training-job/t-1"}})
    account.jobs["t-1"] = training_job() if job is None else job
    account.logs["t-1/algo-1"] = [f"epoch={e}; train_loss={1 / e:.2f}; val_auroc={1 - 0.5 / e:.2f};" for e in (1, 2, 3)]


def add_evidence(account: Account, arn: str) -> None:
    """Steps that evaluated and registered."""
    package = f"{ARN}:model-package/g/1"
    account.add_step(arn, "Evaluate", "Succeeded", {"ProcessingJob": {"Arn": f"{ARN}:processing-job/e-1"}})
    account.add_step(arn, "Gate", "Succeeded", {"Condition": {"Outcome": "True"}})
    account.add_step(arn, "Register-RegisterModel", "Succeeded", {"RegisterModel": {"Arn": package}})
    output = {"OutputName": "evaluation", "S3Output": {"S3Uri": "s3://bucket/e"}}
    account.jobs["e-1"] = {**processing_job(1.0), "ProcessingOutputConfig": {"Outputs": [output]}}
    account.logs["e-1/algo-1"] = ["scored"]
    account.objects["s3://bucket/e/evaluation.json"] = json.dumps(EVALUATION).encode()
    account.objects["s3://bucket/e/report.html"] = b"<html>report</html>"
    account.packages.append(
        {
            "ModelPackageArn": package,
            "ModelPackageGroupName": "g",
            "ModelPackageVersion": 1,
            "ModelApprovalStatus": "PendingManualApproval",
            "InferenceSpecification": {"Containers": [{"Image": "image:tag", "ModelDataUrl": "s3://bucket/m.tar.gz"}]},
        }
    )
