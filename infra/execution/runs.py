"""Seeing runs: executions, their steps and their jobs, as engineers who follow them and approvers who judge them do."""

from __future__ import annotations

from collections.abc import Sequence

from aws_cdk import aws_iam as iam
from constructs import Construct

from infra.execution.grants import sagemaker_arn, statement
from infra.execution.pipeline import JOBS, TAG


def see_runs(scope: Construct, pipelines: Sequence[str]) -> list[iam.PolicyStatement]:
    """Describe executions and their jobs; nothing is started, stopped or listed across the account.

    Args:
        scope: Of the account and region.
        pipelines: Names of the pipelines.
    """
    runs = [sagemaker_arn(scope, "pipeline", f"{name}/execution/*") for name in pipelines]
    seeing = (
        "DescribePipelineDefinitionForExecution",
        "DescribePipelineExecution",
        "ListPipelineExecutionSteps",
        "ListPipelineParametersForExecution",
    )
    ours = {"Null": {f"aws:ResourceTag/{TAG}": "false"}}
    tuning = ["sagemaker:DescribeHyperParameterTuningJob", "sagemaker:ListTrainingJobsForHyperParameterTuningJob"]
    return [
        statement("SeeRuns", [f"sagemaker:{verb}" for verb in seeing], runs),
        statement("SeeProcessing", ["sagemaker:DescribeProcessingJob"], [sagemaker_arn(scope, "processing-job", JOBS)]),
        # Training jobs of tuning are named after it.
        statement("SeeTraining", ["sagemaker:DescribeTrainingJob"], [sagemaker_arn(scope, "training-job", "*")]),
        statement("SeeTuning", tuning, [sagemaker_arn(scope, "hyper-parameter-tuning-job", "*")], ours),
    ]
