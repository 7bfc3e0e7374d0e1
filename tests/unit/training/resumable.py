"""A small segmentation with everything that has state: dropout, augmentation, averages, accumulation, a best epoch.

`main` runs it deterministically with a checkpoint after every step, and writes FOLDER/weights.safetensors at its end.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from medloop.documents.hyperparameters import SegmentationHyperparameters
from medloop.documents.model import Inference
from medloop.imaging.patches import PatchSampler, training_volume
from medloop.imaging.segment_dataset import ValidationVolume
from medloop.imaging.volume_augmentation import VolumeAugmentation
from medloop.training.losses import VolumeLoss
from medloop.training.ranks import ALONE, Ranks
from medloop.training.segmentation_task import SegmentationTask
from medloop.training.trainer import FitResult, Trainer
from tests.unit.training.distributed import CPU

PATCH = (16, 16, 16)
SETTINGS: dict[str, Any] = {
    "dropout": 0.2, "epochs": 4, "batch_size": 3, "accumulation": 2,
    "learning_rate": 0.01, "patch_size": PATCH, "patience": 0, "val_interval": 1, "ema": 0.9, "clip_norm": 1.0,
    "deterministic": True, "checkpoint_minutes": 0, "seed": 5,
}  # fmt: skip
STEPS_PER_EPOCH = 3


def volumes(num: int, dtype: torch.dtype = torch.float32) -> list[tuple[Tensor, Tensor]]:
    """Noisy balls: images [20, 18, 16] and labels of two classes."""
    rng = np.random.default_rng(3)
    grid = np.stack(np.meshgrid(*(np.arange(n) for n in (20, 18, 16)), indexing="ij"), axis=-1)
    pairs = []
    for _ in range(num):
        distance = np.linalg.norm(grid - rng.uniform(7, 10, 3), axis=-1)
        label = (distance < 6).astype(np.uint8) + (distance < 3)
        pairs.append((torch.from_numpy(label + rng.normal(0, 0.5, label.shape)).to(dtype), torch.from_numpy(label)))
    return pairs


class Stopping(SegmentationTask):
    """Sends its own process SIGTERM when it makes a batch, or in a validation, that many into the run."""

    def validate(self, model: nn.Module) -> dict[str, float]:
        """The scores, and in one validation the signal."""
        self.__dict__["validated"] = self.__dict__.get("validated", 0) + 1
        if self.__dict__["validated"] == self.__dict__.get("stop_in_validation"):
            os.kill(os.getpid(), signal.SIGTERM)
        return super().validate(model)

    def batch(self, samples: Sequence[int], epoch: int) -> Any:
        """The batch, and in one step the signal."""
        self.__dict__["made"] = self.__dict__.get("made", 0) + 1
        if self.__dict__["made"] == self.__dict__.get("stop_at"):
            os.kill(os.getpid(), signal.SIGTERM)
        return super().batch(samples, epoch)


def run(
    folder: Path,
    ranks: Ranks = ALONE,
    *,
    stop_at: int | None = None,
    stop_in_validation: int | None = None,
    dtype: torch.dtype = torch.float32,
    **changes: Any,
) -> FitResult:
    """Train, or resume from a checkpoint in the folder.

    Args:
        folder: The checkpoints' folder.
        ranks: The processes.
        stop_at: Makes that many batches, then gets SIGTERM.
        stop_in_validation: Gets SIGTERM in that validation.
        dtype: Of volumes and weights.
        changes: Of `SETTINGS`.
    """
    settings = SegmentationHyperparameters.model_validate(SETTINGS | changes)
    torch.manual_seed(0)
    training = [training_volume(image, label, PATCH, 0) for image, label in volumes(7, dtype)]
    task = Stopping(
        sampler=PatchSampler(training, PATCH, 1, 0.5),
        augmentation=VolumeAugmentation((1.0, 1.0, 1.0), flips=True),
        validation=[ValidationVolume(image, label, label) for image, label in volumes(2, dtype)],
        loss_function=VolumeLoss("dice_ce"),
        inference=Inference(),
        num_classes=3, seed=settings.seed, device=CPU, ranks=ranks,
    )  # fmt: skip
    task.__dict__.update(stop_at=stop_at, stop_in_validation=stop_in_validation)
    # No network of MONAI's: importing it takes longer than the run.
    model = nn.Sequential(
        nn.Conv3d(1, 4, 3, padding=1), nn.InstanceNorm3d(4, affine=True), nn.PReLU(), nn.Dropout(settings.dropout),
        nn.Conv3d(4, 3, 3, padding=1),
    ).to(dtype)  # fmt: skip
    return Trainer(model, task, settings, device=CPU, checkpoint_dir=folder, ranks=ranks, identity="data").fit()


def state(result: FitResult) -> dict[str, Tensor]:
    """A model's weights and statistics."""
    return {name: value.detach().clone() for name, value in result.model.state_dict().items()}


def main(folder: Path, epochs: int) -> None:
    """Run as a process of its own."""
    torch.set_num_threads(1)
    save_file(state(run(folder, epochs=epochs)), folder / "weights.partial")
    os.replace(folder / "weights.partial", folder / "weights.safetensors")
