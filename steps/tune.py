"""Tune: a hyperparameter tuning job instead of Train; its best model is evaluated.

The SDK's tuner drops the volume's KMS key, network isolation, the encryption between instances and the warm pool, and
hides errors of the VPC. So the definition of the tuned jobs is taken from the request that Train would make, member by
member, as far as the service's model has them.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from medloop.bundle import load_container
from medloop.definition.read import is_expression
from medloop.definition.requests import service_model
from medloop.documents.file_names import ARCHIVE_FILE
from medloop.errors import SettingError
from steps.base import Settings
from steps.common import Context, job_retries
from steps.ranges import Choices, Interval, check_ranges, sdk_ranges
from steps.split import SplitData
from steps.train import artefact, train_step
from steps.trainer import AnyTrainSettings, channels, make_trainer

if TYPE_CHECKING:
    from sagemaker.core.training.configs import InputData
    from sagemaker.mlops.workflow.steps import TrainingStep, TuningStep
    from sagemaker.train import ModelTrainer

OBJECTIVES = {"classification": "val_auroc", "segmentation": "val_dice"}
MAX_JOBS = 750
MAX_PARALLEL = 100
"""https://docs.aws.amazon.com/sagemaker/latest/dg/automatic-model-tuning-limits.html"""
MAX_NAME = 32
_ARN = re.compile(r"arn:aws[a-z-]*:sagemaker:[a-z0-9-]+:\d{12}:hyper-parameter-tuning-job/")


class WarmStartSettings(Settings):
    """Earlier tuning jobs whose trials the search starts from."""

    jobs: list[str] = Field(min_length=1, max_length=5)
    """Names or ARNs."""
    type: Literal["IdenticalDataAndAlgorithm", "TransferLearning"] = "IdenticalDataAndAlgorithm"
    """The same data and code as theirs, or others."""

    @field_validator("jobs")
    @classmethod
    def _are_names(cls, jobs: list[str]) -> list[str]:
        names = [_ARN.sub("", job) for job in jobs]
        for name in names:
            if len(name) > MAX_NAME or not re.fullmatch(r"[a-zA-Z0-9](-*[a-zA-Z0-9])*", name):
                raise ValueError(f"{name!r} is no tuning job's name (1 to {MAX_NAME} letters, digits, inner hyphens)")
        return names


class TuneSettings(Settings):
    """The tuning job. Its training jobs use the settings of `train`, except for the tuned hyperparameters."""

    enabled: bool = False
    """Run a tuning job instead of Train."""
    strategy: Literal["Bayesian", "Random", "Grid", "Hyperband"] = "Bayesian"
    max_jobs: int | None = Field(default=None, ge=1, le=MAX_JOBS)
    """None: 20; for a Grid, the number of combinations."""
    max_parallel_jobs: int = Field(default=2, ge=1, le=MAX_PARALLEL)
    max_runtime_minutes: int | None = Field(default=None, ge=2, le=262_800)
    """Maximum runtime of the tuning job; None: only the number of jobs limits it."""
    early_stopping: Literal["Off", "Auto"] = "Off"
    """Auto stops a training job if its objective is worse than the median of the earlier ones."""
    metric: str | None = None
    """The objective; None is the task's main score on the val split."""
    maximise: bool | None = None
    """None: metrics whose name ends in `loss` are minimised, all others maximised."""
    min_epochs: int = Field(default=1, ge=1)
    """Hyperband: minimum epochs of a training job before it may be stopped."""
    ranges: dict[str, Annotated[Interval | Choices, Field(union_mode="left_to_right")]] = Field(
        default={"learning_rate": Interval(min=1e-5, max=1e-2, scaling="Logarithmic")}, min_length=1, max_length=30
    )
    """By hyperparameter: min, max and scaling of a number, or the values of anything."""
    warm_start: WarmStartSettings | None = None
    random_seed: int | None = Field(default=None, ge=1, lt=2**31)
    """From 1: the SDK takes 0 for none. None: the service's own; no definition with the member could be found."""

    @field_validator("early_stopping", mode="before")
    @classmethod
    def _off_is_no_boolean(cls, value: Any) -> Any:
        """YAML reads `Off` as false."""
        return "Off" if value is False else value

    @model_validator(mode="after")
    def _goes_together(self) -> Self:
        if self.max_jobs is not None and self.max_parallel_jobs > self.max_jobs:
            raise ValueError("max_parallel_jobs must not be greater than max_jobs")
        if self.strategy == "Hyperband" and self.early_stopping != "Off":
            raise ValueError("Hyperband stops training jobs by itself; leave early_stopping Off")
        if self.strategy != "Hyperband" and self.min_epochs != 1:
            raise ValueError("min_epochs is for strategy=Hyperband")
        if self.strategy == "Grid":
            self._check_grid()
        return self

    def _check_grid(self) -> None:
        intervals = [name for name, item in self.ranges.items() if isinstance(item, Interval)]
        if intervals:
            raise ValueError(f"Grid takes values only, and ranges.{intervals[0]} has a min and a max; list its values")
        size = self.num_jobs
        if self.max_jobs not in (None, size):
            raise ValueError(f"max_jobs must be absent or the grid's size, {size}")
        if size > MAX_JOBS or self.max_parallel_jobs > size:
            raise ValueError(f"the grid has {size} jobs; give up to {MAX_JOBS}, and no more in parallel than in all")
        if self.warm_start is not None:
            raise ValueError("a grid learns nothing from earlier jobs; leave warm_start out")

    @property
    def num_jobs(self) -> int:
        """The largest number of training jobs that the tuning starts."""
        if self.strategy != "Grid":
            return 20 if self.max_jobs is None else self.max_jobs
        size = 1
        for item in self.ranges.values():
            size *= len(item.values) if isinstance(item, Choices) else 1
        return size


