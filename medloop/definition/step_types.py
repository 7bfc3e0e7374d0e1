"""Which step types there are, and all that depends on a step's type: one row each, in `STEP_TYPES`.

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

_RETRIED = frozenset(EXCEPTION_TYPES)


@dataclass(frozen=True, kw_only=True)
class JobType:
    """How the service spells one type of job. A path is names of members, joined by dots.

    Args:
        kind: What commands call it: `training`.
        name: What the service calls it in the metadata of an execution's step: `TrainingJob`.
        operation: The operation that starts one: `CreateTrainingJob`.
        log_group: CloudWatch's group of its logs.
        instances: Path in its request of InstanceType, InstanceCount and VolumeSizeInGB.
        isolation: Path in its request of EnableNetworkIsolation; empty where it has none.
        trials: Member of its request that holds the request of its trials, training jobs that it starts; empty if it
            has none. The member of that name with an `s` holds several such requests.
        num_trials: Path in its request of the largest number of trials.
        trains: Whether it trains a model: it reports metrics, and may run on Spot instances.
    """

    kind: str
    name: str
    operation: str
    log_group: str
    instances: str
    isolation: str = ""
    trials: str = ""
    num_trials: str = ""
    trains: bool = False

    @property
    def name_member(self) -> str:
        """The member that names a job: `TrainingJobName`."""
        return f"{self.operation.removeprefix('Create')}Name"

    @property
    def time_prefix(self) -> str:
        """How the members of its start and end begin: `Training` in `TrainingStartTime`."""
        return self.name.removesuffix("Job")

    def request(self, document: Mapping[str, Any]) -> Mapping[str, Any]:
        """The part of a request or a description that is of one job: its own, or that of its trials."""
        found = document.get(self.trials) if self.trials else document
        return found if isinstance(found, Mapping) else {}

    def cluster(self, document: Mapping[str, Any]) -> Mapping[str, Any]:
        """InstanceType, InstanceCount and VolumeSizeInGB in a request or a description; empty where it names none."""
        found = member(self.request(document), self.instances)
        return found if isinstance(found, Mapping) else {}

    def requests(self, arguments: Mapping[str, Any]) -> list[Mapping[str, Any]]:
        """The requests of all jobs that a step's arguments ask for."""
        return [self.request(arguments), *(mappings(arguments.get(f"{self.trials}s")) if self.trials else [])]


@dataclass(frozen=True, kw_only=True)
class StepType:
    """One step type. A path is names of members, joined by dots.

    Args:
        name: As a definition spells it.
        runner: The subclass of `StepRunner` that runs a step in a local execution, as `module:class`; it is imported
            when such a step starts, so that reading a definition needs no backend. Empty: such steps run on AWS only.
        creates: The operation whose request the step's arguments are; empty where they are none, or a job's.
        job: The job that the step starts; None where it starts none.
        filled_in: The required member of its request that the service makes up in a pipeline.
        check: Rules of its own, beyond its request's shape: yields what is wrong, one line each.
        has_properties: Whether other steps may refer to it.
        retried: The exceptions for which its retry policies may try it again; empty: it takes no policies.
        compared: Paths in the step that a cache hit must share; never destinations, instances, job names or tags.
            Empty: never cached. https://docs.aws.amazon.com/sagemaker/latest/dg/pipelines-default-keys.html
        variants: Path in its arguments of an endpoint's variants, priced by the month.
        describe: The step in words, for drawings; None: its description says enough.
        shape: What encloses its box in a Mermaid flowchart.
        metadata: Its member of an execution step's Metadata; empty: its job's name, or its own.
        arn_member: The member of its metadata that holds the ARN of its job, or of what it made or called.
        is_final: Whether an execution that it ended can't be retried.
    """

    name: str
    runner: str = ""
    creates: str = ""
    job: JobType | None = None
    filled_in: str = ""
    check: Callable[[Step], Iterator[str]] = lambda _: iter(())
    has_properties: bool = True
    retried: frozenset[str] = frozenset()
    compared: tuple[str, ...] = ()
    variants: str = ""
    describe: Callable[[Step], str] | None = None
    shape: tuple[str, str] = ('["', '"]')
    metadata: str = ""
    arn_member: str = "Arn"
    is_final: bool = False

    @property
    def operation(self) -> str:
        """The operation whose request the step's arguments are; empty for none."""
        return self.job.operation if self.job else self.creates

    @property
    def metadata_member(self) -> str:
        """Its member of an execution step's Metadata."""
        return self.metadata or (self.job.name if self.job else self.name)


def _fail_problems(step: Step) -> Iterator[str]:
    message = step.arguments.get("ErrorMessage")
    if not (isinstance(message, str) or is_expression(message)):
        yield "ErrorMessage must be text"


