"""A small, valid pipeline definition written by hand, for tests to break."""

from __future__ import annotations

from typing import Any

ROLE = "arn:aws:iam::123456789012:role/jobs"


def get(reference: str) -> dict[str, str]:
    """A Get expression."""
    return {"Get": reference}


def small_definition() -> dict[str, Any]:
    """Score (Processing) -> Train (Training) and Gate -> Stop | Register."""
    score = {"Std:JsonGet": {"PropertyFile": get("Steps.Score.PropertyFiles.scores"), "Path": "value"}}
    return {
        "Version": "2020-12-01",
        "Parameters": [
            {"Name": "Data", "Type": "String"},
            {"Name": "Epochs", "Type": "Integer", "DefaultValue": 3},
            {"Name": "Instance", "Type": "String", "DefaultValue": "ml.m5.xlarge"},
            {"Name": "Bound", "Type": "Float", "DefaultValue": 0.5},
        ],
        "Steps": [
            processing("Score"),
            training("Train"),
            {
                "Name": "Gate",
                "Type": "Condition",
                "Arguments": {
                    "Conditions": [
                        {"Type": "GreaterThanOrEqualTo", "LeftValue": score, "RightValue": get("Parameters.Bound")}
                    ],
                    "IfSteps": [registering("Register")],
                    "ElseSteps": [{"Name": "Stop", "Type": "Fail", "Arguments": {"ErrorMessage": "too low"}}],
                },
            },
        ],
    }


def processing(name: str) -> dict[str, Any]:
    """A processing step with one input, one output and a property file."""
    return {
        "Name": name,
        "Type": "Processing",
        "Description": "Count.",
        "Arguments": {
            "ProcessingResources": {
                "ClusterConfig": {"InstanceType": "ml.m5.xlarge", "InstanceCount": 1, "VolumeSizeInGB": 10}
            },
            "AppSpecification": {"ImageUri": "repo:tag", "ContainerArguments": ["--task", "x"]},
            "RoleArn": ROLE,
            "ProcessingInputs": [
                {
                    "InputName": "data",
                    "S3Input": {
                        "S3Uri": get("Parameters.Data"),
                        "LocalPath": "/opt/ml/processing/input/data",
                        "S3DataType": "S3Prefix",
                        "S3InputMode": "File",
                    },
                }
            ],
            "ProcessingOutputConfig": {
                "Outputs": [
                    {
                        "OutputName": "out",
                        "S3Output": {
                            "S3Uri": {
                                "Std:Join": {"On": "/", "Values": ["s3://b", get("Execution.PipelineExecutionId")]}
                            },
                            "LocalPath": "/opt/ml/processing/output/out",
                            "S3UploadMode": "EndOfJob",
                        },
                    }
                ]
            },
        },
        "PropertyFiles": [{"PropertyFileName": "scores", "OutputName": "out", "FilePath": "scores.json"}],
    }


def training(name: str) -> dict[str, Any]:
    """A training step that reads Score's output."""
    return {
        "Name": name,
        "Type": "Training",
        "Arguments": {
            "AlgorithmSpecification": {"TrainingImage": "repo:tag", "TrainingInputMode": "File"},
            "RoleArn": ROLE,
            "HyperParameters": {"epochs": {"Std:Join": {"On": "", "Values": [get("Parameters.Epochs")]}}},
            "InputDataConfig": [
                {
                    "ChannelName": "train",
                    "DataSource": {
                        "S3DataSource": {
                            "S3DataType": "S3Prefix",
                            "S3Uri": get("Steps.Score.ProcessingOutputConfig.Outputs['out'].S3Output.S3Uri"),
                        }
                    },
                }
            ],
            "OutputDataConfig": {"S3OutputPath": "s3://b/models"},
            "ResourceConfig": {
                "InstanceType": get("Parameters.Instance"),
                "InstanceCount": 1,
                "VolumeSizeInGB": 10,
            },
            "StoppingCondition": {"MaxRuntimeInSeconds": 60},
        },
    }


def registering(name: str) -> dict[str, Any]:
    """A step that registers Train's model."""
    model = get("Steps.Train.ModelArtifacts.S3ModelArtifacts")
    return {
        "Name": name,
        "Type": "RegisterModel",
        "Arguments": {
            "ModelPackageGroupName": "group",
            "InferenceSpecification": {"Containers": [{"Image": "repo:tag", "ModelDataUrl": model}]},
        },
    }
