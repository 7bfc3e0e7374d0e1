"""Parts that every step shares: the build's context, places for outputs, retries, caching, tags.

The SDK is imported inside functions: it takes seconds, and settings must be readable without it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from medloop.bundle import load_container
from medloop.cloud.hosting import has_gpu
from medloop.cloud.images import image_uri
from medloop.cloud.layout import MAX_PROJECT, PROJECT_PATTERN, group_name, pipeline_name
from medloop.errors import SettingError
from medloop.settings import ProjectSettings, RunParameter, setting_value
from steps.base import InstanceType as InstanceType
from steps.base import S3Uri as S3Uri
from steps.base import Settings as Settings
from steps.network import NetworkSettings
from steps.tracking import TrackingSettings

if TYPE_CHECKING:
    from sagemaker.core.workflow.functions import Join
    from sagemaker.core.workflow.parameters import Parameter
    from sagemaker.core.workflow.pipeline_context import PipelineSession
    from sagemaker.mlops.workflow.pipeline import Pipeline
    from sagemaker.mlops.workflow.retry import RetryPolicy
    from sagemaker.mlops.workflow.steps import CacheConfig, ProcessingStep, Step

    from medloop.cloud.target import Target

ProjectName = Annotated[str, Field(pattern=PROJECT_PATTERN, max_length=MAX_PROJECT)]
MAX_ATTEMPTS = 3
"""Attempts of a step when the service fails, not our code."""


class ProcessingResources(Settings):
    """Instance of a processing job."""

    instance_type: InstanceType = "ml.m5.xlarge"
    volume_gb: int = Field(default=50, ge=1, le=16384)
    max_runtime_minutes: int = Field(default=120, ge=1, le=7200)


class PipelineSettings(Settings, ProjectSettings):
    """Settings of every pipeline, in addition to those of its steps."""

    project: ProjectName = ""
    """What the model is for, such as `prostate`: pipeline, model group, champion and endpoint of its own. Locally the
    default is the data set's name."""
    cache_days: int = Field(default=30, ge=0, le=365)
    """Days for which the result of an equal earlier step is reused; 0 runs every step each time."""
    tags: dict[str, Annotated[str, Field(max_length=256)]] = Field(default_factory=dict, max_length=40)
    """Tags of every job, in addition to medloop's own."""
    network: NetworkSettings = NetworkSettings()
    tracking: TrackingSettings = TrackingSettings()
    smoke: bool = False
    """Override the sizes of every preset: a complete run in a minute or two, without a useful model."""

    @model_validator(mode="before")
    @classmethod
    def _name_the_endpoint(cls, values: Any) -> Any:
        """Name a project's endpoint after the project, unless the settings name it."""
        if "deploy" not in cls.model_fields or not isinstance(values, dict) or not values.get("project"):
            return values
        deploy, default = values.get("deploy", {}), cls.model_fields["deploy"].default.endpoint_name
        if not isinstance(deploy, dict) or "endpoint_name" in deploy:
            return values
        # As the project's model group is named: an approval deploys to the endpoint of that name.
        name = group_name(default.removeprefix("medloop-"), str(values["project"]))
        return values | {"deploy": deploy | {"endpoint_name": name}}

    @model_validator(mode="after")
    def _isolated_jobs_track_nothing_far(self) -> Self:
        if self.network.isolation and (culprit := self.tracking.needs_network()):
            raise ValueError(f"{culprit} needs the network, which network.isolation closes; switch one of them off")
        return self


@dataclass(frozen=True)
class Context:
    """A build's context, passed to each of its steps."""

    pipeline: str
    """Its name on the target."""
    task: Literal["classification", "segmentation"]
    target: Target
    session: PipelineSession
    parameters: Mapping[str, Parameter]
    settings: PipelineSettings

    @classmethod
    def open(
        cls,
        name: str,
        task: Literal["classification", "segmentation"],
        settings: PipelineSettings,
        target: Target,
        parameters: Sequence[RunParameter],
    ) -> Context:
        """Start a build: open the SDK's session and make the pipeline's parameters."""
        session = target.pipeline_session()  # First: importing the SDK needs the region that this sets.
        values = {parameter.name: _make_parameter(parameter, settings) for parameter in parameters}
        return cls(pipeline_name(name, settings.project), task, target, session, values, settings)

    @property
    def group(self) -> str:
        """The project's model group."""
        if shared := self.settings.GROUP:
            return group_name(shared, self.settings.project)
        return group_name(self.pipeline, "")

    def pipeline_of(self, steps: Sequence[Step]) -> Pipeline:
        """Make the SDK's pipeline of these steps; without experiment: its default needs further permissions."""
        from sagemaker.mlops.workflow.pipeline import Pipeline

        return Pipeline(
            name=self.pipeline,
            parameters=list(self.parameters.values()),
            steps=list(steps),
            sagemaker_session=self.session,
            pipeline_experiment_config=None,
        )

    def destination(self, step: str, output: str | None = None) -> Join:
        """Return an output's URI: another for each execution, so that no run overwrites the output of an earlier run.

        The step cache compares images, inputs, arguments, environment and hyperparameters, never destinations
        (https://docs.aws.amazon.com/sagemaker/latest/dg/pipelines-default-keys.html), so this costs no hit.
        """
        from sagemaker.core.workflow.execution_variables import ExecutionVariables
        from sagemaker.core.workflow.functions import Join

        root = f"s3://{self.target.bucket}/executions/{self.pipeline}"
        last = [output] if output is not None else []
        return Join(on="/", values=[root, ExecutionVariables.PIPELINE_EXECUTION_ID, step, *last])

    def tags(self) -> list[dict[str, str]]:
        """Return the job's tags in the service's form, sorted by key."""
        fixed = {"medloop:pipeline": self.pipeline, "medloop:task": self.task}
        return [{"Key": key, "Value": value} for key, value in sorted((self.settings.tags | fixed).items())]

    def cache(self, *, fixed_inputs: bool = True) -> CacheConfig:
        """Make the step's caching.

        Args:
            fixed_inputs: Whether equal arguments mean equal data. A URI that a user gave is compared by name alone,
                not by its current content: such a step always runs.
        """
        from sagemaker.mlops.workflow.steps import CacheConfig

        if not fixed_inputs or self.settings.cache_days == 0:
            return CacheConfig(enable_caching=False)
        return CacheConfig(enable_caching=True, expire_after=f"{self.settings.cache_days}d")


