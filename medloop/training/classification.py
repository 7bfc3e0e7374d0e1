"""Training of 2D image classification: from the job's channels to the model folder."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import torch

from medloop.container.metrics import name_in_log
from medloop.container.training import TrainingJob
from medloop.documents.hyperparameters import ClassificationHyperparameters
from medloop.documents.model import ImagePreprocessing
from medloop.documents.networks import traits
from medloop.documents.split import SplitRecord
from medloop.errors import DataError
from medloop.imaging import networks
from medloop.imaging.cache import Cache
from medloop.imaging.classify_dataset import fit_rule, list_images, load_labelled, measure_files
from medloop.imaging.device import pick_device
from medloop.imaging.manifest import TRAINING_SPLITS, channel_folder
from medloop.training.classification_task import ClassificationTask, min_training_rows
from medloop.training.compute import channels_last, seed_everything
from medloop.training.image_settings import choose_settings, unfitted_rule
from medloop.training.placement import GpuMemory, place_images
from medloop.training.pretrained import load_pretrained, pretrained_preprocessing
from medloop.training.provenance import Provenance
from medloop.training.ranks import Ranks, join_ranks
from medloop.training.tracking.open import tracking
from medloop.training.trainer import FitResult, Trainer
from medloop.training.weights import write_model


def train_classifier(job: TrainingJob, settings: ClassificationHyperparameters) -> FitResult:
    """Train on the channels `train` and `val`, choose the best epoch by macro AUROC on `val`, write the model folder.

    Raises:
        DataError: A channel, split.json or an image can't be used.
        SettingError: Training diverges.
    """
    device = pick_device()
    with join_ranks(device) as ranks:
        return _train(job, settings, device, ranks)


def _train(job: TrainingJob, settings: ClassificationHyperparameters, device: torch.device, ranks: Ranks) -> FitResult:
    seed_everything(settings.seed)
    split = SplitRecord.read(job.channel("split"))
    if split.task != "classification":
        raise DataError(f"split.json: its task is {split.task}; give the output of a classification split")
    folders = {name: channel_folder(job.channel(name), job.channel("split"), name) for name in TRAINING_SPLITS}
    files = {name: list_images(folder, name, split.classes) for name, folder in folders.items()}
    _check_counts(files, split.classes)
    images = split.images or measure_files([path for path, _ in files["train"]], settings.num_workers)
    settings = choose_settings(settings, images, pretrained_preprocessing(job))
    network = networks.describe(settings, len(split.classes))
    model = networks.build(network)
    pretrained = load_pretrained(job, model, network, split.classes)
    task, rule = _make_task(settings, unfitted_rule(settings, images), files, split, device, ranks)
    task.min_rows = min_training_rows(model)
    origin = Provenance(network, split.classes, split, pretrained, settings)
    with tracking(origin.run_info(), job.output_dir) as run:
        trainer = Trainer(
            model, task, settings, device=device, checkpoint_dir=job.checkpoint_dir, ranks=ranks,
            network=network.name, identity=origin.identity(), tracking=run,
        )  # fmt: skip
        result = trainer.fit(on_finish=task.calibrate)
        record = origin.record(rule, result.best, run.runs(), calibration=task.calibration)
        if ranks.first:
            write_model(job.model_dir, result.model, record, result.history)
            run.model(job.model_dir)
    return result


def _make_task(
    settings: ClassificationHyperparameters,
    rule: ImagePreprocessing,
    files: Mapping[Literal["train", "val"], list[tuple[Path, int]]],
    split: SplitRecord,
    device: torch.device,
    ranks: Ranks,
) -> tuple[ClassificationTask, ImagePreprocessing]:
    cache = Cache.open(os.environ)
    train, val = (
        load_labelled(files[name], rule, cache, ranks.local_share, ranks.barrier, settings.num_workers)
        for name in TRAINING_SPLITS
    )
    rule = fit_rule(train, rule)
    train, val = place_images((train, val), GpuMemory(settings.data_device, device))
    last = channels_last(settings, traits(settings.model_name))
    task = ClassificationTask(train, val, split.classes, rule, settings, device, last, ranks)
    task.num_val_patients = split.counts["val"].num_patients if split.identifiers != "none" else None
    return task, rule


def _check_counts(files: Mapping[Literal["train", "val"], list[tuple[Path, int]]], classes: list[str]) -> None:
    """Refuse data that can't be learnt or scored before a network is built; report classes that are not scored."""
    present = {name: {index for _, index in images} for name, images in files.items()}
    absent = {name: [c for i, c in enumerate(classes) if i not in present[name]] for name in files}
    for name, images in files.items():
        print(f"channel {name}: {len(images)} images of {len(present[name])} classes", flush=True)
    if absent["train"]:
        raise DataError(f"channel train: no image of class {', '.join(absent['train'])}; add patients who have one")
    if len(present["val"]) < 2:
        only = next(c for i, c in enumerate(classes) if i in present["val"])
        raise DataError(f"channel val: contains only class {only}, and AUROC needs two; add patients of other classes")
    if absent["val"]:
        names = ", ".join(map(name_in_log, absent["val"]))
        print(f"channel val: no image of class {names}; val_auroc leaves it out", flush=True)