def tune_step(
    context: Context, settings: TuneSettings, train: AnyTrainSettings, container: str, data: SplitData
) -> TuningStep:
    """Make the SDK's step.

    Args:
        context: The build.
        settings: The tuning job.
        train: Its training jobs.
        container: Their folder below `containers/`.
        data: Where their channels come from.

    Raises:
        SettingError: What is tuned can't be.
    """
    from sagemaker.mlops.workflow.steps import TuningStep

    from medloop.cloud.sessions import without_telemetry

    _check(settings, train, container, _objective(context, settings))
    trainer = make_trainer(context, train, container, data, step="Tune")
    inputs = channels(train, data)
    with without_telemetry(context.session):
        definition = job_definition(context, settings, trainer, inputs)
        ranges = sdk_ranges(settings.ranges, type(train.hyperparameters))
        tuner = _tuner(context, settings, trainer, definition, ranges)
        arguments = tuner.tune(inputs=inputs, wait=False)
    return TuningStep(
        name="Tune",
        display_name="Tune",
        description=f"Tune {', '.join(sorted(settings.ranges))} of the network in containers/{container}.",
        step_args=arguments,
        # The step cache doesn't compare WarmStartConfig.
        cache_config=context.cache(fixed_inputs=train.weights is None and settings.warm_start is None),
        retry_policies=job_retries(tuning=True),
    )


def train_or_tune(
    context: Context, train: AnyTrainSettings, tune: TuneSettings, container: str, data: SplitData
) -> tuple[TrainingStep | TuningStep, Any]:
    """Make the step that trains the model, Train or Tune, and return it with the model's model.tar.gz.

    Args:
        context: The build.
        train: The training job, or what the tuning job varies.
        tune: Whether and how to tune.
        container: The training job's folder below `containers/`.
        data: Where its channels come from.
    """
    if not tune.enabled:
        step = train_step(context, train, container, data)
        return step, artefact(step)
    tuning = tune_step(context, tune, train, container, data)
    return tuning, best_artefact(tuning)


def best_artefact(tune: TuningStep) -> Any:
    """Return the best model's model.tar.gz: resolved when the step has run or is in the cache.

    The tuning job's output path, not this execution's: a cached step's models are in the earlier execution's path.
    """
    from sagemaker.core.workflow.functions import Join

    root = tune.properties.TrainingJobDefinition.OutputDataConfig.S3OutputPath
    return Join(on="/", values=[root, tune.properties.BestTrainingJob.TrainingJobName, "output", ARCHIVE_FILE])


def _objective(context: Context, settings: TuneSettings) -> str:
    return settings.metric or OBJECTIVES[context.task]