def service_retries() -> list[RetryPolicy]:
    """Retries of a step when Pipelines itself fails or is throttled."""
    from sagemaker.mlops.workflow.retry import StepExceptionTypeEnum, StepRetryPolicy

    types = [StepExceptionTypeEnum.SERVICE_FAULT, StepExceptionTypeEnum.THROTTLING]
    return [StepRetryPolicy(exception_types=types, interval_seconds=10, max_attempts=MAX_ATTEMPTS)]


def job_retries(*, tuning: bool = False) -> list[RetryPolicy]:
    """Retries of a step that runs a job: also when there is no capacity. A job that fails by itself is not retried.

    Args:
        tuning: The job is a tuning job, for which the service knows no internal error.
    """
    from sagemaker.mlops.workflow.retry import SageMakerJobExceptionTypeEnum, SageMakerJobStepRetryPolicy

    waiting = SageMakerJobStepRetryPolicy(
        exception_types=[SageMakerJobExceptionTypeEnum.RESOURCE_LIMIT],
        failure_reason_types=[
            *([] if tuning else [SageMakerJobExceptionTypeEnum.INTERNAL_ERROR]),
            SageMakerJobExceptionTypeEnum.CAPACITY_ERROR,
        ],
        interval_seconds=60,
        max_attempts=MAX_ATTEMPTS,
    )
    return [*service_retries(), waiting]


def output_uri(step: ProcessingStep, name: str) -> Any:
    """Return the URI of a processing step's output: a property, resolved when the step has run or is in the cache."""
    return step.properties.ProcessingOutputConfig.Outputs[name].S3Output.S3Uri


def processing_input(name: str, uri: Any, data_type: Literal["S3Prefix", "ManifestFile"] = "S3Prefix") -> Any:
    """Make the SDK's input object: a prefix, or the files that a manifest lists; copied before the job starts."""
    from sagemaker.core.shapes import ProcessingInput, ProcessingS3Input

    from medloop.container import paths

    source = ProcessingS3Input(
        s3_uri=uri,
        local_path=paths.processing_input(name),
        s3_data_type=data_type,
        s3_input_mode="File",
        s3_data_distribution_type="FullyReplicated",
        s3_compression_type="None",
    )
    return ProcessingInput(input_name=name, s3_input=source)


def processing_output(name: str, uri: Any) -> Any:
    """Make the SDK's output object, stored when the job ends."""
    from sagemaker.core.shapes import ProcessingOutput, ProcessingS3Output

    from medloop.container import paths

    target = ProcessingS3Output(s3_uri=uri, local_path=paths.processing_output(name), s3_upload_mode="EndOfJob")
    return ProcessingOutput(output_name=name, s3_output=target)


def check_accelerator(context: Context, container: str, setting: str, instance_type: str) -> None:
    """Refuse GPUs for an image that is built for the CPU: it would compute on the CPU, at the GPU's price.

    Raises:
        SettingError: On AWS alone; locally an instance type is a name.
    """
    if context.target.name == "aws" and has_gpu(instance_type) and not load_container(container).is_built_for_gpus:
        raise SettingError(
            f"{setting}={instance_type}: containers/{container} is built for the CPU; choose a CPU instance type, or "
            f"set base in containers/{container}/container.toml to a GPU image (docs/training.md)"
        )


def make_processor(context: Context, container: str, resources: ProcessingResources) -> Any:
    """Make the SDK's Processor for one of our images."""
    from sagemaker.core.processing import Processor

    network = context.settings.network
    check_accelerator(context, container, f"{container}.instance_type", resources.instance_type)
    return Processor(
        role=context.target.container_role(container),
        image_uri=image_uri(context.target, container),
        instance_count=1,
        instance_type=resources.instance_type,
        volume_size_in_gb=resources.volume_gb,
        max_runtime_in_seconds=60 * resources.max_runtime_minutes,
        tags=context.tags(),
        volume_kms_key=network.volume_key(resources.instance_type),
        output_kms_key=network.kms_key,
        network_config=network.of_processing(),
        sagemaker_session=context.session,
    )


def _make_parameter(parameter: RunParameter, settings: PipelineSettings) -> Parameter:
    from sagemaker.core.workflow import parameters as sdk

    kinds = {"String": sdk.ParameterString, "Integer": sdk.ParameterInteger, "Float": sdk.ParameterFloat}
    if parameter.setting is None:
        return kinds[parameter.kind](name=parameter.name)
    return kinds[parameter.kind](name=parameter.name, default_value=setting_value(settings, parameter.setting))
