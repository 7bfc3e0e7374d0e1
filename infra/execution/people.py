"""The roles of people: engineers define pipelines and run them, approvers decide about versions; neither does both."""

from __future__ import annotations

from collections.abc import Sequence

from aws_cdk import Aws
from aws_cdk import aws_iam as iam
from aws_cdk import aws_lambda as lambda_
from constructs import Construct

from infra.execution.jobs import CODE, EVALUATION, MODEL_ARTEFACTS, RAW
from infra.execution.pipeline import JOBS, TAG
from infra.grants import (
    TO_SAGEMAKER,
    arn,
    make_role,
    read_objects,
    sagemaker_arns,
    signed_in,
    statement,
    use_key,
    versions_of,
)
from infra.images.repositories import Images
from infra.settings import AccessSettings
from infra.storage.buckets import Storage
from medloop.cloud.layout import NO_MODEL_FILE, PSEUDONYM_KEY

DECISIONS = ["Approved", "Rejected"]
LISTING = ["sagemaker:ListModelPackageGroups", "sagemaker:ListModelPackages"]
"""The service knows no narrower resource for lists than all."""


def make_approver(
    scope: Construct, access: AccessSettings, storage: Storage, pipelines: Sequence[str], groups: Sequence[str]
) -> iam.Role:
    """Make the approvers' role: they see the evidence and approve or reject, and nothing else.

    Args:
        scope: CDK's parent.
        access: Who approves.
        storage: The evidence's bucket.
        pipelines: Names of the pipelines, whose runs led to the versions.
        groups: Names of the model package groups.
    """
    decided = {"StringEquals": {"sagemaker:ModelApprovalStatus": DECISIONS}}
    rights = [
        statement("Decide", ["sagemaker:UpdateModelPackage"], versions_of(groups), decided),
        statement("SeeVersions", ["sagemaker:DescribeModelPackage", "sagemaker:ListTags"], versions_of(groups)),
        statement("SeeGroups", ["sagemaker:DescribeModelPackageGroup"], sagemaker_arns("model-package-group", groups)),
        statement("ListVersions", LISTING),
        # The user who started an execution doesn't approve its version.
        *_see_runs(pipelines),
        # The artefact's time, which HEAD reports by the right to read: evidence older than the model proves nothing.
        *read_objects("ReadEvidence", storage.artefacts, EVALUATION, *MODEL_ARTEFACTS),
        *use_key("DecryptEvidence", storage.keys.artefacts, write=False),
    ]
    people, description = signed_in(access.approvers), "medloop: people who approve or reject model versions"
    return make_role(Construct(scope, "Approver"), people, description, rights)


def make_engineer(
    scope: Construct,
    *,
    access: AccessSettings,
    storage: Storage,
    images: Images,
    champion: lambda_.IFunction,
    pipelines: Sequence[str],
    groups: Sequence[str],
    pipeline_role: iam.IRole,
) -> iam.Role:
    """Make the engineers' role: they can neither approve, nor deploy, nor open an image.

    What their pipelines do, they do with the pipeline's role and the jobs': the author of a job's code decides what
    becomes of what that job reads. Images are built by an administrator (`make images`), so that code in them is seen.

    Args:
        scope: CDK's parent.
        access: Who they are.
        storage: Holds code and evidence.
        images: The containers' repositories.
        champion: The function that pipelines invoke; `medloop upsert` checks that it exists.
        pipelines: Names of the pipelines.
        groups: Names of the model package groups.
        pipeline_role: The one role that they pass.
    """
    logs = [arn("logs", f"log-group:/aws/sagemaker/{kind}*") for kind in ("ProcessingJobs", "TrainingJobs")]
    rights = [
        *_run_pipelines(pipelines),
        statement("PassPipelineRole", ["iam:PassRole"], [pipeline_role.role_arn], TO_SAGEMAKER),
        *_see_runs(pipelines),
        # Logs of jobs contain no names of patients.
        statement("ReadLogs", ["logs:DescribeLogStreams", "logs:GetLogEvents"], logs),
        statement("SeeGroups", ["sagemaker:DescribeModelPackageGroup"], sagemaker_arns("model-package-group", groups)),
        statement("SeeVersions", ["sagemaker:DescribeModelPackage"], versions_of(groups)),
        statement("ListVersions", LISTING),
        statement("FindImages", ["ecr:DescribeImages"], images.arns),
        statement("FindChampion", ["lambda:GetFunction"], [champion.function_arn]),
        *_store_code(storage),
    ]
    people, description = signed_in(access.engineers), "medloop: people who define pipelines and run them"
    return make_role(Construct(scope, "Engineer"), people, description, rights)


