"""Fine-tuning: start from the weights of an earlier model, given as the channel `weights`."""

from __future__ import annotations

import tempfile
from pathlib import Path

from torch import nn

from medloop.container.training import TrainingJob
from medloop.documents.model import ImagePreprocessing, ModelRecord, Network
from medloop.documents.networks import NETWORKS
from medloop.errors import DataError
from medloop.imaging.model_files import put_weights, read_weights, unpack_model

CHANNEL = "weights"
_FREE_ARGUMENTS = {"classes", "dropout"}
"""Arguments of a network that may differ: the head is replaced, and dropout has no weights."""


def load_pretrained(job: TrainingJob, model: nn.Module, network: Network, classes: list[str]) -> ModelRecord | None:
    """Load the channel `weights`, if the job has it, into a new model.

    The head (the layer with one output per class) keeps its random weights if the classes differ, which is logged.

    Args:
        job: Its channel contains model.json and model.safetensors, or model.tar.gz.
        model: The result of `networks.build(network)`.
        network: The network of the hyperparameters.
        classes: Names by output index.

    Returns:
        model.json of the weights; None without the channel.

    Raises:
        DataError: The channel contains no usable model, or one of another architecture.
    """
    if CHANNEL not in job.channels:
        return None
    with tempfile.TemporaryDirectory(prefix="medloop-weights-") as scratch:
        folder = unpack_model(job.channel(CHANNEL), Path(scratch))
        record = ModelRecord.read(folder)
        _require_same_architecture(record.network, network)
        weights = read_weights(folder)
        same = record.classes == classes
        put_weights(model, weights, fresh=None if same else NETWORKS[network.name].head)
    head = "" if same else f"; new head, for {', '.join(classes)} instead of {', '.join(record.classes)}"
    print(f"fine-tuning from channel {CHANNEL}: {network.name}{head}", flush=True)
    return record


def pretrained_preprocessing(job: TrainingJob) -> ImagePreprocessing | None:
    """Return the preprocessing of images that the weights of channel `weights` were trained with, if the job has it.

    Raises:
        DataError: The channel contains no model.
    """
    if CHANNEL not in job.channels:
        return None
    with tempfile.TemporaryDirectory(prefix="medloop-weights-") as scratch:
        preprocessing = ModelRecord.read(unpack_model(job.channel(CHANNEL), Path(scratch))).preprocessing
    return preprocessing if isinstance(preprocessing, ImagePreprocessing) else None


def _require_same_architecture(trained: Network, requested: Network) -> None:
    if trained.name != requested.name:
        raise DataError(
            f"channel {CHANNEL}: its network is {trained.name}, not {requested.name}; "
            f"set model_name to {trained.name} or give weights of {requested.name}"
        )
    for name in sorted((set(trained.arguments) | set(requested.arguments)) - _FREE_ARGUMENTS):
        value, requested_value = trained.arguments.get(name), requested.arguments.get(name)
        if value != requested_value:
            raise DataError(
                f"channel {CHANNEL}: its {trained.name} has {name}={value}, not {requested_value}; set it to {value}"
            )
