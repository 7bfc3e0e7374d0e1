"""The table of step types, `STEP_TYPES`: one row a type, with all that depends on it.

A row says how steps of the type are run, validated, priced, cached, retried, drawn and shown. To add a type, add its
row and its runner (docs/extending.md).
https://docs.aws.amazon.com/sagemaker/latest/dg/build-and-manage-steps-types.html
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from medloop.definition.conditions import condition_problems, describe_conditions
from medloop.definition.read import CONDITION, Step, is_expression, mappings, member
from medloop.definition.retrying import EXCEPTION_TYPES, JOB_INTERNAL_ERROR
from medloop.documents.file_names import ARCHIVE_FILE

_ALL = frozenset(EXCEPTION_TYPES)


@dataclass(frozen=True, kw_only=True)
class JobType:
    """The service's names for one type of job. A path is names of members, joined by dots.

    Args:
        name: The service's name in the metadata of an execution's step: `TrainingJob`.
        resource: The service's name in operations, where it differs.
        instances: Path in the request of InstanceType, InstanceCount and VolumeSizeInGB.
        isolation: Path in the request of EnableNetworkIsolation; empty if it has none.
        trials: Member of the request that holds the request of the job's trials; empty if it has no trials. The member
            of that name with an `s` holds several such requests.
        num_trials: Path in the request of the largest number of trials.
        trains: True if it trains a model: it reports metrics, and may run on Spot instances.
        outputs: S3 URIs that a completed job stored, from its description: keys, or prefixes that end in a slash. The
            step cache verifies them.
    """

    name: str
    resource: str = ""
    instances: str
    isolation: str = ""
    trials: str = ""
    num_trials: str = ""
    trains: bool = False
    outputs: Callable[[Mapping[str, Any]], list[str]] = lambda _: []

    @property
    def time_prefix(self) -> str:
        """`Training`, with which the members of its start and its end begin: `TrainingStartTime`."""
        return self.name.removesuffix("Job")

    @property
    def kind(self) -> str:
        """The word for it in commands: `training`."""
        return self.time_prefix.lower()

    @property
    def operation(self) -> str:
        """The operation that starts such a job."""
        return f"Create{self.resource or self.name}"

    @property
    def name_member(self) -> str:
        """The member of the request that names the job."""
        return f"{self.resource or self.name}Name"

    @property
    def log_group(self) -> str:
        """CloudWatch's group of its logs; trials log as the training jobs that they are."""
        return f"/aws/sagemaker/{'TrainingJob' if self.trains else self.name}s"

    def request(self, document: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return the part of a request or a description that is about one job: the whole, or that of the trials."""
        part = document.get(self.trials) if self.trials else document
        return part if isinstance(part, Mapping) else {}

    def requests(self, arguments: Mapping[str, Any]) -> list[Mapping[str, Any]]:
        """Return the requests of all jobs that a step's arguments request."""
        return [self.request(arguments), *(mappings(arguments.get(f"{self.trials}s")) if self.trials else [])]

    def cluster(self, document: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return InstanceType, InstanceCount and VolumeSizeInGB of a request or a description; empty without them."""
        cluster = member(self.request(document), self.instances)
        return cluster if isinstance(cluster, Mapping) else {}


@dataclass(frozen=True, kw_only=True)
class StepType:
    """One step type. A path is names of members, joined by dots.

    Args:
        name: The definition's name for it.
        runner: The subclass of `StepRunner` that runs such a step locally: `module:class` in
            medloop/local/engine/step_runs, imported when a step starts. Empty: such steps run on AWS only.
        job: The job that the step starts; None if it starts none.
        creates: The operation whose request the step's arguments are; empty if they are none, or a job's.
        named_by_service: True if the service names what the step creates.
        check: Rules beyond the request's shape: yields the problems, one line each.
        has_properties: True if other steps may refer to it.
        retried: The exceptions for which retry policies may retry it; empty: it takes no policies.
        compared: Paths in the step or its arguments that a cache hit must share; never destinations, instances, job
            names or tags. Empty: never cached.
            https://docs.aws.amazon.com/sagemaker/latest/dg/pipelines-default-keys.html
        variants: Path in its arguments of an endpoint's variants, priced by the month.
        describe: The step as text, for drawings; None: its description is enough.
        metadata: Its member of an execution step's Metadata, if it is neither its job's name nor its own.
        arn_member: The member of its metadata that holds the ARN of its job, or of what it makes or calls.
        is_final: True if an execution that it ends can't be retried.
    """

    name: str
    runner: str = ""
    job: JobType | None = None
    creates: str = ""
    named_by_service: bool = False
    check: Callable[[Step], Iterator[str]] = lambda _: iter(())
    has_properties: bool = True
    retried: frozenset[str] = frozenset()
    compared: tuple[str, ...] = ()
    variants: str = ""
    describe: Callable[[Step], str] | None = None
    metadata: str = ""
    arn_member: str = "Arn"
    is_final: bool = False

    @property
    def operation(self) -> str:
        """The operation whose request the step's arguments are; empty for none."""
        return self.job.operation if self.job else self.creates

    @property
    def filled_in(self) -> str:
        """The member of the request that the service fills in, the name; empty for none."""
        return f"{self.operation.removeprefix('Create')}Name" if self.job or self.named_by_service else ""

    @property
    def metadata_member(self) -> str:
        """Its member of an execution step's Metadata."""
        return self.metadata or (self.job.name if self.job else self.name)


def _fail_problems(step: Step) -> Iterator[str]:
    message = step.arguments.get("ErrorMessage")
    if not (isinstance(message, str) or is_expression(message)):
        yield "ErrorMessage must be text"


def _processing_outputs(job: Mapping[str, Any]) -> list[str]:
    outputs = member(job, "ProcessingOutputConfig.Outputs") or []
    return [f"{output['S3Output']['S3Uri'].rstrip('/')}/" for output in outputs]


def _model_artefact(job: Mapping[str, Any]) -> list[str]:
    uri = member(job, "ModelArtifacts.S3ModelArtifacts")
    return [uri] if uri else []


def _best_artefact(job: Mapping[str, Any]) -> list[str]:
    best = member(job, "BestTrainingJob.TrainingJobName")
    folder = member(job, "TrainingJobDefinition.OutputDataConfig.S3OutputPath")
    return [f"{folder.rstrip('/')}/{best}/output/{ARCHIVE_FILE}"] if best and folder else []


def _transform_outputs(job: Mapping[str, Any]) -> list[str]:
    folder = member(job, "TransformOutput.S3OutputPath")
    return [f"{folder.rstrip('/')}/"] if folder else []


PROCESSING_JOB = JobType(
    name="ProcessingJob",
    instances="ProcessingResources.ClusterConfig",
    isolation="NetworkConfig.EnableNetworkIsolation",
    outputs=_processing_outputs,
)
TRAINING_JOB = JobType(
    name="TrainingJob",
    instances="ResourceConfig",
    isolation="EnableNetworkIsolation",
    trains=True,
    outputs=_model_artefact,
)
TUNING_JOB = JobType(
    name="TuningJob",
    resource="HyperParameterTuningJob",
    instances="ResourceConfig",
    isolation="EnableNetworkIsolation",
    trials="TrainingJobDefinition",
    num_trials="HyperParameterTuningJobConfig.ResourceLimits.MaxNumberOfTrainingJobs",
    trains=True,
    outputs=_best_artefact,
)
TRANSFORM_JOB = JobType(name="TransformJob", instances="TransformResources", outputs=_transform_outputs)
JOB_TYPES = {job.kind: job for job in (PROCESSING_JOB, TRAINING_JOB, TUNING_JOB, TRANSFORM_JOB)}

_ROWS = (
    StepType(
        name="Processing",
        runner="jobs:Processing",
        job=PROCESSING_JOB,
        retried=_ALL,
        compared=("AppSpecification", "Environment", "ProcessingInputs"),
    ),
    StepType(
        name="Training",
        runner="jobs:Training",
        job=TRAINING_JOB,
        retried=_ALL,
        compared=(
            "AlgorithmSpecification",
            "CheckpointConfig",
            "DebugHookConfig",
            "DebugRuleConfigurations",
            "Environment",
            "HyperParameters",
            "InputDataConfig",
        ),
    ),
    StepType(
        name="Tuning",
        runner="tuning:Tuning",
        job=TUNING_JOB,
        retried=_ALL - {JOB_INTERNAL_ERROR},  # the service leaves that to the tuning job's own retry strategy
        compared=(
            "HyperParameterTuningJobConfig",
            "TrainingJobDefinition.AlgorithmSpecification",
            "TrainingJobDefinition.HyperParameterRanges",
            "TrainingJobDefinition.InputDataConfig",
            "TrainingJobDefinition.StaticHyperParameters",
            "TrainingJobDefinition.TuningObjective",
            "TrainingJobDefinitions",
        ),
    ),
    StepType(
        name="Transform",
        runner="jobs:Transform",
        job=TRANSFORM_JOB,
        retried=_ALL,
        compared=("DataProcessing", "Environment", "ModelName", "TransformInput"),
    ),
    StepType(name="Lambda", runner="lambda_:Lambda", compared=("Arguments", "FunctionArn")),
    StepType(
        name=CONDITION,
        runner="control:Condition",
        check=condition_problems,
        describe=describe_conditions,
    ),
    StepType(name="RegisterModel", runner="resources:RegisterModel", creates="CreateModelPackage", retried=_ALL),
    StepType(name="Model", runner="resources:Model", creates="CreateModel", named_by_service=True, retried=_ALL),
    StepType(
        name="EndpointConfig",
        runner="resources:EndpointConfig",
        creates="CreateEndpointConfig",
        variants="ProductionVariants",
    ),
    StepType(name="Endpoint", runner="endpoint:Endpoint", creates="CreateEndpoint"),
    StepType(name="Fail", runner="control:Fail", check=_fail_problems, has_properties=False, is_final=True),
)
STEP_TYPES: Mapping[str, StepType] = {row.name: row for row in _ROWS}
_BY_METADATA = {row.metadata_member: row for row in _ROWS}


def type_of(step: Step) -> StepType:
    """Return the row of a step's type; for a type that isn't in the table, a row that allows nothing."""
    return STEP_TYPES.get(step.type) or StepType(name=step.type)


def type_in_metadata(member: str) -> StepType:
    """Return the row of the type with this member in its steps' Metadata, or else a row that allows nothing."""
    return _BY_METADATA.get(member) or StepType(name=member)
