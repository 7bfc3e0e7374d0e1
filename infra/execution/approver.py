"""The role of people who decide about versions: they see the evidence and approve or reject, and nothing else."""

from __future__ import annotations

from collections.abc import Sequence

from aws_cdk import aws_iam as iam
from constructs import Construct

from infra.execution.grants import read_objects, sagemaker_arn, signed_in, statement, use_key
from infra.execution.jobs import EVALUATION, MODEL_ARTEFACTS
from infra.execution.runs import see_runs
from infra.settings import AccessSettings
from infra.storage.buckets import Storage

DECISIONS = ["Approved", "Rejected"]


class Approver(Construct):
    """The approvers' role; who assumes it has signed in with a second factor.

    Args:
        scope: CDK's parent.
        construct_id: CDK's id.
        access: Who approves.
        storage: The evidence's bucket.
        pipelines: Names of the pipelines, whose runs led to the versions.
        groups: Names of the model package groups.
    """

    def __init__(
        self,
        scope: Construct,
        construct_id: str,
        *,
        access: AccessSettings,
        storage: Storage,
        pipelines: Sequence[str],
        groups: list[str],
    ) -> None:
        super().__init__(scope, construct_id)
        self.role = iam.Role(
            self,
            "Role",
            assumed_by=signed_in(access.approvers),
            description="medloop: people who approve or reject model versions",
        )
        versions = [sagemaker_arn(self, "model-package", f"{group}/*") for group in groups]
        places = [sagemaker_arn(self, "model-package-group", group) for group in groups]
        decided = {"StringEquals": {"sagemaker:ModelApprovalStatus": DECISIONS}}
        for each in [
            statement("Decide", ["sagemaker:UpdateModelPackage"], versions, decided),
            statement("SeeVersions", ["sagemaker:DescribeModelPackage", "sagemaker:ListTags"], versions),
            statement("SeeGroups", ["sagemaker:DescribeModelPackageGroup"], places),
            # The service knows no narrower resource for lists.
            statement("ListVersions", ["sagemaker:ListModelPackageGroups", "sagemaker:ListModelPackages"], ["*"]),
            # The user who started an execution doesn't approve its version.
            *see_runs(self, pipelines),
            # The artefact's time, which HEAD tells by the right to read: evidence older than the model proves nothing.
            *read_objects("ReadEvidence", storage.artefacts, EVALUATION, *MODEL_ARTEFACTS),
            *use_key("DecryptEvidence", storage.keys.artefacts, write=False),
        ]:
            self.role.add_to_policy(each)
