"""The roles of jobs: each reads what came before it and writes what is its own."""

from __future__ import annotations

from collections.abc import Sequence

from aws_cdk import Stack
from aws_cdk import aws_iam as iam
from constructs import Construct

from infra.execution.grants import PULLING, read_objects, run_as_job, statement, use_key, write_objects
from infra.images.repositories import Images, base_images
from infra.network.vpc import Network
from infra.settings import AccessSettings
from infra.storage.buckets import Storage
from infra.tracking.mlflow import Tracking
from medloop.cloud.layout import EXECUTIONS, NO_MODEL, PSEUDONYM_KEY, TENSORBOARD
from medloop.documents.file_names import SPLIT_FILE

SPLIT = f"{EXECUTIONS}/*/Split/*"
SPLIT_RECORD = f"{EXECUTIONS}/*/Split/split/{SPLIT_FILE}"
"""Who is in which split, by pseudonym; no image."""
MODELS = (f"{EXECUTIONS}/*/Train/*", f"{EXECUTIONS}/*/Tune/*")
MODEL_ARTEFACTS = tuple(f"{prefix}/model.tar.gz" for prefix in MODELS)
EVALUATION = f"{EXECUTIONS}/*/Evaluate/*"
CODE = ("bundles/*", "scripts/*")
"""Script mode's code and drivers; own containers bring theirs."""
RAW = "raw/*"


class JobRoles(Construct):
    """Roles of the processing job that splits, of training, of evaluation and of endpoints.

    Args:
        scope: CDK's parent.
        construct_id: CDK's id.
        storage: The buckets.
        network: Where jobs run.
        images: The containers' repositories.
        tracking: MLflow.
        access: Whether jobs after the split read raw data.
    """

    def __init__(
        self,
        scope: Construct,
        construct_id: str,
        *,
        storage: Storage,
        network: Network,
        images: Images,
        tracking: Tracking,
        access: AccessSettings,
    ) -> None:
        super().__init__(scope, construct_id)
        self._storage, self._network, self._images = storage, network, images
        self._raw = self._read_raw() if access.jobs_read_raw_data else []
        self.processing = self._make("Processing", "split", self._split())
        self.training = self._make("Training", "train and tune", [*self._train(), *tracking.writing()])
        self.evaluation = self._make("Evaluation", "evaluate", self._evaluate())
        self.inference = self._make("Inference", "serve", self._serve())

    @property
    def all(self) -> list[iam.Role]:
        """Every role that a job or a model may have."""
        return [self.processing, self.training, self.evaluation, self.inference]

    def _make(self, construct_id: str, purpose: str, statements: Sequence[iam.PolicyStatement]) -> iam.Role:
        role = iam.Role(
            self, construct_id, assumed_by=sagemaker_principal(self), description=f"medloop: jobs that {purpose}"
        )
        for each in [*run_as_job(self, self._network, self._images.arns), *statements]:
            role.add_to_policy(each)
        return role

    def _read_raw(self) -> list[iam.PolicyStatement]:
        data = self._storage
        return [*read_objects("ReadRaw", data.data, RAW), *use_key("DecryptRaw", data.keys.data, write=False)]

    def _split(self) -> list[iam.PolicyStatement]:
        """Raw data in, pseudonymised data out; a later split keeps patients in the places of an earlier one."""
        bucket = self._storage.artefacts
        return [
            *self._read_raw(),
            *read_objects("ReadKeyAndEarlierSplits", bucket, PSEUDONYM_KEY, SPLIT),
            write_objects("WriteSplit", bucket, SPLIT),
            *use_key("UseArtefacts", self._storage.keys.artefacts, write=True, machines=True),
        ]

    def _train(self) -> list[iam.PolicyStatement]:
        bucket, rest = self._storage.artefacts, ("checkpoints/*", f"{TENSORBOARD}/*")
        return [
            *self._raw,
            # Earlier models: training may begin with their weights.
            *read_objects("ReadSplitAndModels", bucket, SPLIT, *MODELS, *rest, *CODE),
            statement("PullScriptModesImage", PULLING, [base_images(self)]),
            write_objects("WriteModels", bucket, *MODELS, *rest),
            *use_key("UseArtefacts", self._storage.keys.artefacts, write=True, machines=True),
        ]

    def _evaluate(self) -> list[iam.PolicyStatement]:
        bucket = self._storage.artefacts
        return [
            *self._raw,
            *read_objects("ReadSplitAndModels", bucket, SPLIT, *MODELS, f"{NO_MODEL}/*"),
            write_objects("WriteEvaluation", bucket, EVALUATION),
            *use_key("UseArtefacts", self._storage.keys.artefacts, write=True, machines=True),
        ]

    def _serve(self) -> list[iam.PolicyStatement]:
        """A model in, asynchronous answers and captured requests out; no training data."""
        bucket = self._storage.artefacts
        return [
            *read_objects("ReadModels", bucket, *MODELS, "endpoints/*"),
            write_objects("WriteAnswers", bucket, "endpoints/*", "capture/*"),
            *use_key("UseArtefacts", self._storage.keys.artefacts, write=True, machines=True),
        ]


def sagemaker_principal(scope: Construct) -> iam.ServicePrincipal:
    """SageMaker on behalf of this account, and of no other that it might be talked into."""
    return iam.ServicePrincipal(
        "sagemaker.amazonaws.com", conditions={"StringEquals": {"aws:SourceAccount": Stack.of(scope).account}}
    )
