"""The role of people who define pipelines and run them: they can neither approve, nor deploy, nor open an image."""

from __future__ import annotations

from collections.abc import Sequence

import aws_cdk as cdk
from aws_cdk import aws_iam as iam
from aws_cdk import aws_lambda as lambda_
from constructs import Construct

from infra.execution.grants import read_objects, sagemaker_arn, signed_in, statement
from infra.execution.jobs import CODE, EVALUATION, RAW
from infra.execution.runs import see_runs
from infra.images.repositories import Images
from infra.settings import AccessSettings
from infra.storage.buckets import Storage
from medloop.cloud.layout import NO_MODEL_FILE, PSEUDONYM_KEY


class Engineer(Construct):
    """The engineers' role; who assumes it has signed in with a second factor.

    What their pipelines do, they do with the pipeline's role and the jobs': the author of a job's code decides what
    becomes of what that job reads. Images are built by an administrator (`make images`), so that code in them is seen.

    Args:
        scope: CDK's parent.
        construct_id: CDK's id.
        access: Who they are.
        storage: Holds code and evidence.
        images: The containers' repositories.
        champion: The function that pipelines ask; its being there is checked.
        pipelines: Names of the pipelines.
        groups: Names of the model package groups.
        pipeline_role: The one role that they pass.
    """

    def __init__(
        self,
        scope: Construct,
        construct_id: str,
        *,
        access: AccessSettings,
        storage: Storage,
        images: Images,
        champion: lambda_.IFunction,
        pipelines: Sequence[str],
        groups: Sequence[str],
        pipeline_role: iam.IRole,
    ) -> None:
        super().__init__(scope, construct_id)
        self.role = iam.Role(
            self,
            "Role",
            assumed_by=signed_in(access.engineers),
            description="medloop: people who define pipelines and run them",
        )
        to_sagemaker = {"StringEquals": {"iam:PassedToService": "sagemaker.amazonaws.com"}}
        for each in [
            *self._pipelines(pipelines),
            statement("PassPipelineRole", ["iam:PassRole"], [pipeline_role.role_arn], to_sagemaker),
            *see_runs(self, pipelines),
            self._logs(),
            *self._registry(groups),
            statement("FindImages", ["ecr:DescribeImages"], images.arns),
            statement("FindChampion", ["lambda:GetFunction"], [champion.function_arn]),
            *self._objects(storage),
        ]:
            self.role.add_to_policy(each)

    def _pipelines(self, names: Sequence[str]) -> list[iam.PolicyStatement]:
        arns = [sagemaker_arn(self, "pipeline", name) for name in names]
        defining = ("CreatePipeline", "UpdatePipeline", "DescribePipeline", "ListPipelineVersions")
        running = ("StartPipelineExecution", "ListPipelineExecutions")
        steering = ("RetryPipelineExecution", "StopPipelineExecution")
        return [
            statement("DefineAndRun", [f"sagemaker:{verb}" for verb in (*defining, *running)], arns),
            statement("SteerRuns", [f"sagemaker:{verb}" for verb in steering], [f"{a}/execution/*" for a in arns]),
            statement("ListPipelines", ["sagemaker:ListPipelines"], ["*"]),
        ]

    def _logs(self) -> iam.PolicyStatement:
        """Logs of jobs, which hold no names of patients."""
        stack = cdk.Stack.of(self)
        groups = f"arn:{stack.partition}:logs:{stack.region}:{stack.account}:log-group:/aws/sagemaker"
        return statement(
            "ReadLogs",
            ["logs:DescribeLogStreams", "logs:GetLogEvents"],
            [f"{groups}/{kind}*" for kind in ("ProcessingJobs", "TrainingJobs")],
        )

    def _registry(self, groups: Sequence[str]) -> list[iam.PolicyStatement]:
        places = [self._arn("model-package-group", group) for group in groups]
        versions = [self._arn("model-package", f"{group}/*") for group in groups]
        return [
            statement("SeeGroups", ["sagemaker:DescribeModelPackageGroup"], places),
            statement("SeeVersions", ["sagemaker:DescribeModelPackage"], versions),
            # The service knows no narrower resource for lists.
            statement("ListVersions", ["sagemaker:ListModelPackageGroups", "sagemaker:ListModelPackages"], ["*"]),
        ]

    def _objects(self, storage: Storage) -> list[iam.PolicyStatement]:
        """Put code there, once each; read code and evidence; list data, which DataVersion is made of."""
        bucket, key, region = storage.artefacts, storage.keys.artefacts, cdk.Stack.of(self).region
        # Code is named by its content and the key of pseudonyms is made once: what is there is never overwritten.
        once = {"Null": {"s3:if-none-match": "false"}}
        made = [bucket.arn_for_objects(name) for name in (*CODE, PSEUDONYM_KEY, NO_MODEL_FILE)]
        by_s3 = {"StringEquals": {"kms:ViaService": f"s3.{region}.amazonaws.com"}}
        prefixes = {"StringLike": {"s3:prefix": [RAW]}}
        return [
            statement("PutCodeOnce", ["s3:PutObject"], made, once),
            *read_objects("ReadCodeAndEvidence", bucket, *CODE, NO_MODEL_FILE, EVALUATION),
            statement("UseArtefacts", ["kms:Decrypt", "kms:GenerateDataKey"], [key.key_arn], by_s3),
            statement("ListData", ["s3:ListBucket"], [storage.data.bucket_arn], prefixes),
        ]

    def _arn(self, kind: str, name: str) -> str:
        return sagemaker_arn(self, kind, name)
