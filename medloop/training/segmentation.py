"""Training of 3D segmentation: from the job's channels to the model folder."""

from __future__ import annotations

import os
from dataclasses import dataclass

import torch

from medloop.container.training import TrainingJob
from medloop.documents.hyperparameters import SegmentationHyperparameters
from medloop.documents.label_names import MAX_CLASSES
from medloop.documents.model import Inference, VolumePreprocessing
from medloop.documents.networks import traits
from medloop.documents.split import SplitRecord
from medloop.errors import DataError, SettingError
from medloop.imaging import networks, segment_dataset
from medloop.imaging.cache import Cache
from medloop.imaging.device import pick_device
from medloop.imaging.manifest import TRAINING_SPLITS, channel_folder
from medloop.imaging.network_grid import Shape
from medloop.imaging.patches import PatchSampler, TrainingVolume
from medloop.imaging.segment_dataset import ValidationVolume
from medloop.imaging.volume_augmentation import VolumeAugmentation
from medloop.training.compute import channels_last, seed_everything
from medloop.training.losses import VolumeLoss
from medloop.training.placement import GpuMemory, place_volumes
from medloop.training.pretrained import load_pretrained
from medloop.training.provenance import Provenance
from medloop.training.ranks import Ranks, join_ranks
from medloop.training.segmentation_task import SegmentationTask
from medloop.training.tracking.open import tracking
from medloop.training.trainer import FitResult, Trainer
from medloop.training.weights import write_model


@dataclass(frozen=True)
class _Data:
    """The data of the channels, prepared for training."""

    training: list[TrainingVolume]
    validation: list[ValidationVolume]
    patch: Shape
    preprocessing: VolumePreprocessing
    inference: Inference


def train_segmenter(job: TrainingJob, settings: SegmentationHyperparameters) -> FitResult:
    """Train on the channels `train` and `val`, choose the best epoch by Dice on `val`, and write the model folder.

    Volumes are read, validated and preprocessed before the first epoch, and stay in memory; their size is logged.

    Raises:
        DataError: A channel, split.json or a volume can't be used.
        SettingError: A hyperparameter doesn't suit the network or the data.
    """
    device = pick_device()
    with join_ranks(device) as ranks:
        return _train(job, settings, device, ranks)


def _train(job: TrainingJob, settings: SegmentationHyperparameters, device: torch.device, ranks: Ranks) -> FitResult:
    seed_everything(settings.seed)
    split = SplitRecord.read(job.channel("split"))
    classes = _classes(settings, split)
    network = networks.describe(settings, len(classes))
    multiple = networks.shape_multiple(network)
    _check_shape(settings, multiple)
    model = networks.build(network)
    pretrained = load_pretrained(job, model, network, classes)
    data = _load(job, settings, split, classes, multiple, ranks)
    task = _make_task(settings, data, len(classes), device, ranks)
    origin = Provenance(network, classes, split, pretrained, settings)
    with tracking(origin.run_info(), job.output_dir) as run:
        trainer = Trainer(
            model, task, settings, device=device, checkpoint_dir=job.checkpoint_dir, ranks=ranks,
            network=network.name, identity=origin.identity(), tracking=run,
        )  # fmt: skip
        result = trainer.fit()
        record = origin.record(data.preprocessing, result.best, run.runs(), inference=data.inference)
        if ranks.first:
            write_model(job.model_dir, result.model, record, result.history)
            run.model(job.model_dir)
    return result


def _classes(settings: SegmentationHyperparameters, split: SplitRecord) -> list[str]:
    if split.task != "segmentation":
        raise DataError(f"split.json: its task is {split.task}; give the output of a segmentation split")
    classes = settings.labels or split.classes
    if not 2 <= len(classes) <= MAX_CLASSES:
        raise SettingError(f"labels: {len(classes)} classes; name the background and 1 to {MAX_CLASSES - 1} structures")
    return classes


def _check_shape(settings: SegmentationHyperparameters, multiple: int) -> None:
    name = "size" if settings.mode == "resize" else "patch_size"
    shape: Shape = getattr(settings, name)
    if any(edge < multiple or edge % multiple for edge in shape):
        nearest = [max(multiple, round(edge / multiple) * multiple) for edge in shape]
        raise SettingError(
            f"hyperparameter {name}={list(shape)}: {settings.model_name} takes multiples of {multiple}; try {nearest}"
        )
    if all(edge == multiple for edge in shape):  # normalisation over a single voxel is undefined
        raise SettingError(
            f"hyperparameter {name}={list(shape)}: leaves one voxel at the deepest level of {settings.model_name}; "
            f"try {[2 * multiple] * 3}"
        )


def _load(
    job: TrainingJob,
    settings: SegmentationHyperparameters,
    split: SplitRecord,
    classes: list[str],
    multiple: int,
    ranks: Ranks,
) -> _Data:
    train, val = (
        segment_dataset.list_subjects(
            channel_folder(job.channel(name), job.channel("split"), name), name, split, classes
        )
        for name in TRAINING_SPLITS
    )
    how = (Cache.open(os.environ), settings.num_workers, ranks.local_share, ranks.barrier)
    rule = segment_dataset.fit_preprocessing(train, settings, *how)
    pairs = segment_dataset.load_training(train, rule, *how)
    validation = segment_dataset.load_validation(val, rule, *how)
    patches = settings.mode == "patch"
    shape = segment_dataset.fit_patch(settings.patch_size, pairs, multiple) if patches else settings.size
    volumes = segment_dataset.prepare_training(pairs, shape, settings.seed, settings.num_workers)
    if ranks.first:
        num_bytes = sum(v.num_bytes for v in volumes) + sum(v.num_bytes for v in validation)
        counts = f"{len(volumes)} training and {len(validation)} validation volumes"
        print(f"{counts} take {num_bytes / 2**20:.0f} MiB of memory", flush=True)
    inference = Inference(patch_size=shape if patches else None, overlap=settings.overlap, mirroring=settings.mirroring)
    return _Data(volumes, validation, shape, rule, inference)


def _make_task(
    settings: SegmentationHyperparameters, data: _Data, num_classes: int, device: torch.device, ranks: Ranks
) -> SegmentationTask:
    spacing = data.preprocessing.spacing or (1.0, 1.0, 1.0)
    training, validation = place_volumes(data.training, data.validation, GpuMemory(settings.data_device, device))
    visits = settings.patches_per_volume if settings.mode == "patch" else 1
    return SegmentationTask(
        sampler=PatchSampler(training, data.patch, visits, settings.foreground_ratio),
        augmentation=VolumeAugmentation(spacing, settings.flips) if settings.augment else None,
        validation=validation,
        loss_function=VolumeLoss(settings.loss),
        inference=data.inference,
        num_classes=num_classes,
        seed=settings.seed,
        device=device,
        last=channels_last(settings, traits(settings.model_name)),
        ranks=ranks,
    )
