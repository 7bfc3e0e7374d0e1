"""The roles of CI: each does one job, and is assumed by one environment of a repository, or a build of CodeBuild."""

from __future__ import annotations

from collections.abc import Mapping

from aws_cdk import aws_iam as iam
from aws_cdk import aws_kms as kms
from constructs import Construct

from infra.deployment.serving import serve_versions
from infra.execution.jobs import EVALUATION, MODEL_ARTEFACTS
from infra.execution.people import Workspace, find_images, see_pipelines
from infra.grants import PULLING, by_s3, make_role, read_objects, statement, versions_of
from infra.images.builds import PUSHING
from infra.images.repositories import base_images
from infra.names import PROMOTER_ROLE
from infra.production.sharing import name_role
from medloop.cloud.hosting import Hosting


class DeliveryRoles(Construct):
    """The roles; only CI assumes them.

    Args:
        scope: CDK's parent.
        construct_id: CDK's id.
        principals: Principals that assume each, by its name.
        workspace: Pipelines, groups, storage and images.
        staging: Name of the staging endpoint.
        hosting: Where its containers run.
        inference_role: The role of its containers.
        volume_key: Encrypts the volumes of its instances.
        bus_arn: Production's event bus; None: production isn't in another account.
    """

    def __init__(
        self,
        scope: Construct,
        construct_id: str,
        *,
        principals: Mapping[str, iam.IPrincipal],
        workspace: Workspace,
        staging: str,
        hosting: Hosting,
        inference_role: iam.IRole,
        volume_key: kms.IKey,
        bus_arn: str | None,
    ) -> None:
        super().__init__(scope, construct_id)
        self._workspace = workspace
        rights = {
            "Reader": ("reads published definitions", self._read()),
            "Images": ("pushes images", self._push()),
            "Staging": (
                "serves versions for staging",
                [
                    *self._check_versions(),
                    *serve_versions(
                        workspace.groups,
                        [staging],
                        hosting=hosting,
                        inference_role=inference_role,
                        volume_key=volume_key,
                    ),
                ],
            ),
        }
        if bus_arn is not None:
            sending = statement("Promote", ["events:PutEvents"], [bus_arn])
            rights["Promoter"] = ("promotes versions to production", [*self._check_versions(), sending])
        self.roles = {
            name: make_role(self, principals[name], f"medloop: CI {purpose}", statements, name)
            for name, (purpose, statements) in rights.items()
        }
        if bus_arn is not None:
            name_role(self.roles["Promoter"], PROMOTER_ROLE)

    def _read(self) -> list[iam.PolicyStatement]:
        return [see_pipelines(self._workspace.pipelines), find_images(self._workspace.images)]

    def _push(self) -> list[iam.PolicyStatement]:
        return [
            # The service knows no narrower resource: a token for the registry, not for any image.
            statement("LogInToRegistry", ["ecr:GetAuthorizationToken"]),
            statement("PushImages", PUSHING, self._workspace.images.arns),
            statement("PullBaseImages", PULLING, [base_images(self)]),
        ]

    def _check_versions(self) -> list[iam.PolicyStatement]:
        """Read whether a version is Approved, and its model the one that was registered."""
        storage, groups = self._workspace.storage, self._workspace.groups
        return [
            statement("SeeVersions", ["sagemaker:DescribeModelPackage"], versions_of(groups)),
            # The service knows no narrower resource for lists than all.
            statement("ListVersions", ["sagemaker:ListModelPackages"]),
            *read_objects("ReadModels", storage.artefacts, EVALUATION, *MODEL_ARTEFACTS),
            statement("DecryptModels", ["kms:Decrypt"], [storage.keys.artefacts.key_arn], by_s3()),
        ]
