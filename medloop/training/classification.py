"""Training of 2D image classification: from the job's channels to the model folder."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Generator, Tensor, nn
from torch.nn import functional

from medloop.container.training import TrainingJob
from medloop.errors import DataError
from medloop.evaluation.scores import classification_metrics
from medloop.imaging import networks
from medloop.imaging.images import ImageAugmentation, fit_preprocessing, load_images, standardise
from medloop.imaging.manifest import TRAINING_SPLITS, channel_folder
from medloop.imaging.split_record import read_split_record
from medloop.training.loop import FitResult, fit, write_model
from medloop.training.model_record import ImagePreprocessing
from medloop.training.pretrained import load_pretrained
from medloop.training.provenance import make_record, run_info
from medloop.training.seeding import pick_device, seed_everything
from medloop.training.settings import ClassificationHyperparameters
from medloop.training.tracking.base import Picture
from medloop.training.tracking.open import tracking
from medloop.training.tracking.pictures import confusion_panel, sample_indices, samples_panel

EVAL_BATCH_SIZE = 256
SUFFIXES = (".png", ".jpg", ".jpeg")


@dataclass(frozen=True)
class LabelledImages:
    """A split in memory."""

    images: Tensor
    """[N, channels, S, S] float16 in 0..1."""
    labels: Tensor
    """[N] int64 class indices."""

    def __len__(self) -> int:
        return len(self.labels)


@dataclass
class ClassificationTask:
    """The data, loss and score of one run, as `medloop.training.loop.Task`.

    Args:
        train: On the device, or on the CPU where it doesn't fit there.
        val: Likewise.
        classes: Names by index.
        rule: Standardises images.
        settings: Batch size, augmentation, class weights and so on.
        device: Where batches go.
    """

    train: LabelledImages
    val: LabelledImages
    classes: list[str]
    rule: ImagePreprocessing
    settings: ClassificationHyperparameters
    device: torch.device
    metric: str = field(default="val_auroc", init=False)
    unit: str = field(default="images", init=False)

    def __post_init__(self) -> None:
        seed = self.settings.seed
        self._order = Generator().manual_seed(seed)
        self._augment = ImageAugmentation(self.settings.flips, Generator(self.device).manual_seed(seed))
        balanced = self.settings.class_weights == "balanced"
        self._weights = balanced_weights(self.train.labels, len(self.classes)).to(self.device) if balanced else None
        self._predicted: NDArray[np.int64] = np.zeros(0, np.int64)

    @property
    def steps_per_epoch(self) -> int:
        """Batches an epoch; a last batch of one image is left out, which batch normalisation can't take."""
        num, size = len(self.train), self.settings.batch_size
        whole, rest = divmod(num, size)
        return max(1, whole + (rest > 1 or (rest == 1 and size == 1)))

    def batches(self, epoch: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield (images float32 [N, C, S, S], labels int64 [N]) in a new order each epoch."""
        order = torch.randperm(len(self.train), generator=self._order).to(self.train.labels.device)
        for index in torch.split(order, self.settings.batch_size)[: self.steps_per_epoch]:
            images = self.train.images[index].to(self.device, non_blocking=True)
            images = self._augment(images) if self.settings.augment else images
            yield standardise(images, self.rule), self.train.labels[index].to(self.device)

    def loss(self, model: nn.Module, batch: tuple[Tensor, Tensor]) -> tuple[Tensor, int]:
        """Cross-entropy with class weights and label smoothing; a mean over images."""
        images, labels = batch
        return self._cross_entropy(model(images).float(), labels, self.settings.label_smoothing), len(labels)

    def validate(self, model: nn.Module) -> dict[str, float]:
        """val_loss, val_auroc (macro, one class against the rest) and val_accuracy."""
        chunks = torch.split(self.val.images, EVAL_BATCH_SIZE)
        logits = torch.cat([model(standardise(chunk.to(self.device), self.rule)).float() for chunk in chunks])
        loss = float(self._cross_entropy(logits, self.val.labels.to(self.device), 0.0))
        if not math.isfinite(loss):  # scikit-learn refuses NaN; the loop says what it means
            return {"val_loss": loss, "val_auroc": math.nan, "val_accuracy": math.nan}
        probabilities = logits.double().softmax(dim=1).cpu().numpy()
        self._predicted = probabilities.argmax(axis=1)
        metrics = classification_metrics(self.val.labels.cpu().numpy(), probabilities, self.classes)
        return {"val_loss": loss, "val_auroc": metrics["macro_auroc"], "val_accuracy": metrics["accuracy"]}

    def pictures(self) -> dict[str, Picture]:
        """A dozen validation images with class and prediction, and the confusion matrix."""
        truth, chosen = self.val.labels.cpu().numpy(), sample_indices(len(self.val))
        images = [self.val.images[k].float().cpu().numpy() for k in chosen]
        found = {
            "samples": samples_panel(images, truth[chosen].tolist(), self._predicted[chosen].tolist(), self.classes)
        }
        matrix = confusion_panel(truth, self._predicted, self.classes)
        return found if matrix is None else {**found, "confusion": matrix}

    def _cross_entropy(self, logits: Tensor, labels: Tensor, smoothing: float) -> Tensor:
        """A mean over images; torch's own divides by the batch's sum of weights, which differs between batches."""
        losses = functional.cross_entropy(
            logits, labels, weight=self._weights, label_smoothing=smoothing, reduction="none"
        )
        return losses.mean()


def balanced_weights(labels: Tensor, num_classes: int) -> Tensor:
    """Weight of each class: inverse to its number of images, and 1 in the mean over images."""
    counts = torch.bincount(labels.cpu(), minlength=num_classes).float()
    return len(labels) / (num_classes * counts.clamp(min=1))


def train_classifier(job: TrainingJob, settings: ClassificationHyperparameters) -> FitResult:
    """Train on the channels `train` and `val`, choose the best epoch by macro AUROC on `val`, write the model folder.

    Raises:
        DataError: A channel, split.json or an image can't be used.
        SettingError: Training diverges.
    """
    seed_everything(settings.seed)
    device = pick_device()
    split = read_split_record(job.channel("split") / "split.json")
    if split.task != "classification":
        raise DataError(f"split.json: its task is {split.task}; give the output of a classification split")
    folders = {name: channel_folder(job.channel(name), job.channel("split"), name) for name in TRAINING_SPLITS}
    files = {name: list_images(folder, name, split.classes) for name, folder in folders.items()}
    _check_counts(files, split.classes)
    network = networks.describe(settings, len(split.classes))
    model = networks.build(network)
    pretrained = load_pretrained(job, model, network, split.classes)
    train, val = (_load(files[name], settings) for name in ("train", "val"))
    rule = fit_preprocessing(train.images, settings.image_size, settings.channels)
    task = ClassificationTask(*_place(train, val, device), split.classes, rule, settings, device)
    with tracking(run_info("classification", settings, split), job.output_dir) as run:
        result = fit(model, task, settings, device=device, checkpoint_dir=job.checkpoint_dir, tracking=run)
        record = make_record(
            task="classification", network=network, classes=split.classes, preprocessing=rule, inference=None,
            split=split, pretrained=pretrained, settings=settings, best=result.best, tracking=run.runs(),
        )  # fmt: skip
        write_model(job.model_dir, model, record, result.history)
        run.model(job.model_dir)
    return result


def list_images(folder: Path, channel: str, classes: list[str]) -> list[tuple[Path, int]]:
    """The images of a channel with their class indices, sorted.

    Args:
        folder: Holds `<class>/<image>.png|jpg`.
        channel: Named in errors.
        classes: By index, as in split.json.

    Raises:
        DataError: A folder is none of the classes, or there is no image at all.
    """
    found: list[tuple[Path, int]] = []
    for sub in sorted(p for p in folder.iterdir() if p.is_dir() and not p.name.startswith(".")):
        images = sorted(p for p in sub.iterdir() if p.suffix.lower() in SUFFIXES and not p.name.startswith("."))
        if images and sub.name not in classes:
            raise DataError(f"channel {channel}: folder {sub.name} is no class of split.json; split the data again")
        found += [(path, classes.index(sub.name)) for path in images]
    if not found:
        raise DataError(f"channel {channel}: holds no image; give a folder with <class>/<image>.png")
    return found


def _check_counts(files: Mapping[Literal["train", "val"], list[tuple[Path, int]]], classes: list[str]) -> None:
    """Refuse what can't be learnt or scored, before a network is built; say which classes go unscored."""
    present = {name: {index for _, index in found} for name, found in files.items()}
    absent = {name: [c for i, c in enumerate(classes) if i not in present[name]] for name in files}
    for name, found in files.items():
        print(f"channel {name}: {len(found)} images of {len(present[name])} classes", flush=True)
    if absent["train"]:
        raise DataError(f"channel train: no image of class {', '.join(absent['train'])}; add patients who have one")
    if len(present["val"]) < 2:
        only = next(c for i, c in enumerate(classes) if i in present["val"])
        raise DataError(f"channel val: holds only class {only}, and AUROC needs two; add patients of other classes")
    if absent["val"]:
        print(f"channel val: no image of class {', '.join(absent['val'])}; val_auroc leaves it out", flush=True)


def _load(files: list[tuple[Path, int]], settings: ClassificationHyperparameters) -> LabelledImages:
    paths = [path for path, _ in files]
    images = load_images(paths, settings.image_size, settings.channels, settings.num_workers)
    labels = torch.tensor([index for _, index in files])
    # By content: files are named by pseudonyms, and another key must not give another order, hence another model.
    order = torch.tensor(sorted(range(len(files)), key=lambda k: _digest(images[k])))
    return LabelledImages(images[order], labels[order])


def _digest(image: Tensor) -> bytes:
    return hashlib.sha256(image.numpy().tobytes()).digest()


def _place(train: LabelledImages, val: LabelledImages, device: torch.device) -> tuple[LabelledImages, LabelledImages]:
    """Both splits on the GPU where they take less than half of what is free there; else pinned on the CPU."""
    if device.type != "cuda":
        return train, val
    free, _ = torch.cuda.mem_get_info(device)
    if 2 * (train.images.nbytes + val.images.nbytes) < free:
        return tuple(LabelledImages(s.images.to(device), s.labels.to(device)) for s in (train, val))  # type: ignore[return-value]
    return tuple(LabelledImages(s.images.pin_memory(), s.labels) for s in (train, val))  # type: ignore[return-value]
