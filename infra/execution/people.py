"""The roles of people: reviewed definitions are published, engineers start them, approvers decide about versions.

The author of a definition decides what the jobs' roles do: a step may run any command under any role that the pipeline
hands out. So no role stores a definition, or code that one names, and starts it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from aws_cdk import aws_iam as iam
from aws_cdk import aws_lambda as lambda_
from constructs import Construct

from infra.execution.jobs import CODE, EVALUATION, MODEL_ARTEFACTS, RAW
from infra.execution.pipeline import JOBS, TAG
from infra.grants import (
    TO_SAGEMAKER,
    arn,
    by_s3,
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
from medloop.documents.artefact import ARTEFACT_DIGEST, IMAGE, MODEL_DIGEST
from medloop.documents.card import NOT_FOR_APPROVAL

DECISIONS = ["Approved", "Rejected"]
BOUND = (
    *(ARTEFACT_DIGEST, MODEL_DIGEST, IMAGE, NOT_FOR_APPROVAL, "champion", "code_digest", "data_digest", "endpoint"),
    *("evaluation", "execution", "git_commit", "pipeline", "report_digest"),
)
"""Entries of a version's metadata that say what it is: written at its registration, and never again."""
NO_VALUE = "(none)"
"""No value of an entry: the service takes no parentheses in one."""
LISTING = ["sagemaker:ListModelPackageGroups", "sagemaker:ListModelPackages"]
"""The service knows no narrower resource for lists than all."""


@dataclass(frozen=True, kw_only=True)
class Workspace:
    """The resources that the roles of people and of delivery are about.

    Args:
        access: Who assumes the roles.
        storage: The buckets of data, code and evidence.
        images: The containers' repositories.
        pipelines: Names of the pipelines.
        groups: Names of the model package groups.
    """

    access: AccessSettings
    storage: Storage
    images: Images
    pipelines: Sequence[str]
    groups: Sequence[str]


def make_approver(scope: Construct, workspace: Workspace) -> iam.Role:
    """Make the approvers' role: they see the evidence and approve or reject, and nothing else."""
    storage, groups = workspace.storage, workspace.groups
    rights = [
        statement("Decide", ["sagemaker:UpdateModelPackage"], versions_of(groups), _decided()),
        statement("SeeVersions", ["sagemaker:DescribeModelPackage", "sagemaker:ListTags"], versions_of(groups)),
        _see_groups(groups),
        statement("ListVersions", LISTING),
        # An execution's definition is compared with one that the approver's checkout builds.
        find_images(workspace.images),
        # The user who started an execution doesn't approve its version.
        *_see_runs(workspace.pipelines),
        # The artefact's time, which HEAD reports by the right to read: evidence older than the model proves nothing.
        *read_objects("ReadEvidence", storage.artefacts, EVALUATION, *MODEL_ARTEFACTS),
        *use_key("DecryptEvidence", storage.keys.artefacts, write=False),
    ]
    people, description = signed_in(workspace.access.approvers), "medloop: people who approve or reject model versions"
    return make_role(Construct(scope, "Approver"), people, description, rights)


def _decided() -> dict[str, Any]:
    """The conditions of an approver's request: a decision, and no entry changes that binds the version to its model.

    An entry that the request doesn't have is left alone (`IfExists`). Where the service gives no current value, the
    variable is NO_VALUE, which no entry can be: the request is denied. Without a default, IAM may take the statement
    for invalid.
    https://docs.aws.amazon.com/service-authorization/latest/reference/list_amazonsagemaker.html (UpdateModelPackage)
    https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_variables.html
    """
    key = "sagemaker:{}CustomerMetadataProperties/{}"
    unchanged = {key.format("", name): f"${{{key.format('Current', name)}, '{NO_VALUE}'}}" for name in BOUND}
    return {
        "StringEquals": {"sagemaker:ModelApprovalStatus": DECISIONS},
        "StringEqualsIfExists": unchanged,
        "Null": {"sagemaker:CustomerMetadataPropertiesToRemove": "true"},
    }