PROCESSING_JOB = JobType(
    kind="processing",
    name="ProcessingJob",
    operation="CreateProcessingJob",
    log_group="/aws/sagemaker/ProcessingJobs",
    instances="ProcessingResources.ClusterConfig",
    isolation="NetworkConfig.EnableNetworkIsolation",
)
TRAINING_JOB = JobType(
    kind="training",
    name="TrainingJob",
    operation="CreateTrainingJob",
    log_group="/aws/sagemaker/TrainingJobs",
    instances="ResourceConfig",
    isolation="EnableNetworkIsolation",
    trains=True,
)
TUNING_JOB = JobType(
    kind="tuning",
    name="TuningJob",
    operation="CreateHyperParameterTuningJob",
    log_group=TRAINING_JOB.log_group,
    instances="ResourceConfig",
    isolation="EnableNetworkIsolation",
    trials="TrainingJobDefinition",
    num_trials="HyperParameterTuningJobConfig.ResourceLimits.MaxNumberOfTrainingJobs",
    trains=True,
)
TRANSFORM_JOB = JobType(
    kind="transform",
    name="TransformJob",
    operation="CreateTransformJob",
    log_group="/aws/sagemaker/TransformJobs",
    instances="TransformResources",
)
JOB_TYPES = {job.kind: job for job in (PROCESSING_JOB, TRAINING_JOB, TUNING_JOB, TRANSFORM_JOB)}

_ROWS = (
    StepType(
        name="Processing",
        runner="medloop.local.engine.step_runs.jobs:Processing",
        job=PROCESSING_JOB,
        filled_in="ProcessingJobName",
        retried=_RETRIED,
        compared=("Arguments.AppSpecification", "Arguments.Environment", "Arguments.ProcessingInputs"),
    ),
    StepType(
        name="Training",
        runner="medloop.local.engine.step_runs.jobs:Training",
        job=TRAINING_JOB,
        filled_in="TrainingJobName",
        retried=_RETRIED,
        compared=(
            "Arguments.AlgorithmSpecification",
            "Arguments.CheckpointConfig",
            "Arguments.DebugHookConfig",
            "Arguments.DebugRuleConfigurations",
            "Arguments.Environment",
            "Arguments.HyperParameters",
            "Arguments.InputDataConfig",
        ),
    ),
    StepType(
        name="Tuning",
        runner="medloop.local.engine.step_runs.tuning:Tuning",
        job=TUNING_JOB,
        filled_in="HyperParameterTuningJobName",
        retried=_RETRIED - {JOB_INTERNAL_ERROR},  # the service leaves that to the tuning job's own retry strategy
        compared=(
            "Arguments.HyperParameterTuningJobConfig",
            "Arguments.TrainingJobDefinition.AlgorithmSpecification",
            "Arguments.TrainingJobDefinition.HyperParameterRanges",
            "Arguments.TrainingJobDefinition.InputDataConfig",
            "Arguments.TrainingJobDefinition.StaticHyperParameters",
            "Arguments.TrainingJobDefinition.TuningObjective",
            "Arguments.TrainingJobDefinitions",
        ),
    ),
    StepType(
        name="Transform",
        runner="medloop.local.engine.step_runs.jobs:Transform",
        job=TRANSFORM_JOB,
        filled_in="TransformJobName",
        retried=_RETRIED,
        compared=(
            "Arguments.DataProcessing",
            "Arguments.Environment",
            "Arguments.ModelName",
            "Arguments.TransformInput",
        ),
    ),
    StepType(
        name="Lambda",
        runner="medloop.local.engine.step_runs.lambda_:Lambda",
        compared=("Arguments", "FunctionArn"),
    ),
    StepType(
        name=CONDITION,
        runner="medloop.local.engine.step_runs.control:Condition",
        check=condition_problems,
        describe=describe_conditions,
        shape=('{"', '"}'),
    ),
    StepType(
        name="RegisterModel",
        runner="medloop.local.engine.step_runs.resources:RegisterModel",
        creates="CreateModelPackage",
        retried=_RETRIED,
    ),
    StepType(
        name="Model",
        runner="medloop.local.engine.step_runs.resources:Model",
        creates="CreateModel",
        filled_in="ModelName",
        retried=_RETRIED,
    ),
    StepType(
        name="EndpointConfig",
        runner="medloop.local.engine.step_runs.resources:EndpointConfig",
        creates="CreateEndpointConfig",
        variants="ProductionVariants",
    ),
    StepType(
        name="Endpoint",
        runner="medloop.local.engine.step_runs.endpoint:Endpoint",
        creates="CreateEndpoint",
    ),
    StepType(
        name="Fail",
        runner="medloop.local.engine.step_runs.control:Fail",
        check=_fail_problems,
        has_properties=False,
        is_final=True,
    ),
)
STEP_TYPES: Mapping[str, StepType] = {row.name: row for row in _ROWS}
_BY_METADATA = {row.metadata_member: row for row in _ROWS}


def type_of(step: Step) -> StepType:
    """The row of a step's type; of a type that isn't in the table, one that allows nothing."""
    return STEP_TYPES.get(step.type) or StepType(name=step.type)


def type_in_metadata(member: str) -> StepType:
    """The row of the type whose steps have this member in their Metadata; else, one that allows nothing."""
    return _BY_METADATA.get(member) or StepType(name=member)
