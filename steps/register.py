"""Register: a new version in the model group, with its evidence."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Literal

from steps.common import Context, InstanceType, Settings, output_uri, service_retries
from steps.evaluate import OUTPUT

if TYPE_CHECKING:
    from sagemaker.mlops.workflow.model_step import ModelStep
    from sagemaker.mlops.workflow.steps import ProcessingStep

CONTENT_TYPES = {"classification": ["image/png", "image/jpeg"], "segmentation": ["application/x-nifti"]}
RESPONSE_TYPES = {"classification": ["application/json"], "segmentation": ["application/x-nifti", "application/json"]}
TASKS = {"classification": "IMAGE_CLASSIFICATION", "segmentation": "IMAGE_SEGMENTATION"}
"""The service's own words for ours."""


class RegisterSettings(Settings):
    """How a version enters the group."""

    approval_status: Literal["PendingManualApproval", "Approved", "Rejected"] = "PendingManualApproval"
    inference_instances: tuple[InstanceType, ...] = ("ml.m5.xlarge", "ml.g5.xlarge")
    """Machines that the version may be served on."""


def register_step(
    context: Context,
    settings: RegisterSettings,
    container: str,
    split: ProcessingStep,
    model: Any,
    evaluate: ProcessingStep,
) -> ModelStep:
    """The SDK's step: a model package in the group `medloop-<task>`; `model` is the candidate's model.tar.gz."""
    from sagemaker.core.model_registry import create_model_package_from_containers
    from sagemaker.mlops.workflow.model_step import ModelStep

    session = context.session
    session.init_model_step_arguments(SimpleNamespace(sagemaker_session=session))
    create_model_package_from_containers(
        session,
        containers=[
            {
                "Image": context.target.image(container),
                "ModelDataUrl": model,
            }
        ],
        content_types=CONTENT_TYPES[context.task],
        response_types=RESPONSE_TYPES[context.task],
        inference_instances=list(settings.inference_instances),
        model_package_group_name=f"medloop-{context.task}",
        model_metrics=_model_metrics(evaluate),
        customer_metadata_properties=_metadata(context, container, split, evaluate),
        approval_status=context.parameters["ApprovalStatus"],
        domain="COMPUTER_VISION",
        task=TASKS[context.task],
    )
    arguments, session.context = session.context, None
    return ModelStep(
        name="Register",
        display_name="Register",
        description="Add the model to its group, with its evidence, to wait for approval.",
        step_args=arguments,
        retry_policies=service_retries(),
    )


def _model_metrics(evaluate: ProcessingStep) -> dict[str, Any]:
    """evaluation.json as the version's model quality, which Studio draws."""
    from sagemaker.core.workflow.functions import Join

    uri = Join(on="/", values=[output_uri(evaluate, OUTPUT), "evaluation.json"])
    return {"ModelQuality": {"Statistics": {"ContentType": "application/json", "S3Uri": uri}}}


def _metadata(context: Context, container: str, split: ProcessingStep, evaluate: ProcessingStep) -> dict[str, Any]:
    """What leads from the version back to its data, code and evidence; values of 256 characters at most."""
    from sagemaker.core.workflow.execution_variables import ExecutionVariables

    return {
        "data": context.parameters["InputData"],
        "data_version": context.parameters["DataVersion"],
        "code_digest": context.target.code_digest(container),
        "split": output_uri(split, "split"),
        "evaluation": output_uri(evaluate, OUTPUT),
        "execution": ExecutionVariables.PIPELINE_EXECUTION_ARN,
    }
