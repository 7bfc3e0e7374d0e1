"""The role of pipelines: starts jobs, hands them their roles, asks for the champion, registers what then waits."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from aws_cdk import aws_iam as iam
from aws_cdk import aws_lambda as lambda_
from constructs import Construct

from infra.execution.jobs import EVALUATION, MODELS, JobRoles
from infra.grants import (
    TO_SAGEMAKER,
    inside_vpc,
    make_role,
    read_objects,
    sagemaker_arns,
    statement,
    use_key,
    versions_of,
)
from infra.images.repositories import Images
from infra.network.vpc import Network
from infra.storage.buckets import Storage

JOBS = "pipelines-*"
"""Prefix of the names of pipelines' jobs, except tuning jobs: their names have 32 characters at most."""
TAG = "medloop:pipeline"
"""Every job of ours carries it (steps/common.py)."""
TUNE = "CreateHyperParameterTuningJob"
UNDECIDED = ("PendingManualApproval", "Rejected")
"""Statuses of a new version: a pipeline rejects what lacks required model card fields, and never approves."""


def make_pipeline_role(
    scope: Construct,
    *,
    jobs: JobRoles,
    champion: lambda_.IFunction,
    storage: Storage,
    network: Network,
    images: Images,
    groups: Sequence[str],
    isolates_training: bool,
) -> iam.Role:
    """Make the role of executions; a pipeline can neither approve a version nor deploy one.

    Args:
        scope: CDK's parent.
        jobs: The roles that it may hand to jobs.
        champion: The function that it invokes for the champion.
        storage: The buckets.
        network: Where its jobs must run.
        images: The containers' repositories.
        groups: Names of the model package groups that it registers in.
        isolates_training: Training jobs open no connection either.
    """
    roles = [role.role_arn for role in (jobs.processing, jobs.training, jobs.evaluation)]
    rights = [
        *_run_jobs(network, isolates_training=isolates_training),
        statement("PassJobRoles", ["iam:PassRole"], roles, TO_SAGEMAKER),
        statement("AskForChampion", ["lambda:InvokeFunction"], [champion.function_arn]),
        *_register(groups, images),
        # Property files, which conditions and Register read; the artefact that a version names.
        *read_objects("ReadEvidence", storage.artefacts, EVALUATION, *MODELS),
        *use_key("DecryptEvidence", storage.keys.artefacts, write=False),
    ]
    return make_role(Construct(scope, "Pipeline"), "sagemaker", "medloop: executions of pipelines", rights)


def _run_jobs(network: Network, *, isolates_training: bool) -> list[iam.PolicyStatement]:
    processing, training = (sagemaker_arns(kind, [JOBS]) for kind in ("processing-job", "training-job"))
    jobs = [*processing, *training]
    tuning = sagemaker_arns("hyper-parameter-tuning-job", "*")
    tagged = {"Null": {f"aws:RequestTag/{TAG}": "false"}}
    inside = inside_vpc(network.subnet_ids, network.security_group_ids)
    # Code in an isolated job has no credentials and reaches no bucket: SageMaker writes its outputs, to where the
    # definition says. So no evidence is written into another execution's folder, and nothing leaves.
    isolated = {**inside, "Bool": {"sagemaker:NetworkIsolation": "true"}}
    trains = isolated if isolates_training else inside
    # At its creation alone: with our tag on it, the tuning jobs of others could be stopped.
    at_creation = {"StringEquals": {"sagemaker:TaggingAction": TUNE}}
    following = [f"sagemaker:{verb}{kind}Job" for verb in ("Describe", "Stop") for kind in ("Processing", "Training")]
    following_tuning = [
        "sagemaker:DescribeHyperParameterTuningJob",
        "sagemaker:StopHyperParameterTuningJob",
        "sagemaker:ListTrainingJobsForHyperParameterTuningJob",
    ]
    return [
        statement("StartProcessing", ["sagemaker:CreateProcessingJob"], processing, isolated),
        statement("StartTraining", ["sagemaker:CreateTrainingJob"], training, trains),
        statement("StartTuning", [f"sagemaker:{TUNE}"], tuning, _both(tagged, trains)),
        statement("FollowJobs", following, jobs),
        statement("FollowTuning", following_tuning, tuning, {"Null": {f"aws:ResourceTag/{TAG}": "false"}}),
        statement("DescribeTunedJobs", ["sagemaker:DescribeTrainingJob"], sagemaker_arns("training-job", "*")),
        statement("TagJobs", ["sagemaker:AddTags"], jobs),
        statement("TagTuning", ["sagemaker:AddTags"], tuning, at_creation),
    ]


def _register(groups: Sequence[str], images: Images) -> list[iam.PolicyStatement]:
    group_arns, versions = sagemaker_arns("model-package-group", groups), versions_of(groups)
    undecided = {"StringEquals": {"sagemaker:ModelApprovalStatus": list(UNDECIDED)}}
    return [
        statement("RegisterUndecided", ["sagemaker:CreateModelPackage"], versions, undecided),
        statement("DescribeVersions", ["sagemaker:DescribeModelPackage"], versions),
        statement("DescribeGroups", ["sagemaker:DescribeModelPackageGroup"], group_arns),
        statement("TagVersions", ["sagemaker:AddTags"], versions),
        # A version names its image by digest.
        statement("ResolveImages", ["ecr:BatchGetImage", "ecr:DescribeImages"], images.arns),
    ]


def _both(first: dict[str, Any], second: dict[str, Any]) -> dict[str, Any]:
    """Conditions that are both to be met."""
    return {operator: {**first.get(operator, {}), **second.get(operator, {})} for operator in {**first, **second}}
