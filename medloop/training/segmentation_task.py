"""3D segmentation as a `TrainingTask`: batches, loss, and Dice at the original resolution."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from medloop.documents.model import Inference
from medloop.imaging.draws import Draws
from medloop.imaging.metrics import dice
from medloop.imaging.patches import PatchSampler
from medloop.imaging.segment_dataset import ValidationVolume
from medloop.imaging.sliding import infer_logits
from medloop.imaging.volume_augmentation import VolumeAugmentation
from medloop.imaging.volumes import label_map
from medloop.training.compute import to_layout
from medloop.training.losses import Reduction, VolumeLoss
from medloop.training.ranks import ALONE, Ranks
from medloop.training.tracking.base import Picture
from medloop.training.tracking.pictures import NUM_CASES, busiest_slice, slice_panel

Batch = tuple[Tensor, Tensor]


@dataclass
class SegmentationTask:
    """The data, loss and score of one run, a `medloop.training.task.TrainingTask`.

    Args:
        sampler: Training samples.
        augmentation: None leaves batches unchanged.
        validation: Cases of the validation split.
        loss_function: Function of logits [N, C, x, y, z] and labels [N, 1, x, y, z].
        inference: The sliding-window rule of prediction.
        num_classes: Number of classes, including the background.
        seed: Seed of the run.
        device: Device of batches.
        last: True if the network's activations have their channels last.
        ranks: The processes; the validation cases are divided among them.
    """

    sampler: PatchSampler
    augmentation: VolumeAugmentation | None
    validation: Sequence[ValidationVolume]
    loss_function: VolumeLoss
    inference: Inference
    num_classes: int
    seed: int
    device: torch.device
    last: bool = False
    ranks: Ranks = ALONE
    metric: str = field(default="val_dice", init=False)
    unit: str = field(default="volumes", init=False)
    min_rows: int = field(default=1, init=False)
    _drawn: list[NDArray[np.uint8]] = field(default_factory=list, init=False, repr=False)
    """[x, y, z] predictions on the preprocessed grid for the first validation cases, of the last validation."""

    @property
    def samples_per_unit(self) -> int:
        """Number of patches of a volume in an epoch."""
        return self.sampler.patches_per_volume

    @property
    def num_samples(self) -> int:
        """Number of patches, or whole volumes, of an epoch."""
        return self.sampler.num_samples

    def batch(self, samples: Sequence[int], epoch: int) -> Batch:
        """Make (images [N, 1, x, y, z], labels uint8 [N, 1, x, y, z]) on the device."""
        draws = Draws(self.seed, epoch, samples)
        images, labels = (part.to(self.device, non_blocking=True) for part in self.sampler.batch(samples, draws))
        if self.augmentation:
            images, labels = self.augmentation(images, labels, draws)
        return to_layout(images, last=self.last), labels

    def loss(self, model: nn.Module, batch: Batch, reduction: Reduction) -> Tensor:
        """Compute the mean loss over the samples (patches or volumes) of all processes."""
        images, labels = batch
        return self.loss_function(model(images), labels, reduction)

    def validate(self, model: nn.Module) -> dict[str, float]:
        """Compute the loss on the preprocessed grid and Dice at the original resolution, both as means over cases."""
        self._drawn.clear()
        results = torch.zeros(2, len(self.validation), dtype=torch.float64)
        for index in range(self.ranks.rank, len(self.validation), self.ranks.size):
            results[:, index] = torch.tensor(self._validate_case(model, index), dtype=torch.float64)
        losses, scores = self.ranks.total(results)
        return {"val_loss": float(losses.mean()), "val_dice": float(scores.nanmean())}

    def _validate_case(self, model: nn.Module, index: int) -> tuple[float, float]:
        case = self.validation[index]
        image = case.image.to(self.device, non_blocking=True)
        logits = infer_logits(lambda windows: model(to_layout(windows, last=self.last)), image, self.inference)
        label = case.label.to(self.device)[None, None]
        loss = float(self.loss_function(logits[None], label, Reduction.local(1, self.device)))
        x, y, z = case.truth.shape
        prediction = label_map(logits.softmax(dim=0), (x, y, z)).cpu().numpy()
        if self.ranks.first and len(self._drawn) < NUM_CASES:
            self._drawn.append(logits.argmax(dim=0).to(torch.uint8).cpu().numpy())
        return loss, mean_dice(case.truth.numpy(), prediction, self.num_classes)

    def pictures(self) -> dict[str, Picture]:
        """Draw the slice with most of the structures, truth and prediction of the first process's first cases."""
        cases = self.validation[:: self.ranks.size]
        return {
            f"case_{number}": _panel(case, predicted)
            for number, (case, predicted) in enumerate(zip(cases, self._drawn, strict=False), start=1)
        }


def _panel(case: ValidationVolume, predicted: NDArray[np.uint8]) -> Picture:
    image, label = case.image.float().cpu().numpy(), case.label.cpu().numpy()
    z = busiest_slice(label, predicted)
    return slice_panel(image[..., z], label[..., z], predicted[..., z])


def mean_dice(truth: NDArray[np.uint8], prediction: NDArray[np.uint8], num_classes: int) -> float:
    """Compute a case's mean Dice over the foreground classes in truth or prediction; NaN if there are none."""
    scores = [dice(truth == label, prediction == label) for label in range(1, num_classes)]
    defined = [score for score in scores if not math.isnan(score)]
    return sum(defined) / len(defined) if defined else math.nan
