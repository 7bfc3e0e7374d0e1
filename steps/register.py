"""Register: a new version in the model group, with its evidence and its model card."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field

from medloop.cloud.commit import source_commit
from medloop.cloud.hosting import has_gpu
from medloop.cloud.images import image_uri
from medloop.documents.artefact import IMAGE, MODEL_DIGEST, MODEL_DIGEST_VARIABLE
from medloop.documents.card import CARD_FIX, NOT_FOR_APPROVAL, setting_names
from medloop.documents.file_names import EVALUATION_FILE
from medloop.documents.metadata import PIPELINE
from medloop.documents.registration import METADATA
from medloop.documents.split import Task
from medloop.errors import SettingError
from steps.card import CardSettings, model_card
from steps.common import Context, InstanceType, check_accelerator, output_uri, service_retries
from steps.evaluate import OUTPUT, registration_file

if TYPE_CHECKING:
    from sagemaker.mlops.workflow.model_step import ModelStep
    from sagemaker.mlops.workflow.steps import ProcessingStep

CONTAINER = "serve"
TASKS = {"classification": "IMAGE_CLASSIFICATION", "segmentation": "IMAGE_SEGMENTATION"}
"""The service's own words for ours."""
Instances = Annotated[tuple[InstanceType, ...], Field(min_length=1)]


class RegisterSettings(CardSettings):
    """Registration of a version and its model card."""

    approval_status: Literal["PendingManualApproval", "Approved", "Rejected"] = "PendingManualApproval"
    """Status of a new version; always Rejected if one of the five required fields is empty."""
    inference_instances: Instances = ("ml.m5.xlarge", "ml.c5.2xlarge")
    """Instance types that may serve the version; GPUs if containers/serve is built for them."""
    transform_instances: Instances = ("ml.m5.xlarge", "ml.c5.2xlarge")
    """Instance types of its batch transforms; no GPUs, whose newest driver there is 535 and runs no CUDA 13."""


def register_step(
    context: Context,
    settings: RegisterSettings,
    split: ProcessingStep,
    model: Any,
    evaluate: ProcessingStep,
) -> ModelStep:
    """Make the SDK's step: a model package in the project's group; `model` is the candidate's model.tar.gz.

    Raises:
        SettingError: A new version is set to Approved, and a required model card field is empty; or it has GPUs.
    """
    from sagemaker.core.model_registry import create_model_package_from_containers
    from sagemaker.mlops.workflow.model_step import ModelStep

    _check_instances(context, settings)
    session = context.session
    session.init_model_step_arguments(SimpleNamespace(sagemaker_session=session))
    create_model_package_from_containers(
        session,
        containers=[
            {
                "Image": image_uri(context.target, CONTAINER),
                "ModelDataUrl": model,
                "Environment": model_environment(evaluate),
            }
        ],
        content_types=content_types(context.task),
        response_types=_response_types(context.task),
        inference_instances=list(settings.inference_instances),
        transform_instances=list(settings.transform_instances),
        model_package_group_name=context.group,
        model_metrics=_model_metrics(evaluate),
        customer_metadata_properties=_metadata(context, split, evaluate) | _not_for_approval(settings),
        approval_status=_approval(context, settings),
        domain="COMPUTER_VISION",
        task=TASKS[context.task],
        model_card=model_card(
            context,
            settings,
            lambda name: _registered(evaluate, name),
            split=split,
            evaluate=evaluate,
            model=model,
        ),
    )
    arguments, session.context = session.context, None
    return ModelStep(
        name="Register",
        display_name="Register",
        description="Add the model to its group, with its evidence, to wait for approval.",
        step_args=arguments,
        retry_policies=service_retries(),
    )


def content_types(task: Task) -> list[str]:
    """List the media types that a model's endpoint takes."""
    from medloop.imaging.formats import FORMATS  # imports the readers: half a second that settings don't need

    return [name for form in FORMATS[task] for name in form.media_types]


def _check_instances(context: Context, settings: RegisterSettings) -> None:
    for instance_type in settings.inference_instances:
        check_accelerator(context, CONTAINER, "registration.inference_instances", instance_type)
    for instance_type in settings.transform_instances:
        if context.target.name == "aws" and has_gpu(instance_type):
            raise SettingError(
                f"registration.transform_instances: {instance_type} has driver 535 at most in batch transforms, and "
                "CUDA 13 needs 580; name CPU instance types"
            )


def _response_types(task: Task) -> list[str]:
    from medloop.imaging.formats import VOLUME_FORMATS

    return [*([VOLUME_FORMATS[0].media_types[0]] if task == "segmentation" else []), "application/json"]


def _approval(context: Context, settings: RegisterSettings) -> Any:
    """Return the initial status of a version: the parameter's, or Rejected if a required field is missing.

    CreateModelPackage takes no ApprovalDescription, so the reason stands in the metadata.
    """
    missing = settings.missing_fields
    if not missing:
        return context.parameters["ApprovalStatus"]
    if settings.approval_status == "Approved":
        raise SettingError(f"registration.approval_status=Approved: {setting_names(missing)} not stated; {CARD_FIX}")
    return "Rejected"


def _not_for_approval(settings: RegisterSettings) -> dict[str, str]:
    missing = settings.missing_fields
    return {NOT_FOR_APPROVAL: " ".join(missing)} if missing else {}


def _model_metrics(evaluate: ProcessingStep) -> dict[str, Any]:
    """evaluation.json as the version's model quality, which Studio draws, and its digest."""
    from sagemaker.core.workflow.functions import Join

    uri = Join(on="/", values=[output_uri(evaluate, OUTPUT), EVALUATION_FILE])
    digest = _registered(evaluate, "evaluation_digest")
    return {"ModelQuality": {"Statistics": {"ContentType": "application/json", "S3Uri": uri, "ContentDigest": digest}}}


def _metadata(context: Context, split: ProcessingStep, evaluate: ProcessingStep) -> dict[str, Any]:
    """Metadata that lead from the version back to its data, code and evidence; values of 256 characters at most."""
    from sagemaker.core.workflow.execution_variables import ExecutionVariables

    return {
        "data": context.parameters["InputData"],
        "data_version": context.parameters["DataVersion"],
        "git_commit": source_commit(type(context.settings).__module__),
        "split": output_uri(split, "split"),
        "evaluation": output_uri(evaluate, OUTPUT),
        "execution": ExecutionVariables.PIPELINE_EXECUTION_ARN,
        "endpoint": context.parameters["EndpointName"],
        PIPELINE: context.pipeline,
        IMAGE: image_uri(context.target, CONTAINER),
        **{name: _registered(evaluate, name) for name in METADATA},
    }


def model_environment(evaluate: ProcessingStep) -> dict[str, Any]:
    """The variable by which each container of the model checks its files, also those that start later."""
    return {MODEL_DIGEST_VARIABLE: _registered(evaluate, MODEL_DIGEST)}


def _registered(evaluate: ProcessingStep, name: str) -> Any:
    """Return a text of registration.json."""
    from sagemaker.core.workflow.functions import JsonGet

    return JsonGet(step_name=evaluate.name, property_file=registration_file(), json_path=name)
