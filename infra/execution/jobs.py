"""The roles of jobs: each reads what came before it and writes what is its own."""

from __future__ import annotations

from collections.abc import Sequence

from aws_cdk import aws_iam as iam
from constructs import Construct

from infra.grants import PULLING, arn, make_role, read_objects, statement, use_key, write_objects
from infra.images.repositories import Images, base_images
from infra.network.vpc import Network
from infra.settings import AccessSettings
from infra.storage.buckets import Storage
from infra.tracking.mlflow import Tracking
from medloop.cloud.layout import EXECUTIONS, NO_MODEL, PSEUDONYM_KEY, TENSORBOARD
from medloop.documents.file_names import ARCHIVE_FILE, SPLIT_FILE

SPLIT = f"{EXECUTIONS}/*/Split/*"
SPLIT_RECORD = f"{EXECUTIONS}/*/Split/split/{SPLIT_FILE}"
"""The patients of each split, by pseudonym; no image."""
MODELS = (f"{EXECUTIONS}/*/Train/*", f"{EXECUTIONS}/*/Tune/*")
MODEL_ARTEFACTS = tuple(f"{prefix}/{ARCHIVE_FILE}" for prefix in MODELS)
EVALUATION = f"{EXECUTIONS}/*/Evaluate/*"
CODE = ("bundles/*", "scripts/*")
"""Script mode's code and drivers; own containers bring theirs."""
RAW = "raw/*"
INTERFACES = (
    "CreateNetworkInterface",
    "CreateNetworkInterfacePermission",
    "DeleteNetworkInterface",
    "DeleteNetworkInterfacePermission",
    "DescribeDhcpOptions",
    "DescribeNetworkInterfaces",
    "DescribeSecurityGroups",
    "DescribeSubnets",
    "DescribeVpcs",
)
"""Of EC2, for jobs in a VPC."""


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

    def _make(self, construct_id: str, purpose: str, statements: Sequence[iam.PolicyStatement]) -> iam.Role:
        rights = [*job_rights(self._network, self._images.arns), *statements]
        return make_role(self, "sagemaker", f"medloop: jobs that {purpose}", rights, construct_id)

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
            *use_key("UseArtefacts", self._storage.keys.artefacts, write=True, volumes=True),
        ]

    def _train(self) -> list[iam.PolicyStatement]:
        bucket, rest = self._storage.artefacts, ("checkpoints/*", f"{TENSORBOARD}/*")
        return [
            *self._raw,
            # Earlier models: training may begin with their weights.
            *read_objects("ReadSplitAndModels", bucket, SPLIT, *MODELS, *rest, *CODE),
            statement("PullScriptModesImage", PULLING, [base_images(self)]),
            write_objects("WriteModels", bucket, *MODELS, *rest),
            *use_key("UseArtefacts", self._storage.keys.artefacts, write=True, volumes=True),
        ]

    def _evaluate(self) -> list[iam.PolicyStatement]:
        bucket = self._storage.artefacts
        return [
            *self._raw,
            *read_objects("ReadSplitAndModels", bucket, SPLIT, *MODELS, f"{NO_MODEL}/*"),
            write_objects("WriteEvaluation", bucket, EVALUATION),
            *use_key("UseArtefacts", self._storage.keys.artefacts, write=True, volumes=True),
        ]

    def _serve(self) -> list[iam.PolicyStatement]:
        """A model in, asynchronous answers and captured requests out; no training data."""
        bucket = self._storage.artefacts
        return [
            *read_objects("ReadModels", bucket, *MODELS, "endpoints/*"),
            write_objects("WriteAnswers", bucket, "endpoints/*", "capture/*"),
            *use_key("UseArtefacts", self._storage.keys.artefacts, write=True, volumes=True),
        ]


def job_rights(network: Network, repositories: Sequence[str]) -> list[iam.PolicyStatement]:
    """The rights that any job needs: its image, its log, its metrics, and its network interfaces.

    Args:
        network: Where jobs run.
        repositories: ARNs of the repositories of its images.
    """
    writing = ["logs:CreateLogGroup", "logs:CreateLogStream", "logs:DescribeLogStreams", "logs:PutLogEvents"]
    namespaces = {"StringLike": {"cloudwatch:namespace": ["/aws/sagemaker/*", "AWS/SageMaker*"]}}
    return [
        # The service knows no narrower resource: a token for the registry, not for any image.
        statement("LogInToRegistry", ["ecr:GetAuthorizationToken"]),
        statement("PullImages", PULLING, repositories),
        statement("WriteLogs", writing, [arn("logs", "log-group:/aws/sagemaker/*")]),
        statement("WriteMetrics", ["cloudwatch:PutMetricData"], conditions=namespaces),
        *_interfaces(network),
    ]


def _interfaces(network: Network) -> list[iam.PolicyStatement]:
    """The right to make the network interfaces of a job; none without a VPC.

    Without condition or resource: SageMaker tries these actions on `*` before it makes a job, and refuses the job where
    one is bound. Code in a job can't use them: no endpoint of the VPC leads to EC2, and no route out.
    https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_CreateProcessingJob.html (VPC)
    """
    if network.security_group is None:
        return []
    return [statement("MakeInterfaces", [f"ec2:{verb}" for verb in INTERFACES])]