def make_engineer(scope: Construct, workspace: Workspace) -> iam.Role:
    """Make the engineers' role: they start published definitions, with parameters, and see the results.

    They store no definition and no code, start no job by themselves and hand no role to anyone. Parameters redirect
    nothing: outputs, images, roles and the ledger of test uses are part of the definition, and InputData is read with
    the role of the split, which reads data sets.
    """
    storage, pipelines, groups = workspace.storage, workspace.pipelines, workspace.groups
    logs = [arn("logs", f"log-group:/aws/sagemaker/{kind}*") for kind in ("ProcessingJobs", "TrainingJobs")]
    bucket, data = storage.artefacts, {"StringLike": {"s3:prefix": [RAW]}}
    rights = [
        *_run_pipelines(pipelines),
        *_see_runs(pipelines),
        # Logs of jobs contain no names of patients.
        statement("ReadLogs", ["logs:DescribeLogStreams", "logs:GetLogEvents"], logs),
        _see_groups(groups),
        statement("SeeVersions", ["sagemaker:DescribeModelPackage"], versions_of(groups)),
        statement("ListVersions", LISTING),
        find_images(workspace.images),
        *read_objects("ReadEvidence", bucket, EVALUATION),
        statement("DecryptEvidence", ["kms:Decrypt"], [storage.keys.artefacts.key_arn], by_s3()),
        # DataVersion is made of the listing.
        statement("ListData", ["s3:ListBucket"], [storage.data.bucket_arn], data),
    ]
    people, description = signed_in(workspace.access.engineers), "medloop: people who run published pipelines"
    return make_role(Construct(scope, "Engineer"), people, description, rights)


def make_publisher(
    scope: Construct, workspace: Workspace, *, champion: lambda_.IFunction, pipeline_role: iam.IRole
) -> iam.Role:
    """Make the role that publishes definitions of reviewed commits, for CI or an administrator; it starts none.

    Args:
        scope: CDK's parent.
        workspace: What it publishes, and who assumes it.
        champion: The function that pipelines invoke; `medloop pipelines upsert` checks that it exists.
        pipeline_role: The one role that it passes.
    """
    bucket, key = workspace.storage.artefacts, workspace.storage.keys.artefacts
    defining = [f"sagemaker:{verb}Pipeline" for verb in ("Create", "Update")]
    # Code is named by its content: a stored object is never overwritten.
    once = {"Null": {"s3:if-none-match": "false"}}
    objects = [bucket.arn_for_objects(name) for name in (*CODE, NO_MODEL_FILE)]
    absence = {"StringEquals": {"s3:prefix": [PSEUDONYM_KEY]}}
    rights = [
        statement("Define", defining, sagemaker_arns("pipeline", workspace.pipelines)),
        see_pipelines(workspace.pipelines),
        statement("PassPipelineRole", ["iam:PassRole"], [pipeline_role.role_arn], TO_SAGEMAKER),
        _see_groups(workspace.groups),
        find_images(workspace.images),
        statement("FindChampion", ["lambda:GetFunction"], [champion.function_arn]),
        statement("PutCodeOnce", ["s3:PutObject"], objects, once),
        *read_objects("ReadCode", bucket, *CODE, NO_MODEL_FILE),
        # Whether the key of pseudonyms was made; it is neither made nor read with this role.
        statement("FindPseudonymKey", ["s3:ListBucket"], [bucket.bucket_arn], absence),
        statement("UseArtefacts", ["kms:Decrypt", "kms:GenerateDataKey"], [key.key_arn], by_s3()),
    ]
    description = "medloop: publishes reviewed definitions of pipelines"
    return make_role(Construct(scope, "Publisher"), publishers(workspace.access.publishers), description, rights)


def publishers(arns: Sequence[str]) -> iam.IPrincipal:
    """Roles as they are, as a CI's has no second factor; users, and with no ARN the account's, with one."""
    roles = [iam.ArnPrincipal(name) for name in arns if ":role/" in name]
    people = [name for name in arns if ":role/" not in name]
    with_second_factor = [signed_in(people)] if people or not roles else []
    return iam.CompositePrincipal(*roles, *with_second_factor)


def _see_groups(groups: Sequence[str]) -> iam.PolicyStatement:
    return statement(
        "SeeGroups", ["sagemaker:DescribeModelPackageGroup"], sagemaker_arns("model-package-group", groups)
    )


def find_images(images: Images) -> iam.PolicyStatement:
    """The digests of images, which are part of definitions; no image is pulled."""
    return statement("FindImages", ["ecr:DescribeImages"], images.arns)


def see_pipelines(names: Sequence[str]) -> iam.PolicyStatement:
    """Published definitions; executions aren't among them."""
    seeing = ["sagemaker:DescribePipeline", "sagemaker:ListPipelineVersions"]
    return statement("SeePipelines", seeing, sagemaker_arns("pipeline", names))


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
    running = ("StartPipelineExecution", "ListPipelineExecutions")
    steering = ("RetryPipelineExecution", "StopPipelineExecution")
    pipelines, runs = (sagemaker_arns("pipeline", (name + end for name in names)) for end in ("", "/execution/*"))
    return [
        statement("Run", [f"sagemaker:{verb}" for verb in running], pipelines),
        see_pipelines(names),
        statement("SteerRuns", [f"sagemaker:{verb}" for verb in steering], runs),
        statement("ListPipelines", ["sagemaker:ListPipelines"]),
    ]
