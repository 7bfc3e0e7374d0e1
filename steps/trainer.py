"""The SDK's ModelTrainer for one of our training containers, with every option: Train runs it, Tune varies it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from medloop.bundle import load_container
from medloop.cloud.images import image_uri
from medloop.container import paths
from medloop.documents.hyperparameters import (
    ClassificationHyperparameters,
    Hyperparameters,
    SegmentationHyperparameters,
)
from medloop.documents.networks import NETWORKS
from medloop.documents.quantities import LengthUnit
from steps import script_mode, tracking
from steps.base import InstanceType, S3Uri, Settings
from steps.common import Context
from steps.split import SplitData, SplitSettings

if TYPE_CHECKING:
    from sagemaker.core.shapes import StoppingCondition
    from sagemaker.core.training.configs import Compute, InputData
    from sagemaker.train import ModelTrainer

CHANNELS = ("train", "val", "split")
NUMBERS = {"epochs": "Epochs", "batch_size": "BatchSize", "learning_rate": "LearningRate"}
"""Hyperparameters that are pipeline parameters of a numeric type."""
MAX_KEEP_ALIVE_MINUTES = 360
CHECKPOINTS = "state"
"""The last element of a checkpoint's prefix."""


class TrainSettings(Settings):
    """The training job."""

    mode: Literal["container", "script"] = "container"
    """container: our own image; script: the same code in SageMaker's PyTorch image, requirements installed at start."""
    instance_type: InstanceType = "ml.g5.xlarge"
    instance_count: int = Field(default=1, ge=1, le=64)
    volume_gb: int = Field(default=100, ge=1, le=16384)
    max_runtime_minutes: int = Field(default=1440, ge=1, le=40320)
    spot: bool = False
    """Use Spot instances: discounted, and reclaimed by AWS at any time; training resumes from its last checkpoint."""
    max_wait_minutes: int | None = Field(default=None, ge=1, le=80640)
    """With spot: maximum of running and waiting together; None is twice max_runtime_minutes."""
    checkpoints: bool | None = None
    """Keep checkpoints in the artefact bucket while the job runs; an equal job resumes from them. None: Train does, but
    if `weights` or `split.previous` is set; trials only with spot, which always keeps them."""
    keep_alive_minutes: int = Field(default=0, ge=0, le=MAX_KEEP_ALIVE_MINUTES)
    """Keep the instances for the next job (a warm pool, billed until it ends)."""
    package_index: Annotated[str, Field(pattern=r"^https?://[^\s@]+$", max_length=500)] | None = None
    """Script mode: URL of the package index that requirements are installed from, such as a CodeArtifact repository's
    without token. A VPC without a way out reaches no public index; None: pip's default."""
    pip_cache: bool = False
    """Script mode in a warm pool: keep what pip downloaded on the pool's volume."""
    weights: S3Uri | None = None
    """S3 URI of an earlier model (folder or model.tar.gz) to start from."""
    hyperparameters: Hyperparameters = Hyperparameters()

    @model_validator(mode="after")
    def _goes_together(self) -> Self:
        if self.spot and self.keep_alive_minutes:
            raise ValueError("spot and keep_alive_minutes exclude each other: Spot instances make no warm pool")
        if self.instance_count > 1 and self.hyperparameters.strategy == "single":
            raise ValueError(
                f"instance_count={self.instance_count} needs hyperparameters.strategy=ddp or fsdp: with single, one "
                "instance trains and the others idle"
            )
        if self.spot and self.mode == "script":
            raise ValueError(
                "spot needs mode=container: script mode's shell doesn't forward the signal of a reclaimed instance"
            )
        if self.max_wait_minutes is not None and not self.spot:
            raise ValueError("max_wait_minutes is for spot; set spot=true or leave it out")
        if self.max_wait_minutes is not None and self.max_wait_minutes < self.max_runtime_minutes:
            raise ValueError("max_wait_minutes counts the running too; it must be at least max_runtime_minutes")
        if self.package_index is not None and self.mode != "script":
            raise ValueError("package_index is for mode=script; images have their packages")
        if self.pip_cache and (self.mode != "script" or not self.keep_alive_minutes):
            raise ValueError(
                "pip_cache needs mode=script and keep_alive_minutes: the cache is on the warm pool's volume"
            )
        return self


