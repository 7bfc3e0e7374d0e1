"""Train: one training job of our own container."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydantic import Field

from medloop.bundle import load_container
from medloop.training.settings import ClassificationHyperparameters, Hyperparameters, SegmentationHyperparameters
from steps.common import Context, InstanceType, S3Uri, Settings, job_retries, output_uri

if TYPE_CHECKING:
    from sagemaker.mlops.workflow.steps import ProcessingStep, TrainingStep

CHANNELS = ("train", "val", "split")
NUMBERS = {"epochs": "Epochs", "batch_size": "BatchSize", "learning_rate": "LearningRate"}
"""Hyperparameters that are pipeline parameters of a numeric type."""


class TrainSettings(Settings):
    """The training job."""

    instance_type: InstanceType = "ml.g5.xlarge"
    instance_count: int = Field(default=1, ge=1, le=64)
    volume_gb: int = Field(default=100, ge=1, le=16384)
    max_runtime_minutes: int = Field(default=1440, ge=1, le=40320)
    weights: S3Uri | None = None
    """An earlier model (folder or model.tar.gz) to go on from."""


class ClassificationTrainSettings(TrainSettings):
    """Training of an image classifier."""

    hyperparameters: ClassificationHyperparameters = ClassificationHyperparameters()


class SegmentationTrainSettings(TrainSettings):
    """Training of a volume segmenter."""

    hyperparameters: SegmentationHyperparameters = SegmentationHyperparameters()


def train_step(
    context: Context,
    settings: ClassificationTrainSettings | SegmentationTrainSettings,
    container: str,
    split: ProcessingStep,
) -> TrainingStep:
    """The SDK's step.

    Args:
        context: The build.
        settings: The training job.
        container: Its folder below `containers/`.
        split: Where the channels come from.
    """
    from sagemaker.core.training.configs import InputData
    from sagemaker.mlops.workflow.steps import TrainingStep

    from medloop.cloud.sessions import without_telemetry

    channels = {name: output_uri(split, name) for name in CHANNELS}
    if settings.weights is not None:
        channels["weights"] = settings.weights
    trainer = _trainer(context, settings, container)
    with without_telemetry(context.session):
        arguments = trainer.train(
            input_data_config=[InputData(channel_name=name, data_source=uri) for name, uri in channels.items()]
        )
    return TrainingStep(
        name="Train",
        display_name="Train",
        description=f"Train the network in containers/{container}.",
        step_args=arguments,
        cache_config=context.cache(fixed_inputs=settings.weights is None),
        retry_policies=job_retries(),
    )


def artefact(train: TrainingStep) -> Any:
    """The trained model's model.tar.gz: a property, resolved when the step has run (or was found in the cache)."""
    return train.properties.ModelArtifacts.S3ModelArtifacts


def _trainer(
    context: Context, settings: ClassificationTrainSettings | SegmentationTrainSettings, container: str
) -> Any:
    """The SDK's ModelTrainer without source_code, which would put a time stamp into the definition."""
    from sagemaker.core.shapes import MetricDefinition, OutputDataConfig, StoppingCondition, Tag
    from sagemaker.core.training.configs import Compute
    from sagemaker.train import ModelTrainer

    target = context.target
    trainer = ModelTrainer(
        training_image=target.image(container),
        sagemaker_session=context.session,
        role=target.role_arn,
        base_job_name=f"medloop-{context.task}",
        compute=Compute(
            instance_type=context.parameters["TrainInstanceType"],
            instance_count=context.parameters["TrainInstanceCount"],
            volume_size_in_gb=settings.volume_gb,
        ),
        stopping_condition=StoppingCondition(max_runtime_in_seconds=60 * settings.max_runtime_minutes),
        output_data_config=OutputDataConfig(s3_output_path=context.destination("Train")),
        hyperparameters=_hyperparameters(context, settings.hyperparameters),
        environment={"MEDLOOP_CODE_DIGEST": target.code_digest(container)},
        tags=[Tag(key=tag["Key"], value=tag["Value"]) for tag in context.tags()],
    )
    metrics = sorted(load_container(container).metrics.items())
    return trainer.with_metric_definitions([MetricDefinition(name=name, regex=regex) for name, regex in metrics])


def _hyperparameters(context: Context, settings: Hyperparameters) -> dict[str, Any]:
    """Every hyperparameter as JSON text, but those that are pipeline parameters.

    A parameter's value arrives as bare text: a number is JSON as it stands, and the job takes text that is no JSON
    (the network's name) for itself.
    """
    wire: dict[str, Any] = dict(settings.to_wire())
    wire |= {name: context.parameters[parameter].to_string() for name, parameter in NUMBERS.items()}
    wire["model_name"] = context.parameters["ModelName"]
    return wire
