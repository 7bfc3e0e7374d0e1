"""The pipeline parameters: what can be chosen at every start without a new definition.

InputData and DataVersion have no default on purpose: a start that forgot them would train on other data than it says,
or find results of other data in the step cache.
"""

from __future__ import annotations

from collections.abc import Sequence

from medloop.documents.split_rule import MEDIAN, Resampling
from medloop.settings import Facts, RunParameter
from steps.evaluate import EvaluateSettings
from steps.register import RegisterSettings
from steps.split import SplitSettings
from steps.tune import TuneSettings

_ALLOWED = "of letters, digits and _ . : / = + @ - alone"
"""Register writes both into the version's metadata, where the service takes nothing else, hours after the start."""

PARAMETERS = (
    RunParameter(
        "InputData",
        "String",
        f"the images' s3:// URI, 255 characters at most, {_ALLOWED}",
        pattern=r"s3://[\w.:/=+@-]{1,250}",
    ),
    RunParameter(
        "DataVersion",
        "String",
        f"a digest of the input's listing, 128 characters at most, {_ALLOWED}",
        pattern=r"[\w.:/=+@-]{1,128}",
    ),
    RunParameter("ModelName", "String", "the network", setting="train.hyperparameters.model_name"),
    RunParameter("Epochs", "Integer", "passes over the training data", setting="train.hyperparameters.epochs"),
    RunParameter("BatchSize", "Integer", "samples a batch", setting="train.hyperparameters.batch_size"),
    RunParameter("LearningRate", "Float", "the highest learning rate", setting="train.hyperparameters.learning_rate"),
    RunParameter("TrainInstanceType", "String", "the training job's instance type", setting="train.instance_type"),
    RunParameter("TrainInstanceCount", "Integer", "instances of the training job", setting="train.instance_count"),
    RunParameter("MinScore", "Float", "the score that a model must reach", setting="gate.min_score"),
    RunParameter("ApprovalStatus", "String", "a new version's status", setting="registration.approval_status"),
    RunParameter(
        "EndpointName",
        "String",
        "the endpoint that is to serve the model: letters, digits and inner hyphens",
        setting="deploy.endpoint_name",
        pattern=r"(?=.{1,63}$)[A-Za-z0-9](-*[A-Za-z0-9])*",
    ),
    RunParameter("TrackingUri", "String", "an MLflow store: local, an address or an ARN", setting="tracking.mlflow"),
)


def facts(
    split: SplitSettings,
    tune: TuneSettings,
    registration: RegisterSettings,
    evaluate: EvaluateSettings,
    labels: Sequence[str] | None = None,
    resampling: Resampling = MEDIAN,
) -> Facts:
    """Facts that follow from a pipeline's settings, for its start.

    Args:
        split: How patients are divided.
        tune: Whether and what is tuned; a tuned hyperparameter's pipeline parameter has no effect.
        registration: What the model card says.
        evaluate: What is measured, and the floors by class.
        labels: Segmentation: structure by label value.
        resampling: Segmentation: the voxel size of training.
    """
    keys = {parameter.name: (parameter.setting or "").rpartition(".")[2] for parameter in PARAMETERS}
    ignored = {name: f"tune.ranges.{key}" for name, key in keys.items() if tune.enabled and key in tune.ranges}
    if missing := registration.missing_fields:
        ignored["ApprovalStatus"] = f"registration.{missing[0]} (not stated)"
    needs_unit = evaluate.surface_tolerance_mm is not None and evaluate.length_unit is None
    rule = split if split.previous is None else None
    return Facts(
        ignored, labels, evaluate.floors, rule, split.on_invalid == "quarantine", missing, needs_unit, resampling
    )
