"""Placement of prepared data during training: on the GPU if it fits, else mapped on the CPU."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import torch

from medloop.errors import SettingError
from medloop.imaging.classify_dataset import LabelledImages
from medloop.imaging.patches import TrainingVolume
from medloop.imaging.segment_dataset import ValidationVolume

SHARE_OF_FREE = 0.5
"""Share of the GPU's free memory for data; the rest is for the network and its activations."""
DataDevice = Literal["auto", "cpu", "gpu"]


@dataclass
class GpuMemory:
    """The memory that prepared data may use on the GPU.

    Args:
        setting: `data_device`.
        device: Device of the network.
        free: Bytes for data; None measures the device.

    Raises:
        SettingError: data_device=gpu, and there is no GPU.
    """

    setting: DataDevice
    device: torch.device
    free: float | None = None

    def __post_init__(self) -> None:
        if self.setting == "gpu" and self.device.type == "cpu":
            raise SettingError("hyperparameter data_device=gpu: this host has no GPU; set auto")
        if self.free is None:
            free = torch.cuda.mem_get_info(self.device)[0] if self.device.type == "cuda" else 0
            self.free = SHARE_OF_FREE * free

    def allocate(self, num_bytes: int) -> torch.device:
        """Choose the device of data of a size; data on the GPU reduces `free`."""
        assert self.free is not None  # noqa: S101
        if self.setting == "cpu" or (self.setting == "auto" and num_bytes >= self.free):
            return torch.device("cpu")
        self.free -= num_bytes
        return self.device


def place_images(splits: Sequence[LabelledImages], memory: GpuMemory) -> list[LabelledImages]:
    """Move splits from the CPU to the GPU if they fit, in order."""
    targets = [memory.allocate(split.num_bytes) for split in splits]
    return [split if target.type == "cpu" else split.to(target) for split, target in zip(splits, targets, strict=True)]


def place_volumes(
    training: Sequence[TrainingVolume], validation: Sequence[ValidationVolume], memory: GpuMemory
) -> tuple[list[TrainingVolume], list[ValidationVolume]]:
    """Move the training volumes, then the validation volumes, from the CPU to the GPU if all of them fit.

    Candidate centres stay on the CPU, where positions are drawn; the truth of validation volumes stays there, too.
    """
    first = memory.allocate(sum(v.image.nbytes + v.label.nbytes for v in training))
    second = memory.allocate(sum(v.image.nbytes + v.label.nbytes for v in validation))
    placed = list(training) if first.type == "cpu" else [volume.to(first) for volume in training]
    if second.type == "cpu":
        return placed, list(validation)
    return placed, [replace(v, image=v.image.to(second), label=v.label.to(second)) for v in validation]