class ClassificationTrainSettings(TrainSettings):
    """Training of an image classifier."""

    hyperparameters: ClassificationHyperparameters = ClassificationHyperparameters()


class SegmentationTrainSettings(TrainSettings):
    """Training of a volume segmenter."""

    hyperparameters: SegmentationHyperparameters = SegmentationHyperparameters()

    def with_length_unit(self, unit: LengthUnit | None) -> Self:
        """The settings with the unit of lengths that evaluation is set to; the model's endpoint uses it too."""
        if unit is None:
            return self
        return self.model_copy(
            update={"hyperparameters": self.hyperparameters.model_copy(update={"length_unit": unit})}
        )


AnyTrainSettings = ClassificationTrainSettings | SegmentationTrainSettings


def smoke_sizes(settings: Any) -> dict[str, Any]:
    """Return the settings that make a pipeline's network small, for smoke=true."""
    return {"train": {"hyperparameters": NETWORKS[settings.train.hyperparameters.model_name].smoke}}


def make_trainer(
    context: Context, settings: AnyTrainSettings, container: str, data: SplitData, *, step: str = "Train"
) -> ModelTrainer:
    """Return the trainer with all options of the settings, under the build's pipeline session.

    Args:
        context: The build; its network settings hold for the job.
        settings: The training job.
        container: Its folder below `containers/`.
        data: What it trains on; names the path of checkpoints.
        step: The step that runs it: names the paths of outputs and checkpoints.
    """
    from sagemaker.core.shapes import MetricDefinition, OutputDataConfig, Tag
    from sagemaker.train import ModelTrainer

    target, network = context.target, context.settings.network
    kind, code = ModelTrainer, {"training_image": image_uri(target, container)}
    if settings.mode == "script":
        kind = script_mode.trainer_type(context)
        code = {
            "training_image": target.base_image(container),
            "source_code": script_mode.source_code(context, container),
        }
    trainer = kind(
        **code,
        sagemaker_session=context.session,
        role=target.container_role(container),
        base_job_name=f"medloop-{context.task}",
        compute=_compute(context, settings),
        networking=network.of_training(),
        stopping_condition=_stopping_condition(settings),
        checkpoint_config=_checkpoint_config(context, settings, container, data, step),
        output_data_config=OutputDataConfig(
            s3_output_path=context.destination(step),
            **({"kms_key_id": network.kms_key} if network.kms_key else {}),
        ),
        hyperparameters=hyperparameters(context, settings.hyperparameters),
        environment=environment(context, settings, container),
        tags=[Tag(key=tag["Key"], value=tag["Value"]) for tag in context.tags()],
    )
    metrics = sorted(load_container(container).metrics.items())
    return trainer.with_metric_definitions([MetricDefinition(name=name, regex=regex) for name, regex in metrics])


def channels(settings: TrainSettings, data: SplitData) -> list[InputData]:
    """Return the job's input channels, as the SDK's objects.

    Args:
        settings: The training job.
        data: Where they come from.
    """
    from sagemaker.core.shapes import S3DataSource
    from sagemaker.core.training.configs import InputData

    sources: dict[str, Any] = {}
    for name in CHANNELS:
        uri, data_type = data.source(name)
        manifest = {"s3_data_type": data_type, "s3_uri": uri, "s3_data_distribution_type": "FullyReplicated"}
        sources[name] = uri if data_type == "S3Prefix" else S3DataSource(**manifest)
    if settings.weights is not None:
        sources["weights"] = settings.weights
    return [InputData(channel_name=name, data_source=source) for name, source in sources.items()]


def hyperparameters(context: Context, settings: Hyperparameters) -> dict[str, Any]:
    """Return every hyperparameter as JSON text, except those that are pipeline parameters.

    A parameter's value arrives as plain text: a number is valid JSON, and the job takes text that is no JSON
    (the network's name) for itself.
    """
    wire: dict[str, Any] = dict(settings.to_wire())
    wire |= {name: context.parameters[parameter].to_string() for name, parameter in NUMBERS.items()}
    wire["model_name"] = context.parameters["ModelName"]
    return wire