def _see_runs(pipelines: Sequence[str]) -> list[iam.PolicyStatement]:
    """Describe executions and their jobs; nothing is started, stopped or listed across the account."""
    seeing = (
        "DescribePipelineDefinitionForExecution",
        "DescribePipelineExecution",
        "ListPipelineExecutionSteps",
        "ListPipelineParametersForExecution",
    )
    runs = sagemaker_arns("pipeline", (f"{name}/execution/*" for name in pipelines))
    ours = {"Null": {f"aws:ResourceTag/{TAG}": "false"}}
    tuning = ["sagemaker:DescribeHyperParameterTuningJob", "sagemaker:ListTrainingJobsForHyperParameterTuningJob"]
    return [
        statement("SeeRuns", [f"sagemaker:{verb}" for verb in seeing], runs),
        statement("SeeProcessing", ["sagemaker:DescribeProcessingJob"], sagemaker_arns("processing-job", [JOBS])),
        # Training jobs of tuning are named after it.
        statement("SeeTraining", ["sagemaker:DescribeTrainingJob"], sagemaker_arns("training-job", "*")),
        statement("SeeTuning", tuning, sagemaker_arns("hyper-parameter-tuning-job", "*"), ours),
    ]


def _run_pipelines(names: Sequence[str]) -> list[iam.PolicyStatement]:
    defining = ("CreatePipeline", "UpdatePipeline", "DescribePipeline", "ListPipelineVersions")
    running = ("StartPipelineExecution", "ListPipelineExecutions")
    steering = ("RetryPipelineExecution", "StopPipelineExecution")
    pipelines, runs = (sagemaker_arns("pipeline", (name + end for name in names)) for end in ("", "/execution/*"))
    return [
        statement("DefineAndRun", [f"sagemaker:{verb}" for verb in (*defining, *running)], pipelines),
        statement("SteerRuns", [f"sagemaker:{verb}" for verb in steering], runs),
        statement("ListPipelines", ["sagemaker:ListPipelines"]),
    ]


def _store_code(storage: Storage) -> list[iam.PolicyStatement]:
    """Store code, once each; read code and evidence; list data, which DataVersion is made of."""
    bucket, key = storage.artefacts, storage.keys.artefacts
    # Code is named by its content and the key of pseudonyms is made once: a stored object is never overwritten.
    once = {"Null": {"s3:if-none-match": "false"}}
    objects = [bucket.arn_for_objects(name) for name in (*CODE, PSEUDONYM_KEY, NO_MODEL_FILE)]
    by_s3 = {"StringEquals": {"kms:ViaService": f"s3.{Aws.REGION}.amazonaws.com"}}
    return [
        statement("PutCodeOnce", ["s3:PutObject"], objects, once),
        *read_objects("ReadCodeAndEvidence", bucket, *CODE, NO_MODEL_FILE, EVALUATION),
        statement("UseArtefacts", ["kms:Decrypt", "kms:GenerateDataKey"], [key.key_arn], by_s3),
        statement("ListData", ["s3:ListBucket"], [storage.data.bucket_arn], {"StringLike": {"s3:prefix": [RAW]}}),
    ]
