"""The workshop's loop with medloop's validation: the same score, at the original resolution, for both sides."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import torch
from torch import Tensor, nn

from medloop.documents.hyperparameters import (
    ClassificationHyperparameters,
    Hyperparameters,
    SegmentationHyperparameters,
)
from medloop.imaging import networks
from medloop.imaging.auroc import macro_auroc
from medloop.imaging.volumes import label_map
from medloop.training.compute import seed_everything
from medloop.training.segmentation_task import mean_dice
from workshop import loops, models, ours
from workshop.loops import Files
from workshop.sizes import Baseline, task_of


@dataclass(frozen=True)
class Point:
    """A validation.

    Args:
        epoch: Trained until then.
        seconds: Since the run began, validations included.
        score: Macro AUROC, or mean foreground Dice at the original resolution.
    """

    epoch: int
    seconds: float
    score: float


def warm_imports() -> None:
    """Import the modules of both sides, so that no side's time includes it."""
    for name in ("monai.data", "monai.losses", "monai.networks.nets", "monai.transforms", "torchvision"):
        import_module(name)
    for name in ("medloop.training.classification", "medloop.training.segmentation"):
        import_module(name)


def run_ours(folder: Path, settings: Hyperparameters) -> list[Point]:
    """Train with ours; returns a point for each validated epoch."""
    rows = ours.train(folder, settings.model_dump())
    return [
        Point(int(row.metrics["epoch"]), row.seconds, row.metrics[name])
        for row in rows
        for name in ("val_dice", "val_auroc")
        if name in row.metrics
    ]


def run_workshop(
    folder: Path, settings: Hyperparameters, classes: Sequence[str], workers: int, device: torch.device
) -> list[Point]:
    """Train with the workshop's loop, with the same network, batch, learning rate and number of epochs.

    Args:
        folder: Of the split.
        settings: Ours.
        classes: Names by index.
        workers: DataLoader processes.
        device: Where to train.
    """
    began = time.perf_counter()
    seed_everything(settings.seed)
    task = task_of(settings.model_name)  # type: ignore[attr-defined]
    outputs = 1 if task == "segmentation" else len(classes)
    model = networks.build(networks.describe(settings, outputs))
    steps = _steps(settings)
    baseline = Baseline(settings.batch_size, workers)
    train, val = (loops.list_files(folder / name, task) for name in ("train", "val"))
    loop = loops.workshop_on(model, train, steps, task, baseline, settings.learning_rate, device)
    cases = _Cases(val, steps, list(classes), device)
    return list(_points(loop, cases, settings, began))


def _points(loop: loops.Loop, cases: _Cases, settings: Hyperparameters, began: float) -> Iterator[Point]:
    epochs = loop.epochs()
    for epoch in range(1, settings.epochs + 1):
        next(epochs)
        if epoch % settings.val_interval == 0 or epoch == settings.epochs:
            yield Point(epoch, time.perf_counter() - began, cases.score(loop.model))


def _steps(settings: Hyperparameters) -> list[Any]:
    from monai import transforms

    if isinstance(settings, ClassificationHyperparameters):
        return loops.deterministic("classification", (settings.image_size, settings.image_size))
    assert isinstance(settings, SegmentationHyperparameters)  # noqa: S101 - there are two tasks
    # The workshop's window is for CT; both sides get the window for the data.
    zscore = transforms.NormalizeIntensityd("image") if settings.intensity == "zscore" else None
    return loops.deterministic("segmentation", settings.size, zscore)


@dataclass
class _Cases:
    """The validation split after the workshop's transforms, and its truth as stored."""

    files: Files
    steps: list[Any]
    classes: list[str]
    device: torch.device

    def __post_init__(self) -> None:
        from monai.transforms import Compose

        prepare = Compose(self.steps)
        self.images = [torch.as_tensor(prepare(file)["image"].as_tensor()) for file in self.files]

    @torch.no_grad()
    def score(self, model: nn.Module) -> float:
        """Compute medloop's score for either task."""
        model.eval()
        outputs = [models.first_output(model(image[None].to(self.device)))[0].float() for image in self.images]
        if isinstance(self.files[0]["label"], int):
            return self._auroc(outputs)
        return float(np.nanmean([self._dice(file, output) for file, output in zip(self.files, outputs, strict=True)]))

    def _auroc(self, outputs: list[Tensor]) -> float:
        truth = np.array([file["label"] for file in self.files])
        probabilities = torch.stack(outputs).double().softmax(dim=1).cpu().numpy()
        return macro_auroc(truth, probabilities)

    def _dice(self, file: dict[str, Any], output: Tensor) -> float:
        truth = (np.asarray(nib.load(file["label"]).dataobj) > 0).astype(np.uint8)
        x, y, z = truth.shape
        structure = output[0].sigmoid()
        prediction = label_map(torch.stack([1 - structure, structure]), (x, y, z)).cpu().numpy()
        return mean_dice(truth, prediction, 2)
