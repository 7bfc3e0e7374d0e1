"""MLflow: SageMaker's serverless app, a tracking server that is always on, or none."""

from __future__ import annotations

from aws_cdk import aws_iam as iam
from aws_cdk import aws_sagemaker as sagemaker
from constructs import Construct

from infra.grants import make_role, read_objects, statement, use_key, write_objects
from infra.settings import TrackingSettings
from infra.storage.buckets import Storage
from infra.tracking.actions import APP_ACTIONS, SERVER_ACTIONS

NAME = "medloop"
PREFIX = "mlflow"
"""Prefix of runs' artefacts in the artefact bucket."""


class Tracking(Construct):
    """The chosen MLflow; `arn` is the value of the parameter `TrackingUri`, None if MLflow is off.

    Args:
        scope: CDK's parent.
        construct_id: CDK's id.
        settings: Which MLflow.
        storage: Holds runs' artefacts.
    """

    def __init__(self, scope: Construct, construct_id: str, *, settings: TrackingSettings, storage: Storage) -> None:
        super().__init__(scope, construct_id)
        self._storage = storage
        self.arn: str | None = None
        self.actions = APP_ACTIONS if settings.mlflow == "serverless" else SERVER_ACTIONS
        if settings.mlflow == "off":
            return
        store = f"s3://{storage.artefacts.bucket_name}/{PREFIX}"
        role = self._make_role()
        made: sagemaker.CfnMlflowApp | sagemaker.CfnMlflowTrackingServer
        if settings.mlflow == "serverless":
            made = app = sagemaker.CfnMlflowApp(
                self, "App", name=NAME, artifact_store_uri=store, role_arn=role.role_arn
            )
            self.arn = app.attr_arn
        else:
            made = server = sagemaker.CfnMlflowTrackingServer(
                self,
                "Server",
                tracking_server_name=NAME,
                tracking_server_size=settings.server_size,
                artifact_store_uri=store,
                role_arn=role.role_arn,
            )
            self.arn = server.attr_tracking_server_arn
        # It waits for its role, not for the role's policy.
        made.node.add_dependency(role.node.find_child("DefaultPolicy"))

    def writing(self) -> list[iam.PolicyStatement]:
        """Statements for a job that tracks its run."""
        if self.arn is None:
            return []
        return [
            statement("TrackRuns", self.actions, [self.arn]),
            write_objects("WriteRunArtefacts", self._storage.artefacts, f"{PREFIX}/*"),
        ]

    def _make_role(self) -> iam.Role:
        rights = [
            *read_objects("ReadArtefacts", self._storage.artefacts, f"{PREFIX}/*"),
            write_objects("WriteArtefacts", self._storage.artefacts, f"{PREFIX}/*"),
            *use_key("UseArtefacts", self._storage.keys.artefacts, write=True),
        ]
        return make_role(self, "sagemaker", "medloop: MLflow's artefacts", rights)
