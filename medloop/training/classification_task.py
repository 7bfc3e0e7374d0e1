"""2D image classification as a `Task`: batches, loss, and macro AUROC."""

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
    """The data, loss and score of one run, as a `medloop.training.task.Task`.

    Args:
        train: On the device, or on the CPU where it doesn't fit there.
        val: Likewise.
        classes: Names by index.
        rule: Standardises images.
        settings: Augmentation, class weights and so on.
        device: Where batches go.
        last: Whether the network's activations have their channels last.
        ranks: The processes, which divide the validation images.
        min_rows: Images that a forward pass takes at least.
        num_val_patients: Whose validation images they are; None where patients are not known.
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
    calibration: Calibration = field(default_factory=Calibration, init=False)
    """Once `calibrate` has run."""

    def __post_init__(self) -> None:
        balanced = self.settings.class_weights == "balanced"
        weights = balanced_weights(self.train.labels, len(self.classes)).to(self.device) if balanced else None
        self._loss, self._val_loss = ImageLoss(weights, self.settings.label_smoothing), ImageLoss(weights)
        self._augment = ImageAugmentation(self.settings.flips) if self.settings.augment else None
        self._predicted: NDArray[np.int64] = np.zeros(0, np.int64)

    @property
    def num_samples(self) -> int:
        """Training images."""
        return len(self.train)

    def batch(self, samples: Sequence[int], epoch: int) -> Batch:
        """(images [N, C, S, S], labels int64 [N]) on the device."""
        images, labels = self.train.take(samples, self.device)
        if self._augment:
            images = self._augment(images, Draws(self.settings.seed, epoch, samples))
        return to_layout(standardise(images, self.rule), last=self.last), labels

    def loss(self, model: nn.Module, batch: Batch, reduction: Reduction) -> Tensor:
        """Cross-entropy with class weights and label smoothing; a mean over the images of all processes."""
        images, labels = batch
        return self._loss(model(images), labels, reduction)

    def validate(self, model: nn.Module) -> dict[str, float]:
        """val_loss, val_auroc (macro, one class against the rest) and val_accuracy."""
        logits = self.ranks.total(self._logits(model, self.ranks.rank, self.ranks.size))
        labels = self.val.labels.cpu()
        loss = float(self._val_loss(logits, labels, Reduction.local(len(labels), logits.device)))
        if not math.isfinite(loss):  # scikit-learn refuses NaN; the loop says what it means
            return {"val_loss": loss, "val_auroc": math.nan, "val_accuracy": math.nan}
        probabilities = logits.softmax(dim=1).numpy()
        self._predicted = probabilities.argmax(axis=1)
        truth = labels.numpy()
        accuracy = float((self._predicted == truth).mean())
        return {"val_loss": loss, "val_auroc": macro_auroc(truth, probabilities), "val_accuracy": accuracy}

    def calibrate(self, model: nn.Module) -> None:
        """Fit temperature and thresholds to the whole validation split, with the weights that were kept.

        The first process alone has those. Logits are computed as prediction does it, in full precision.
        """
        logits = self._logits(model, 0, 1).numpy()
        self.calibration = calibrate(logits, self.val.labels.cpu().numpy(), self.classes, self.num_val_patients)
        print(self.calibration.note, flush=True)

    def _logits(self, model: nn.Module, first: int, step: int) -> Tensor:
        """Of every `step`-th validation image from the `first` on; 0 for the others. float64 [N, C] on the CPU."""
        logits = torch.zeros(len(self.val), len(self.classes), dtype=torch.float64)
        own = range(first, len(self.val), step)
        for start in range(0, len(own), EVAL_BATCH_SIZE):
            chosen = list(own[start : start + EVAL_BATCH_SIZE])
            images, _ = self.val.take(chosen, self.device)
            logits[chosen] = model(to_layout(standardise(images, self.rule), last=self.last)).double().cpu()
        return logits

    def pictures(self) -> dict[str, Picture]:
        """A dozen validation images with class and prediction, and the confusion matrix."""
        truth, chosen = self.val.labels.cpu().numpy(), sample_indices(len(self.val))
        images = [self.val.image(k).float().cpu().numpy() for k in chosen]
        found = {
            "samples": samples_panel(images, truth[chosen].tolist(), self._predicted[chosen].tolist(), self.classes)
        }
        matrix = confusion_panel(truth, self._predicted, self.classes)
        return found if matrix is None else {**found, "confusion": matrix}


def balanced_weights(labels: Tensor, num_classes: int) -> Tensor:
    """Weight of each class: inverse to its number of images, and 1 in the mean over images."""
    counts = torch.bincount(labels.cpu(), minlength=num_classes).float()
    return len(labels) / (num_classes * counts.clamp(min=1))


def min_training_rows(model: nn.Module) -> int:
    """Images that a network takes at least in training: batch normalisation can't do with a single value a channel."""
    return 2 if any(isinstance(module, _BatchNorm) for module in model.modules()) else 1
