"""The role of pipelines: starts jobs, hands them their roles, asks for the champion, registers what then waits."""

from __future__ import annotations

from typing import Any

from aws_cdk import aws_iam as iam
from aws_cdk import aws_lambda as lambda_
from constructs import Construct

from infra.execution.grants import inside_vpc, read_objects, sagemaker_arn, statement, use_key
from infra.execution.jobs import EVALUATION, MODELS, JobRoles, sagemaker_principal
from infra.images.repositories import Images
from infra.network.vpc import Network
from infra.storage.buckets import Storage

JOBS = "pipelines-*"
"""Prefix of the names of pipelines' jobs, except tuning jobs: their names have 32 characters at most."""
TAG = "medloop:pipeline"
"""Every job of ours carries it (steps/common.py)."""
TUNE = "CreateHyperParameterTuningJob"
PENDING = "PendingManualApproval"


class PipelineRole(Construct):
    """What a pipeline may do by itself; it can neither approve a version nor deploy one.

    Args:
        scope: CDK's parent.
        construct_id: CDK's id.
        jobs: The roles that it may hand to jobs.
        champion: The function that it asks for the champion.
        storage: The buckets.
        network: Where its jobs must run.
        images: The containers' repositories.
        groups: Names of the model package groups that it registers in.
    """

    def __init__(
        self,
        scope: Construct,
        construct_id: str,
        *,
        jobs: JobRoles,
        champion: lambda_.IFunction,
        storage: Storage,
        network: Network,
        images: Images,
        groups: list[str],
    ) -> None:
        super().__init__(scope, construct_id)
        self.role = iam.Role(
            self, "Role", assumed_by=sagemaker_principal(self), description="medloop: executions of pipelines"
        )
        for each in [
            *self._jobs(network),
            statement(
                "PassJobRoles",
                ["iam:PassRole"],
                [role.role_arn for role in (jobs.processing, jobs.training, jobs.evaluation)],
                {"StringEquals": {"iam:PassedToService": "sagemaker.amazonaws.com"}},
            ),
            statement("AskForChampion", ["lambda:InvokeFunction"], [champion.function_arn]),
            *self._register(groups, images),
            # Property files, which conditions and Register read; the artefact that a version names.
            *read_objects("ReadEvidence", storage.artefacts, EVALUATION, *MODELS),
            *use_key("DecryptEvidence", storage.keys.artefacts, write=False),
        ]:
            self.role.add_to_policy(each)

    def _jobs(self, network: Network) -> list[iam.PolicyStatement]:
        named = [self._arn(kind, JOBS) for kind in ("processing-job", "training-job")]
        tuning = self._arn("hyper-parameter-tuning-job", "*")
        tagged = {"Null": {f"aws:RequestTag/{TAG}": "false"}}
        inside = inside_vpc(network.subnet_ids, network.security_group_ids)
        return [
            statement("StartJobs", ["sagemaker:CreateProcessingJob", "sagemaker:CreateTrainingJob"], named, inside),
            statement("StartTuning", [f"sagemaker:{TUNE}"], [tuning], _both(tagged, inside)),
            statement(
                "FollowJobs",
                [
                    *(
                        f"sagemaker:{verb}{kind}"
                        for verb in ("Describe", "Stop")
                        for kind in ("ProcessingJob", "TrainingJob")
                    ),
                ],
                named,
            ),
            statement(
                "FollowTuning",
                [
                    "sagemaker:DescribeHyperParameterTuningJob",
                    "sagemaker:StopHyperParameterTuningJob",
                    "sagemaker:ListTrainingJobsForHyperParameterTuningJob",
                ],
                [tuning],
                {"Null": {f"aws:ResourceTag/{TAG}": "false"}},
            ),
            statement("DescribeTunedJobs", ["sagemaker:DescribeTrainingJob"], [self._arn("training-job", "*")]),
            statement("TagJobs", ["sagemaker:AddTags"], named),
            # At its creation alone: with our tag on it, the tuning jobs of others could be stopped.
            statement(
                "TagTuning", ["sagemaker:AddTags"], [tuning], {"StringEquals": {"sagemaker:TaggingAction": TUNE}}
            ),
        ]

    def _register(self, groups: list[str], images: Images) -> list[iam.PolicyStatement]:
        places = [self._arn("model-package-group", group) for group in groups]
        versions = [self._arn("model-package", f"{group}/*") for group in groups]
        return [
            statement(
                "RegisterPending",
                ["sagemaker:CreateModelPackage"],
                versions,
                {"StringEquals": {"sagemaker:ModelApprovalStatus": PENDING}},
            ),
            statement("DescribeVersions", ["sagemaker:DescribeModelPackage"], versions),
            statement("DescribeGroups", ["sagemaker:DescribeModelPackageGroup"], places),
            statement("TagVersions", ["sagemaker:AddTags"], versions),
            # A version names its image by digest.
            statement("ResolveImages", ["ecr:BatchGetImage", "ecr:DescribeImages"], images.arns),
        ]

    def _arn(self, kind: str, name: str) -> str:
        return sagemaker_arn(self, kind, name)


def _both(first: dict[str, Any], second: dict[str, Any]) -> dict[str, Any]:
    """Conditions that hold together."""
    return {operator: {**first.get(operator, {}), **second.get(operator, {})} for operator in {**first, **second}}
