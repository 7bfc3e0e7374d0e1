"""Sizes of the benchmarks: full on a GPU, small on a CPU."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import torch

Shape = tuple[int, int, int]
Task = Literal["segmentation", "classification"]
SEGMENTERS = ("segresnet", "unet", "swinunetr")
CLASSIFIERS = ("densenet121", "resnet18", "vit")


def task_of(network: str) -> Task:
    """Return the task of a network."""
    return "segmentation" if network in SEGMENTERS else "classification"


@dataclass(frozen=True)
class Baseline:
    """Settings of a baseline's loop.

    Args:
        batch_size: Samples a step.
        workers: The workshop's DataLoader processes.
    """

    batch_size: int
    workers: int


@dataclass(frozen=True)
class Sizes:
    """Data and networks of one size.

    Args:
        name: `small` or `full`.
        volumes: Training volumes.
        stored: Voxels of a stored volume.
        resized: Voxels that the network sees.
        images: Training images.
        image_stored: Edge of a stored image.
        image_size: Edge that the network sees.
        widths: Arguments of each network.
        ours: Hyperparameters of ours by network, in addition to those of every run.
        workshop: The workshop's loop, by task.
        monai: MONAI's fast recipe, by network.
        warm_epochs: Epochs that are not timed, of each loop.
    """

    name: Literal["small", "full"]
    volumes: int
    stored: Shape
    resized: Shape
    images: int
    image_stored: int
    image_size: int
    widths: dict[str, dict[str, Any]]
    ours: dict[str, dict[str, Any]]
    workshop: dict[Task, Baseline]
    monai: dict[str, Baseline]
    warm_epochs: int = 1


FULL = Sizes(
    name="full",
    volumes=24,
    stored=(256, 256, 96),
    resized=(128, 128, 64),
    images=800,
    image_stored=512,
    image_size=256,
    widths={
        "segresnet": {"init_filters": 16},
        "unet": {"unet_channels": [64, 128, 256, 512, 1024]},
        "swinunetr": {"feature_size": 48},
    },
    ours={
        "segresnet": {"batch_size": 8},
        "unet": {"batch_size": 8},
        "swinunetr": {"batch_size": 4},
        "densenet121": {"batch_size": 200},
        "resnet18": {"batch_size": 200},
        "vit": {"batch_size": 200},
    },
    workshop={"segmentation": Baseline(2, 4), "classification": Baseline(16, 16)},
    monai={
        "segresnet": Baseline(4, 0),
        "unet": Baseline(4, 0),
        "swinunetr": Baseline(2, 0),
        **{name: Baseline(16, 0) for name in CLASSIFIERS},
    },
)
SMALL = Sizes(
    name="small",
    volumes=4,
    stored=(96, 96, 48),
    resized=(64, 64, 32),
    images=64,
    image_stored=128,
    image_size=64,
    widths={
        "segresnet": {"init_filters": 8},
        "unet": {"unet_channels": [16, 32, 64, 128]},
        "swinunetr": {"feature_size": 12},
    },
    ours={name: {"batch_size": 2 if name in SEGMENTERS else 16} for name in (*SEGMENTERS, *CLASSIFIERS)},
    workshop={"segmentation": Baseline(2, 2), "classification": Baseline(16, 2)},
    monai={name: Baseline(2 if name in SEGMENTERS else 16, 0) for name in (*SEGMENTERS, *CLASSIFIERS)},
)
TINY = Sizes(
    name="small",
    volumes=2,
    stored=(40, 40, 36),
    resized=(32, 32, 64),
    images=16,
    image_stored=48,
    image_size=32,
    widths={"segresnet": {"init_filters": 8}, "unet": {"unet_channels": [4, 8]}, "swinunetr": {"feature_size": 12}},
    ours={name: {"batch_size": 2 if name in SEGMENTERS else 8} for name in (*SEGMENTERS, *CLASSIFIERS)},
    workshop={"segmentation": Baseline(2, 0), "classification": Baseline(8, 0)},
    monai={name: Baseline(2 if name in SEGMENTERS else 8, 0) for name in (*SEGMENTERS, *CLASSIFIERS)},
)
SIZES = {"full": FULL, "small": SMALL, "tiny": TINY}


def pick(name: str = "auto") -> Sizes:
    """Return the sizes of a name; `auto` is full with a GPU, small without. `tiny` is for tests."""
    return SIZES[("full" if torch.cuda.is_available() else "small") if name == "auto" else name]
