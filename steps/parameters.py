"""The pipeline parameters: what can be chosen at every start without a new definition.

InputData and DataVersion have no default on purpose: a start that forgot them would train on other data than it says,
or find results of other data in the step cache.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from medloop.documents.card import unstated
from medloop.settings import RunParameter

if TYPE_CHECKING:
    from collections.abc import Mapping

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
    RunParameter("TrainInstanceType", "String", "the training job's machine", setting="train.instance_type"),
    RunParameter("TrainInstanceCount", "Integer", "machines of the training job", setting="train.instance_count"),
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


def tuned(settings: Any) -> Mapping[str, str]:
    """The parameters whose hyperparameters a tuning job varies, each with the range that decides in its place."""
    if not settings.tune.enabled:
        return {}
    names = {parameter.name: (parameter.setting or "").rpartition(".")[2] for parameter in PARAMETERS}
    return {name: f"tune.ranges.{key}" for name, key in names.items() if key in settings.tune.ranges}


def overruled(settings: Any) -> Mapping[str, str]:
    """The parameters without effect under these settings, each with what decides in its place."""
    missing = unstated(settings.registration)
    return {**tuned(settings), **({"ApprovalStatus": f"registration.{missing[0]} (not stated)"} if missing else {})}
