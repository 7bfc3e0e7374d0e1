"""Two processes train what one trains: the losses, the weights and the scores are those of a single process."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from medloop.imaging import networks
from medloop.imaging.patches import PatchSampler, training_volume
from medloop.imaging.segment_dataset import ValidationVolume
from medloop.imaging.volume_augmentation import VolumeAugmentation
from medloop.training.loop import fit
from medloop.training.losses import Share, VolumeLoss
from medloop.training.model_record import Inference
from medloop.training.ranks import Ranks
from medloop.training.segmentation_task import SegmentationTask
from medloop.training.settings import SegmentationHyperparameters
from tests.unit.training.distributed import CPU, alone, on_ranks

PATCH = (16, 16, 16)
STEPS = 12


def volumes(num: int, dtype: torch.dtype) -> list[tuple[Tensor, Tensor]]:
    """Noisy balls: images [20, 18, 16] and labels of two classes."""
    rng = np.random.default_rng(3)
    grid = np.stack(np.meshgrid(*(np.arange(n) for n in (20, 18, 16)), indexing="ij"), axis=-1)
    pairs = []
    for _ in range(num):
        distance = np.linalg.norm(grid - rng.uniform(7, 10, 3), axis=-1)
        label = (distance < 6).astype(np.uint8) + (distance < 3)
        pairs.append((torch.from_numpy(label + rng.normal(0, 0.5, label.shape)).to(dtype), torch.from_numpy(label)))
    return pairs


class Recording(SegmentationTask):
    """Remembers the loss of every step."""

    def loss(self, model: nn.Module, batch: Any, share: Share) -> Tensor:
        """The loss, kept."""
        value = super().loss(model, batch, share)
        if model.training:
            self.__dict__.setdefault("steps", []).append(value.detach().clone())
        return value


def segment(ranks: Ranks, folder: str, changes: dict[str, Any], dtype: torch.dtype) -> dict[str, Any]:
    """Twelve steps of segmentation; 7 samples in batches of 3, so that the last batch has one sample."""
    settings = SegmentationHyperparameters.model_validate(
        {
            "model_name": "unet", "unet_channels": [4, 8], "dropout": 0.0, "epochs": STEPS // 3, "batch_size": 3,
            "learning_rate": 0.01, "patch_size": PATCH, "patience": 0, "val_interval": 4, **changes,
        }
    )  # fmt: skip
    torch.manual_seed(0)
    network = networks.describe(settings, 3)
    model = networks.build(network).to(dtype)
    training = [training_volume(image, label, PATCH, 0) for image, label in volumes(7, dtype)]
    task = Recording(
        sampler=PatchSampler(training, PATCH, 1, 0.5),
        augmentation=VolumeAugmentation((1.0, 1.0, 1.0), flips=True),
        validation=[ValidationVolume(image, label, label) for image, label in volumes(3, dtype)],
        loss_function=VolumeLoss("dice_ce"),
        inference=Inference(patch_size=PATCH, overlap=0.5),
        num_classes=3, seed=0, device=CPU, ranks=ranks,
    )  # fmt: skip
    result = fit(model, task, settings, device=CPU, checkpoint_dir=Path(folder), ranks=ranks, network=network.name)
    return {
        "losses": torch.stack(task.__dict__["steps"]),
        "state": {name: value.clone() for name, value in result.model.state_dict().items()},
        "scores": [row.get("val_dice", 0.0) for row in result.history],
        "val_loss": [row.get("val_loss", 0.0) for row in result.history],
    }


@pytest.mark.slow
@pytest.mark.parametrize("strategy", ["ddp", "fsdp"])
def test_two_processes_are_one_segmentation(tmp_path: Path, strategy: str) -> None:
    """In float64 the losses of 12 steps are those of one process to 1e-10, and so are weights and scores."""
    whole = alone(segment, str(tmp_path / "one"), {}, torch.float64)
    both = on_ranks(2, tmp_path / "out", segment, str(tmp_path / "two"), {"strategy": strategy}, torch.float64)
    assert len(whole["losses"]) == STEPS
    for one in both:
        torch.testing.assert_close(one["losses"], whole["losses"], atol=1e-10, rtol=0)
        assert one["scores"] == pytest.approx(whole["scores"], abs=1e-10)
        assert one["val_loss"] == pytest.approx(whole["val_loss"], abs=1e-9)
    for name, value in whole["state"].items():
        torch.testing.assert_close(both[0]["state"][name], value, atol=1e-9, rtol=0)
