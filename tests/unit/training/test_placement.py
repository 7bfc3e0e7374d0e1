"""Placement of prepared data: data that fits goes to the device, the training split first."""

from __future__ import annotations

import pytest
import torch

from medloop.errors import SettingError
from medloop.imaging.classify_dataset import LabelledImages
from medloop.imaging.patches import training_volume
from medloop.imaging.segment_dataset import ValidationVolume
from medloop.training.placement import GpuMemory, place_images, place_volumes

GPU = torch.device("meta")
"""Stands for a GPU, which the tests' machine need not have."""
IMAGES = LabelledImages(torch.zeros(10, 1, 10, 10, dtype=torch.float16), torch.zeros(10, dtype=torch.int64))
"""2000 bytes."""


@pytest.mark.parametrize(
    ("setting", "free", "expected"),
    [
        ("auto", 5000, ["meta", "meta"]),
        ("auto", 3000, ["meta", "cpu"]),
        ("auto", 1000, ["cpu", "cpu"]),
        ("gpu", 1000, ["meta", "meta"]),
        ("cpu", 5000, ["cpu", "cpu"]),
    ],
)
def test_splits_go_where_they_fit(setting: str, free: float, expected: list[str]) -> None:
    """The first split is placed first; the setting overrides the memory."""
    placed = place_images([IMAGES, IMAGES], GpuMemory(setting, GPU, free))  # type: ignore[arg-type]
    assert [images.shards[0].device.type for images in placed] == expected


def test_volumes_go_with_their_labels_and_centres_stay() -> None:
    """Positions are drawn on the CPU, and the truth is compared there."""
    label = torch.ones(4, 4, 4, dtype=torch.uint8)
    volume = training_volume(torch.zeros(4, 4, 4), label, (4, 4, 4), 0)
    case = ValidationVolume(torch.zeros(4, 4, 4), label, label)
    [placed], [other] = place_volumes([volume], [case], GpuMemory("auto", GPU, 10_000))
    assert {placed.image.device.type, placed.label.device.type, other.image.device.type, other.label.device.type} == {
        "meta"
    }
    assert placed.centres[0].device.type == other.truth.device.type == "cpu"


def test_without_a_gpu_data_stays_where_it_is() -> None:
    """And asking for one is refused."""
    cpu = torch.device("cpu")
    assert place_images([IMAGES], GpuMemory("auto", cpu))[0] is IMAGES
    with pytest.raises(SettingError, match="data_device=gpu"):
        GpuMemory("gpu", cpu)
