"""Train: one training job."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from medloop.cloud.layout import TENSORBOARD
from steps.common import Context, job_retries
from steps.split import SplitData
from steps.tracking import watch_events
from steps.trainer import AnyTrainSettings, channels, make_trainer

if TYPE_CHECKING:
    from sagemaker.mlops.workflow.steps import TrainingStep


def train_step(context: Context, settings: AnyTrainSettings, container: str, data: SplitData) -> TrainingStep:
    """Make the SDK's step.

    Args:
        context: The build.
        settings: The training job.
        container: Its folder below `containers/`.
        data: Where the channels come from.
    """
    from sagemaker.mlops.workflow.steps import TrainingStep

    from medloop.cloud.sessions import without_telemetry

    events = f"s3://{context.target.bucket}/{TENSORBOARD}/{context.pipeline}"
    trainer = watch_events(make_trainer(context, settings, container, data), events)
    with without_telemetry(context.session):
        arguments = trainer.train(input_data_config=channels(settings, data))
    return TrainingStep(
        name="Train",
        display_name="Train",
        description=f"Train the network in containers/{container}.",
        step_args=arguments,
        cache_config=context.cache(fixed_inputs=settings.weights is None),
        retry_policies=job_retries(),
    )


def artefact(train: TrainingStep) -> Any:
    """Return the trained model's model.tar.gz: a property, resolved when the step has run or is in the cache."""
    return train.properties.ModelArtifacts.S3ModelArtifacts
