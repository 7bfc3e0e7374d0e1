"""MLflow: SageMaker's serverless app, a tracking server that is always on, or none."""

from __future__ import annotations

from aws_cdk import Stack
from aws_cdk import aws_iam as iam
from aws_cdk import aws_sagemaker as sagemaker
from constructs import Construct

from infra.execution.grants import read_objects, statement, use_key, write_objects
from infra.settings import TrackingSettings
from infra.storage.buckets import Storage
from infra.tracking.actions import APP_ACTIONS, SERVER_ACTIONS

NAME = "medloop"
PREFIX = "mlflow"
"""Of runs' artefacts in the artefact bucket."""


class Tracking(Construct):
    """What was chosen; `arn` is what `TrackingUri` takes, None where it is off.

    Args:
        scope: CDK's parent.
        construct_id: CDK's id.
        settings: Which.
        storage: Holds runs' artefacts.
    """

    def __init__(self, scope: Construct, construct_id: str, *, settings: TrackingSettings, storage: Storage) -> None:
        super().__init__(scope, construct_id)
        self._storage = storage
        self.arn: str | None = None
        self.actions = APP_ACTIONS if settings.mlflow == "serverless" else SERVER_ACTIONS
        if settings.mlflow == "off":
            return
        place = f"s3://{storage.artefacts.bucket_name}/{PREFIX}"
        role = self._make_role()
        made: sagemaker.CfnMlflowApp | sagemaker.CfnMlflowTrackingServer
        if settings.mlflow == "serverless":
            made = app = sagemaker.CfnMlflowApp(
                self, "App", name=NAME, artifact_store_uri=place, role_arn=role.role_arn
            )
            self.arn = app.attr_arn
        else:
            made = server = sagemaker.CfnMlflowTrackingServer(
                self,
                "Server",
                tracking_server_name=NAME,
                tracking_server_size=settings.server_size,
                artifact_store_uri=place,
                role_arn=role.role_arn,
            )
            self.arn = server.attr_tracking_server_arn
        # It waits for its role, not for the role's policy.
        made.node.add_dependency(role.node.find_child("DefaultPolicy"))

    def writing(self) -> list[iam.PolicyStatement]:
        """What a job needs that tracks its run."""
        if self.arn is None:
            return []
        artefacts = f"{PREFIX}/*"
        return [
            statement("TrackRuns", self.actions, [self.arn]),
            write_objects("WriteRunArtefacts", self._storage.artefacts, artefacts),
        ]

    def _make_role(self) -> iam.Role:
        role = iam.Role(
            self,
            "Role",
            assumed_by=iam.ServicePrincipal(
                "sagemaker.amazonaws.com", conditions={"StringEquals": {"aws:SourceAccount": Stack.of(self).account}}
            ),
            description="medloop: MLflow's artefacts",
        )
        for each in [
            *read_objects("ReadArtefacts", self._storage.artefacts, f"{PREFIX}/*"),
            write_objects("WriteArtefacts", self._storage.artefacts, f"{PREFIX}/*"),
            *use_key("UseArtefacts", self._storage.keys.artefacts, write=True),
        ]:
            role.add_to_policy(each)
        return role
