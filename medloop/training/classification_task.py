"""2D image classification as a `TrainingTask`: batches, loss, and macro AUROC."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from medloop.documents.hyperparameters import ClassificationHyperparameters
from medloop.documents.model import ImagePreprocessing
from medloop.imaging.auroc import macro_auroc
from medloop.imaging.classify_dataset import LabelledImages
from medloop.imaging.draws import Draws
from medloop.imaging.images import ImageAugmentation, standardise
from medloop.training.calibration import Calibration, calibrate
from medloop.training.compute import to_layout
from medloop.training.losses import ImageLoss, Reduction
from medloop.training.ranks import ALONE, Ranks
from medloop.training.tracking.base import Picture
from medloop.training.tracking.pictures import confusion_panel, sample_indices, samples_panel

EVAL_BATCH_SIZE = 256
Batch = tuple[Tensor, Tensor]


@dataclass
class ClassificationTask:
    """The data, loss and score of one run, a `medloop.training.task.TrainingTask`.

    Args:
        train: Training images, on the device or the CPU.
        val: Validation images, on the device or the CPU.
        classes: Names by index.
        rule: Standardisation of images.
        settings: Augmentation, class weights and others.
        device: Device of batches.
        last: True if the network's activations have their channels last.
        ranks: The processes; the validation images are divided among them.
        min_rows: Minimum of images of a forward pass.
        num_val_patients: Number of patients in `val`; None if patients are not known.
    """

    train: LabelledImages
    val: LabelledImages
    classes: list[str]
    rule: ImagePreprocessing
    settings: ClassificationHyperparameters
    device: torch.device
    last: bool = False
    ranks: Ranks = ALONE
    min_rows: int = 1
    num_val_patients: int | None = None
    metric: str = field(default="val_auroc", init=False)
    unit: str = field(default="images", init=False)
    samples_per_unit: int = field(default=1, init=False)
    calibration: Calibration = field(default_factory=Calibration, init=False)
    """The result of `calibrate`."""

    def __post_init__(self) -> None:
        balanced = self.settings.class_weights == "balanced"
        weights = balanced_weights(self.train.labels, len(self.classes)).to(self.device) if balanced else None
        self._loss, self._val_loss = ImageLoss(weights, self.settings.label_smoothing), ImageLoss(weights)
        self._augment = ImageAugmentation(self.settings.flips) if self.settings.augment else None
        self._predicted: NDArray[np.int64] = np.zeros(0, np.int64)

    @property
    def num_samples(self) -> int:
        """Number of training images."""
        return len(self.train)

    def batch(self, samples: Sequence[int], epoch: int) -> Batch:
        """Make (images [N, C, S, S], labels int64 [N]) on the device."""
        images, labels = self.train.take(samples, self.device)
        if self._augment:
            images = self._augment(images, Draws(self.settings.seed, epoch, samples))
        return to_layout(standardise(images, self.rule), last=self.last), labels

    def loss(self, model: nn.Module, batch: Batch, reduction: Reduction) -> Tensor:
        """Compute the cross-entropy with class weights and label smoothing: a mean over the images of all processes."""
        images, labels = batch
        return self._loss(model(images), labels, reduction)

    def validate(self, model: nn.Module) -> dict[str, float]:
        """Compute val_loss, val_auroc (macro, one class against the rest) and val_accuracy."""
        logits = self.ranks.total(self._logits(model, self.ranks.rank, self.ranks.size))
        labels = self.val.labels.cpu()
        loss = float(self._val_loss(logits, labels, Reduction.local(len(labels), logits.device)))
        if not math.isfinite(loss):  # scikit-learn refuses NaN; the trainer raises an error with the reason
            return {"val_loss": loss, "val_auroc": math.nan, "val_accuracy": math.nan}
        probabilities = logits.softmax(dim=1).numpy()
        self._predicted = probabilities.argmax(axis=1)
        truth = labels.numpy()
        accuracy = float((self._predicted == truth).mean())
        return {"val_loss": loss, "val_auroc": macro_auroc(truth, probabilities), "val_accuracy": accuracy}

    def calibrate(self, model: nn.Module) -> None:
        """Fit temperature and thresholds to the whole validation split, with the best weights.

        Only the first process has them. Logits are computed as in prediction, in full precision.
        """
        logits = self._logits(model, 0, 1).numpy()
        self.calibration = calibrate(logits, self.val.labels.cpu().numpy(), self.classes, self.num_val_patients)
        print(self.calibration.note, flush=True)

    def _logits(self, model: nn.Module, first: int, step: int) -> Tensor:
        """Compute logits of every `step`-th validation image from `first`, else 0: float64 [N, C] on the CPU."""
        logits = torch.zeros(len(self.val), len(self.classes), dtype=torch.float64)
        indices = range(first, len(self.val), step)
        for start in range(0, len(indices), EVAL_BATCH_SIZE):
            chosen = list(indices[start : start + EVAL_BATCH_SIZE])
            images, _ = self.val.take(chosen, self.device)
            logits[chosen] = model(to_layout(standardise(images, self.rule), last=self.last)).double().cpu()
        return logits

    def pictures(self) -> dict[str, Picture]:
        """Draw a dozen validation images with class and prediction, and the confusion matrix."""
        truth, chosen = self.val.labels.cpu().numpy(), sample_indices(len(self.val))
        images = [self.val.image(k).float().cpu().numpy() for k in chosen]
        pictures = {
            "samples": samples_panel(images, truth[chosen].tolist(), self._predicted[chosen].tolist(), self.classes)
        }
        matrix = confusion_panel(truth, self._predicted, self.classes)
        return pictures if matrix is None else {**pictures, "confusion": matrix}


def balanced_weights(labels: Tensor, num_classes: int) -> Tensor:
    """Compute the weight of each class: inverse to its number of images, with a mean over images of 1."""
    counts = torch.bincount(labels.cpu(), minlength=num_classes).float()
    return len(labels) / (num_classes * counts.clamp(min=1))


def min_training_rows(model: nn.Module) -> int:
    """Return the minimum of images in training: batch normalisation needs more than one value per channel."""
    return 2 if any(isinstance(module, _BatchNorm) for module in model.modules()) else 1
