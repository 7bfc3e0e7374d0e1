"""CI for those who change pipelines: roles by job and, with CodePipeline, what runs the jobs."""

from __future__ import annotations

from collections.abc import Mapping

import aws_cdk as cdk
from aws_cdk import aws_iam as iam
from aws_cdk import aws_kms as kms
from aws_cdk import aws_logs as logs
from constructs import Construct

from infra.delivery.builds import Build, Source
from infra.delivery.commands import delivery_values
from infra.delivery.github import github_principals
from infra.delivery.jobs import PUBLISHER, make_jobs
from infra.delivery.pipelines import Pipelines, Repository
from infra.delivery.roles import DeliveryRoles
from infra.execution.people import Workspace
from infra.grants import make_role
from infra.monitoring.notifications import Notifications
from infra.settings import DeliverySettings
from medloop.cloud.hosting import Hosting


class Delivery(Construct):
    """The roles of CI, trusted by GitHub's jobs or by CodeBuild's projects; then these projects and pipelines too.

    Args:
        scope: CDK's parent.
        construct_id: CDK's id.
        settings: What was chosen.
        workspace: Pipelines, groups, storage and images.
        publisher: The role that publishes definitions, which the job of publication assumes.
        hosting: Where containers of the staging endpoint run.
        inference_role: Their role.
        volume_key: Encrypts the volumes of endpoints' instances.
        bus_arn: Production's event bus; None: production isn't in another account.
        variables: The environment of medloop's commands in this account.
        notifications: Topics for promotions that wait and for failures.
        log_retention: How long logs are kept.
    """

    def __init__(
        self,
        scope: Construct,
        construct_id: str,
        *,
        settings: DeliverySettings,
        workspace: Workspace,
        publisher: iam.Role,
        hosting: Hosting,
        inference_role: iam.IRole,
        volume_key: kms.IKey,
        bus_arn: str | None,
        variables: Mapping[str, str],
        notifications: Notifications,
        log_retention: logs.RetentionDays,
    ) -> None:
        super().__init__(scope, construct_id)
        self.settings, self._workspace, self._variables = settings, workspace, variables
        self._values, self._log_retention = delivery_values(settings.project), log_retention
        self.jobs = make_jobs(self._values, promotes=bus_arn is not None)
        self.project_roles = self._make_project_roles() if settings.by == "codepipeline" else {}
        principals = self._find_principals()
        self.roles = DeliveryRoles(
            self,
            "Roles",
            principals=principals,
            workspace=workspace,
            staging=f"{self._values['endpoint']}-staging",
            hosting=hosting,
            inference_role=inference_role,
            volume_key=volume_key,
            bus_arn=bus_arn,
        ).roles | {PUBLISHER: publisher}
        _trust(publisher, principals[PUBLISHER])
        if self.project_roles:
            self.pipelines = self._make_pipelines(notifications)

    def _make_project_roles(self) -> dict[str, iam.Role]:
        scope = Construct(self, "ProjectRoles")
        return {
            name: make_role(scope, "codebuild", f"medloop: builds of the job {name}", construct_id=name.title())
            for name in self.jobs
        }

    def _find_principals(self) -> dict[str, iam.IPrincipal]:
        """Principals that assume each role of CI, by its name."""
        if self.settings.by == "github":
            return github_principals(self, self.settings)
        return {
            job.role: iam.ArnPrincipal(self.project_roles[name].role_arn)
            for name, job in self.jobs.items()
            if job.role is not None
        }

    def _make_pipelines(self, notifications: Notifications) -> Pipelines:
        storage = self._workspace.storage
        bucket = storage.make_bucket("Delivery", storage.keys.artefacts, expires=cdk.Duration.days(30))
        source = Source(bucket, Repository(self.settings).cloning)
        builds = {
            name: Build(
                self,
                name.title(),
                job=job,
                values=self._values,
                role=self.project_roles[name],
                job_role=self.roles[job.role] if job.role else None,
                source=source,
                # A check has no rights, and needs no names of what it may not see.
                variables=self._variables if job.role else {},
                keys=storage.keys,
                log_retention=self._log_retention,
            )
            for name, job in self.jobs.items()
        }
        return Pipelines(
            self,
            "Pipelines",
            settings=self.settings,
            builds=builds,
            source=source,
            key=storage.keys.artefacts,
            approvers=notifications.approvers,
            operations=notifications.operations,
            notification_key=storage.keys.logs,
            dead_letters=notifications.dead_letters,
        )


def _trust(role: iam.Role, principal: iam.IPrincipal) -> None:
    """Let one more principal assume a role that is there."""
    assert role.assume_role_policy is not None  # noqa: S101 - for the type checker
    role.assume_role_policy.add_statements(
        iam.PolicyStatement(actions=[principal.assume_role_action], principals=[principal])
    )