def _check(settings: TuneSettings, train: AnyTrainSettings, container: str, metric: str) -> None:
    known = load_container(container).metrics
    if metric not in known:
        raise SettingError(
            f"tune.metric={metric}: containers/{container} reports no such metric; known: {', '.join(known)}"
        )
    if train.mode == "script":
        raise SettingError(
            "tune.enabled=true: needs train.mode=container; a tuning job has no entry point for script mode"
        )
    if settings.strategy == "Hyperband":
        if "epochs" in settings.ranges:
            raise SettingError("tune.ranges.epochs: Hyperband takes the number of epochs for its budget; don't tune it")
        if train.hyperparameters.val_interval != 1:
            raise SettingError(
                "train.hyperparameters.val_interval: Hyperband counts the objective's values; set it to 1"
            )
        if settings.min_epochs > train.hyperparameters.epochs:
            raise SettingError(f"tune.min_epochs={settings.min_epochs}: is more than train.hyperparameters.epochs")
    check_ranges(settings.ranges, train.hyperparameters)


def _tuner(
    context: Context,
    settings: TuneSettings,
    trainer: ModelTrainer,
    definition: dict[str, Any],
    ranges: dict[str, Any],
) -> Any:
    """Make the SDK's tuner; `definition` defines its training jobs."""
    from sagemaker.train.tuner import HyperparameterTuner

    class Tuner(HyperparameterTuner):  # type: ignore[misc]
        """Makes the whole request but the part that the SDK would leave half of out."""

        def _build_training_job_definition(self, inputs: Any) -> dict[str, Any]:
            return definition

    metric = _objective(context, settings)
    maximise = not metric.endswith("loss") if settings.maximise is None else settings.maximise
    return Tuner(
        model_trainer=trainer,
        objective_metric_name=metric,
        objective_type="Maximize" if maximise else "Minimize",
        hyperparameter_ranges=ranges,
        strategy=settings.strategy,
        max_jobs=settings.num_jobs,
        max_parallel_jobs=settings.max_parallel_jobs,
        early_stopping_type=settings.early_stopping,
        random_seed=settings.random_seed,
        tags=context.tags(),
        **_options(settings),
    )


def _options(settings: TuneSettings) -> dict[str, Any]:
    """Return the tuner's arguments that only some tunings have."""
    from sagemaker.core.shapes import (
        HyperbandStrategyConfig,
        HyperParameterTuningJobStrategyConfig,
        HyperParameterTuningJobWarmStartConfig,
        ParentHyperParameterTuningJob,
    )

    options: dict[str, Any] = {}
    if settings.strategy == "Hyperband":
        hyperband = HyperbandStrategyConfig(min_resource=settings.min_epochs)
        options["strategy_config"] = HyperParameterTuningJobStrategyConfig(hyperband_strategy_config=hyperband)
    if settings.warm_start is not None:
        parents = [ParentHyperParameterTuningJob(hyper_parameter_tuning_job_name=j) for j in settings.warm_start.jobs]
        options["warm_start_config"] = HyperParameterTuningJobWarmStartConfig(
            parent_hyper_parameter_tuning_jobs=parents, warm_start_type=settings.warm_start.type
        )
    if settings.max_runtime_minutes is not None:
        options["max_runtime_in_seconds"] = 60 * settings.max_runtime_minutes
    return options


def job_definition(
    context: Context, settings: TuneSettings, trainer: ModelTrainer, inputs: list[InputData]
) -> dict[str, Any]:
    """TrainingJobDefinition: the request of a training job, without the hyperparameters that are tuned."""
    from sagemaker.core.workflow.utilities import execute_job_functions

    execute_job_functions(trainer.train(input_data_config=inputs))
    request = dict(context.session.context.args)
    static = {name: value for name, value in request["HyperParameters"].items() if name not in settings.ranges}
    shape = service_model().shape_for("HyperParameterTrainingJobDefinition")
    return {**_fitting(shape, request), "StaticHyperParameters": static}


def _fitting(shape: Any, value: Any) -> Any:
    """Return a value without the members that the service's model doesn't have there."""
    if shape.type_name != "structure" or not isinstance(value, dict) or is_expression(value):
        return value
    return {name: _fitting(shape.members[name], member) for name, member in value.items() if name in shape.members}
