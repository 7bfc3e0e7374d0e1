"""Where prepared data is kept while a network is trained: on the GPU where it fits, else mapped on the CPU."""

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
"""Of the GPU's free memory that data may take; the rest is for the network and its activations."""
DataDevice = Literal["auto", "cpu", "gpu"]


@dataclass
class Room:
    """What the GPU still has room for.

    Args:
        setting: `data_device`.
        device: The network's.
        free: Bytes that data may take in all; None asks the device.

    Raises:
        SettingError: data_device=gpu, and there is no GPU.
    """

    setting: DataDevice
    device: torch.device
    free: float | None = None

    def __post_init__(self) -> None:
        if self.setting == "gpu" and self.device.type == "cpu":
            raise SettingError("hyperparameter data_device=gpu: this machine has no GPU; set auto")
        if self.free is None:
            free = torch.cuda.mem_get_info(self.device)[0] if self.device.type == "cuda" else 0
            self.free = SHARE_OF_FREE * free

    def place(self, num_bytes: int) -> torch.device:
        """Choose where data of that size is kept; what goes to the GPU is subtracted from what it has room for."""
        assert self.free is not None  # noqa: S101
        if self.setting == "cpu" or (self.setting == "auto" and num_bytes >= self.free):
            return torch.device("cpu")
        self.free -= num_bytes
        return self.device


def place_images(splits: Sequence[LabelledImages], room: Room) -> list[LabelledImages]:
    """Put splits, which are on the CPU, where they fit, the first ones first."""
    targets = [room.place(split.num_bytes) for split in splits]
    return [split if target.type == "cpu" else split.to(target) for split, target in zip(splits, targets, strict=True)]


def place_volumes(
    training: Sequence[TrainingVolume], validation: Sequence[ValidationVolume], room: Room
) -> tuple[list[TrainingVolume], list[ValidationVolume]]:
    """Put the training volumes where they fit, all on one device, then the validation volumes; all are on the CPU.

    Candidate centres stay on the CPU, where positions are drawn; so does the validation volumes' truth, which is
    needed once a case.
    """
    first = room.place(sum(v.image.nbytes + v.label.nbytes for v in training))
    second = room.place(sum(v.image.nbytes + v.label.nbytes for v in validation))
    placed = list(training) if first.type == "cpu" else [volume.to(first) for volume in training]
    if second.type == "cpu":
        return placed, list(validation)
    return placed, [replace(v, image=v.image.to(second), label=v.label.to(second)) for v in validation]
