"""The networks that can be trained, one row each, which all other code reads. Torch-free.

A classifier maps [N, channels, H, W] to logits [N, classes]; a segmenter maps [N, 1, X, Y, Z] to logits
[N, classes, X, Y, Z]. To add one: write its builder and add a row (docs/extending.md).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from medloop.documents.split import Task

OF_THE_DATA = ("channels", "image_size")
"""Settings of the images' preparation: every network takes them, also one whose builder doesn't."""


@dataclass(frozen=True)
class Traits:
    """Measured choices of a network's computation.

    Args:
        blocks: Class names of its repeated parts: what FSDP gathers at a time, and activations are recomputed by.
        channels_last: Whether that layout was measured to be faster (docs/measurements.md).
    """

    blocks: tuple[str, ...] = ()
    channels_last: bool = False


@dataclass(frozen=True, kw_only=True)
class NetworkSpec:
    """A network.

    Args:
        name: The value of `model_name`, in model.json too.
        task: The task that it is for.
        module: Contains the builder, a function of the network's name that returns it with fresh weights.
        arguments: The builder's arguments: hyperparameters, and `classes`, the number of outputs.
        head: Prefix of the names of those weights whose shapes depend on the number of classes.
        traits: Measured choices of its computation.
        multiple: What every edge of its input must be a multiple of, in pixels or voxels; by the builder's arguments
            where they decide.
        min_edge: The smallest edge of its input.
        min_edge_single: The same with batch_size=1: batch normalisation can't take a single value a channel.
        smoke: Hyperparameters of its smallest size, which smoke=true sets.
        cpu_seconds: CPU time of training on a million pixels or voxels at the default width, for estimates of a run's
            time (docs/measurements.md); 0 if it was not measured.
        width: The argument whose value, or first value, the computing time grows with, and its default.
    """

    name: str
    task: Task
    arguments: tuple[str, ...]
    head: str
    traits: Traits
    multiple: int | Callable[[Mapping[str, Any]], int] = 1
    min_edge: int = 1
    min_edge_single: int = 1
    smoke: Mapping[str, Any] = field(default_factory=dict)
    cpu_seconds: float = 0.0
    width: tuple[str, int] | None = None
    module: str = "medloop.imaging.networks"

    def relative_width(self, arguments: Mapping[str, Any]) -> float:
        """The width of a network with these arguments, relative to the default's."""
        if self.width is None:
            return 1.0
        name, default = self.width
        value = arguments[name]
        return float((value[0] if isinstance(value, list) else value) / default)

    def shape_multiple(self, arguments: Mapping[str, Any]) -> int:
        """`multiple` of a network that was built with these arguments."""
        return self.multiple(arguments) if callable(self.multiple) else self.multiple


_ROWS = (
    NetworkSpec(
        name="densenet121", task="classification", cpu_seconds=7, arguments=("channels", "classes", "dropout"),
        head="class_layers.out.", traits=Traits(("_DenseLayer",), channels_last=True), min_edge=32, min_edge_single=64,
    ),
    NetworkSpec(
        name="vit", task="classification", cpu_seconds=29, arguments=("channels", "classes", "dropout", "image_size"),
        head="network.classification_head.", traits=Traits(("TransformerBlock",)), multiple=16,
    ),
    NetworkSpec(
        name="resnet18", task="classification", cpu_seconds=4, arguments=("channels", "classes", "dropout"),
        head="fc.", traits=Traits(("BasicBlock",), channels_last=True), min_edge_single=33,
    ),
    NetworkSpec(
        name="resnet50", task="classification", cpu_seconds=9, arguments=("channels", "classes", "dropout"),
        head="fc.", traits=Traits(("Bottleneck",), channels_last=True), min_edge_single=33,
    ),
    NetworkSpec(
        name="segresnet", task="segmentation", cpu_seconds=7, arguments=("classes", "dropout", "init_filters"),
        head="conv_final.2.", traits=Traits(("ResBlock",), channels_last=True), multiple=8,
        smoke={"init_filters": 8}, width=("init_filters", 16),
    ),
    NetworkSpec(
        name="unet", task="segmentation", cpu_seconds=3.2, arguments=("classes", "dropout", "unet_channels"),
        head="model.2.", traits=Traits(("Convolution", "ResidualUnit")),
        multiple=lambda arguments: int(2 ** (len(arguments["unet_channels"]) - 1)),
        smoke={"unet_channels": [8, 16, 32]}, width=("unet_channels", 64),
    ),
    NetworkSpec(
        name="swinunetr", task="segmentation", cpu_seconds=45, arguments=("classes", "dropout", "feature_size"),
        head="out.", traits=Traits(("SwinTransformerBlock", "PatchMerging", "UnetResBlock")), multiple=32,
        smoke={"feature_size": 12}, width=("feature_size", 48),
    ),
)  # fmt: skip
NETWORKS = {row.name: row for row in _ROWS}


def network_names(task: Task) -> list[str]:
    """The networks of a task."""
    return [row.name for row in NETWORKS.values() if row.task == task]


def networks_with(setting: str, task: Task) -> list[str]:
    """The networks of a task that take a hyperparameter; none where it isn't one of networks."""
    rows = (NETWORKS[name] for name in network_names(task) if setting not in OF_THE_DATA)
    return [row.name for row in rows if setting in row.arguments]


def traits(name: str | None) -> Traits:
    """The traits of the network of that name; the defaults for an unknown one."""
    return NETWORKS[name].traits if name in NETWORKS else Traits()
