"""Fine-tuning: start from the weights of an earlier model, given as the channel `weights`."""

from __future__ import annotations

import tempfile
from pathlib import Path

from torch import nn

from medloop.container.training import TrainingJob
from medloop.documents.model import ModelRecord, Network, read_model_record
from medloop.documents.networks import NETWORKS
from medloop.errors import DataError
from medloop.imaging.model_files import put_weights, read_weights, unpack_model

CHANNEL = "weights"
_FREE_ARGUMENTS = {"classes", "dropout"}
"""Arguments of a network that may differ: the head is replaced, and dropout has no weights."""


def load_pretrained(job: TrainingJob, model: nn.Module, network: Network, classes: list[str]) -> ModelRecord | None:
    """Load the channel `weights`, where the job has it, into a new model.

    The head (the layer that has one output per class) stays fresh where the classes differ, and the log says so.

    Args:
        job: Its channel holds model.json and model.safetensors, or model.tar.gz.
        model: As `networks.build(network)` made it.
        network: What the hyperparameters ask for.
        classes: By output index.

    Returns:
        model.json of the weights; None without the channel.

    Raises:
        DataError: The channel holds no usable model, or one of another architecture.
    """
    if CHANNEL not in job.channels:
        return None
    with tempfile.TemporaryDirectory(prefix="medloop-weights-") as scratch:
        folder = unpack_model(job.channel(CHANNEL), Path(scratch))
        record = read_model_record(folder)
        _require_same_architecture(record.network, network)
        weights = read_weights(folder)
        same = record.classes == classes
        put_weights(model, weights, fresh=None if same else NETWORKS[network.name].head)
    head = "" if same else f"; new head, for {', '.join(classes)} instead of {', '.join(record.classes)}"
    print(f"fine-tuning from channel {CHANNEL}: {network.name}{head}", flush=True)
    return record


def _require_same_architecture(given: Network, asked: Network) -> None:
    if given.name != asked.name:
        raise DataError(
            f"channel {CHANNEL}: its network is {given.name}, not {asked.name}; "
            f"set model_name to {given.name} or give weights of {asked.name}"
        )
    for name in sorted((set(given.arguments) | set(asked.arguments)) - _FREE_ARGUMENTS):
        theirs, ours = given.arguments.get(name), asked.arguments.get(name)
        if theirs != ours:
            raise DataError(f"channel {CHANNEL}: its {given.name} has {name}={theirs}, not {ours}; set it to {theirs}")
