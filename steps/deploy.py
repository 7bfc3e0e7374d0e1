"""Deploy: what passed the gate goes to a staging endpoint at once, where `deploy.mode=pipeline` says so.

The endpoint is EndpointName's; the service creates it, or updates it in place. An endpoint configuration's name can't
be used twice, so that each execution makes its own, named by its id.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from medloop.cloud.hosting import Hosting
from medloop.cloud.images import image_uri
from steps.base import InstanceType, Settings
from steps.common import Context, check_accelerator, service_retries
from steps.network import NetworkSettings
from steps.register import model_environment

if TYPE_CHECKING:
    from sagemaker.mlops.workflow.endpoint_step import EndpointConfigStep
    from sagemaker.mlops.workflow.steps import ProcessingStep, Step

CONTAINER = "serve"
EndpointName = Annotated[str, Field(max_length=63, pattern=r"^[A-Za-z0-9](-*[A-Za-z0-9])*$")]


class DeploySettings(Settings):
    """Endpoint of a model, deployed by the pipeline or after approval."""

    mode: Literal["approval", "pipeline"] = "approval"
    """approval: deploy a version after its approval; pipeline: deploy a model at once if it passes the gate."""
    endpoint_name: EndpointName
    """The default of the parameter EndpointName."""
    kind: Literal["realtime", "serverless", "async"] = "realtime"
    instance_type: InstanceType = "ml.m5.xlarge"
    instance_count: int = Field(default=1, ge=1, le=100)
    memory_mb: int = 4096
    """Memory of a serverless endpoint: 1024 to 6144 in steps of 1024."""
    max_concurrency: int = Field(default=5, ge=1, le=200)
    """Maximum concurrent invocations of a serverless endpoint."""
    max_concurrent: int = Field(default=4, ge=1, le=1000)
    """Maximum concurrent invocations on one instance of an asynchronous endpoint."""

    @field_validator("memory_mb")
    @classmethod
    def _memory_is_offered(cls, value: int) -> int:
        if value not in range(1024, 6145, 1024):
            raise ValueError("must be 1024, 2048, 3072, 4096, 5120 or 6144")
        return value

    @model_validator(mode="after")
    def _serverless_has_cores_only(self) -> Self:
        if self.kind == "serverless" and self.instance_count != 1:
            raise ValueError("instance_count is of instances; a serverless endpoint has max_concurrency")
        return self

    def hosting(self, network: NetworkSettings) -> Hosting:
        """These settings in the service's words.

        Raises:
            SettingError: The service can't combine them.
        """
        from medloop.errors import SettingError

        if self.kind == "serverless" and (network.subnets or network.isolation):
            raise SettingError("deploy.kind=serverless runs in no VPC and has no isolation; use realtime or async")
        return Hosting(
            kind=self.kind,
            instance_type=self.instance_type,
            instance_count=self.instance_count,
            memory_mb=self.memory_mb,
            max_concurrency=self.max_concurrency,
            max_concurrent=self.max_concurrent,
            vpc=network.vpc_config(),
            isolation=network.isolation,
            volume_key=network.volume_key(self.instance_type),
            output_key=network.kms_key,
        )


class ClassificationDeploySettings(DeploySettings):
    """Endpoint of a classifier."""

    endpoint_name: EndpointName = "medloop-classification"


class SegmentationDeploySettings(DeploySettings):
    """Endpoint of a segmentation model."""

    endpoint_name: EndpointName = "medloop-segmentation"


def deploy_steps(context: Context, settings: DeploySettings, model: Any, evaluate: ProcessingStep) -> list[Step]:
    """Make the SDK's steps Model, EndpointConfig and Endpoint; none if a person deploys.

    Args:
        context: The build.
        settings: How it is served.
        model: S3 URI of the candidate's model.tar.gz.
        evaluate: The step that knows the model's digest.
    """
    if settings.mode == "approval":
        return []
    from sagemaker.core.workflow.execution_variables import ExecutionVariables
    from sagemaker.core.workflow.functions import Join
    from sagemaker.mlops.workflow.endpoint_step import EndpointStep

    hosting = settings.hosting(context.settings.network)
    if settings.kind != "serverless":
        check_accelerator(context, CONTAINER, "deploy.instance_type", settings.instance_type)
    model_step = _model_step(context, hosting, model, evaluate)
    name = Join(on="-", values=[context.group, ExecutionVariables.PIPELINE_EXECUTION_ID])
    config = _config_step(context, hosting, model_step, name)
    session = context.session
    endpoint = EndpointStep(
        name="Endpoint",
        display_name="Endpoint",
        description="Create the endpoint, or update it in place: it responds during the update.",
        step_args=session.create_endpoint(
            endpoint_name=context.parameters["EndpointName"],
            config_name=config.properties.EndpointConfigName,
            tags=context.tags(),
        ),
    )
    return [model_step, config, endpoint]


def _model_step(context: Context, hosting: Hosting, model: Any, evaluate: ProcessingStep) -> Any:
    from sagemaker.mlops.workflow.model_step import ModelStep

    session = context.session
    session.init_model_step_arguments(SimpleNamespace(sagemaker_session=session))
    session.create_model(
        name=None,
        role=context.target.container_role(CONTAINER),
        container_defs={
            "Image": image_uri(context.target, CONTAINER),
            "ModelDataUrl": model,
            "Environment": model_environment(evaluate),
        },
        vpc_config=hosting.vpc,
        enable_network_isolation=hosting.isolation,
        tags=context.tags(),
    )
    arguments, session.context = session.context, None
    return ModelStep(
        name="Model",
        display_name="Model",
        description="The candidate with its serving container.",
        step_args=arguments,
        retry_policies=service_retries(),
    )


def _config_step(context: Context, hosting: Hosting, model_step: Any, name: Any) -> EndpointConfigStep:
    from sagemaker.mlops.workflow.endpoint_step import EndpointConfigStep

    folder = f"s3://{context.target.bucket}/endpoints/{context.pipeline}"
    return EndpointConfigStep(
        name="EndpointConfig",
        display_name="Endpoint configuration",
        description="On what the model is served.",
        step_args=context.session.create_endpoint_config(
            name=name,
            production_variants=[hosting.variant(model_step.properties.ModelName)],
            tags=context.tags(),
            kms_key=hosting.volume_key if hosting.kind != "serverless" else None,
            async_inference_config_dict=hosting.asynchronous(folder),
        ),
    )