def environment(context: Context, settings: TrainSettings, container: str) -> dict[str, Any]:
    """Return the training job's environment."""
    variables: dict[str, Any] = {"MEDLOOP_CODE_DIGEST": context.target.code_digest(container)}
    trackers, uri = context.settings.tracking, context.parameters["TrackingUri"]
    variables |= tracking.environment(trackers, uri, context.group, local=context.target.name == "local")
    if settings.mode == "script":
        variables |= script_mode.environment()
    if settings.package_index is not None:
        variables["PIP_INDEX_URL"] = settings.package_index
    if settings.pip_cache:
        variables["PIP_CACHE_DIR"] = paths.WARM_POOL_PIP_CACHE
    return variables


def _compute(context: Context, settings: TrainSettings) -> Compute:
    from sagemaker.core.training.configs import Compute

    options: dict[str, Any] = {
        "volume_kms_key_id": context.settings.network.volume_key(settings.instance_type),
        "keep_alive_period_in_seconds": 60 * settings.keep_alive_minutes or None,
        "enable_managed_spot_training": settings.spot or None,
    }
    return Compute(
        instance_type=context.parameters["TrainInstanceType"],
        instance_count=context.parameters["TrainInstanceCount"],
        volume_size_in_gb=settings.volume_gb,
        **{name: value for name, value in options.items() if value is not None},
    )


def _stopping_condition(settings: TrainSettings) -> StoppingCondition:
    from sagemaker.core.shapes import StoppingCondition

    running = 60 * settings.max_runtime_minutes
    if not settings.spot:
        return StoppingCondition(max_runtime_in_seconds=running)
    waiting = 2 * running if settings.max_wait_minutes is None else 60 * settings.max_wait_minutes
    return StoppingCondition(max_runtime_in_seconds=running, max_wait_time_in_seconds=waiting)


def _has_checkpoints(settings: AnyTrainSettings, split: SplitSettings, step: str) -> bool:
    """True if the job's checkpoints are kept beyond it.

    A tuning job's trials get new names at each run, so only Spot training, within one job, resumes from checkpoints.
    """
    if settings.spot or settings.checkpoints is not None:
        return settings.spot or bool(settings.checkpoints)
    # The path is made of names; a job refuses checkpoints of other weights or of another split in it.
    return step == "Train" and settings.weights is None and split.previous is None


def _checkpoint_config(context: Context, settings: AnyTrainSettings, container: str, data: SplitData, step: str) -> Any:
    """Return the path of checkpoints: the same for jobs that would train the same model, another for all others.

    After a job was stopped or lost its instance, an equal job resumes from its checkpoints. The execution's id can't be
    in it: the step cache compares this path. It depends on all that shapes the model: code, settings, data, parameters.
    """
    from sagemaker.core.shapes import CheckpointConfig
    from sagemaker.core.workflow.functions import Join

    if not _has_checkpoints(settings, data.settings, step):
        return None
    shaping: Mapping[str, Any] = {
        "code": [context.target.code_digest(name) for name in ("split", container)],
        "settings": [part.model_dump(mode="json") if part else None for part in (data.settings, data.dataset)],
        "train": [settings.hyperparameters.to_wire(), settings.weights],
    }
    digest = hashlib.sha256(json.dumps(shaping, sort_keys=True).encode()).hexdigest()[:20]
    root = f"s3://{context.target.bucket}/checkpoints/{context.pipeline}/{step}/{digest}"
    numbers = [context.parameters[name].to_string() for name in NUMBERS.values()]
    # S3 lists by prefix, and .../0.001 is one of .../0.0015: the last element is the same in all, and ends the number.
    values = [root, context.parameters["DataVersion"], context.parameters["ModelName"], *numbers, CHECKPOINTS]
    return CheckpointConfig(s3_uri=Join(on="/", values=values), local_path=paths.CHECKPOINTS)
