"""Train: one training job."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from steps.common import Context, job_retries
from steps.tracking import watch_events
from steps.trainer import AnyTrainSettings, channels, make_trainer

if TYPE_CHECKING:
    from sagemaker.mlops.workflow.steps import ProcessingStep, TrainingStep


def train_step(context: Context, settings: AnyTrainSettings, container: str, split: ProcessingStep) -> TrainingStep:
    """The SDK's step.

    Args:
        context: The build.
        settings: The training job.
        container: Its folder below `containers/`.
        split: Where the channels come from.
    """
    from sagemaker.mlops.workflow.steps import TrainingStep

    from medloop.cloud.sessions import without_telemetry

    trainer = watch_events(context, make_trainer(context, settings, container))
    with without_telemetry(context.session):
        arguments = trainer.train(input_data_config=channels(context, settings, split))
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
