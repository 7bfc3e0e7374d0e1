"""Training of 3D segmentation: from the job's channels to the model folder."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Generator, Tensor, nn

from medloop.container.training import TrainingJob
from medloop.errors import DataError, SettingError
from medloop.imaging import networks, segment_dataset
from medloop.imaging.manifest import TRAINING_SPLITS, channel_folder
from medloop.imaging.metrics import dice
from medloop.imaging.patches import PatchSampler
from medloop.imaging.segment_dataset import ValidationVolume
from medloop.imaging.sliding import infer_logits
from medloop.imaging.split_record import SplitRecord, read_split_record
from medloop.imaging.volume_augmentation import VolumeAugmentation
from medloop.imaging.volumes import Shape, label_map
from medloop.training.loop import FitResult, fit, write_model
from medloop.training.model_record import Inference, VolumePreprocessing
from medloop.training.pretrained import load_pretrained
from medloop.training.provenance import make_record, run_info
from medloop.training.seeding import pick_device, seed_everything
from medloop.training.settings import SegmentationHyperparameters
from medloop.training.tracking.base import Picture
from medloop.training.tracking.open import tracking
from medloop.training.tracking.pictures import NUM_CASES, busiest_slice, slice_panel

MAX_CLASSES = 256
"""Labels are kept as uint8."""
Batch = tuple[Tensor, Tensor]


@dataclass
class SegmentationTask:
    """The data, loss and score of one run, as `medloop.training.loop.Task`.

    Args:
        sampler: Training batches.
        augmentation: None leaves batches as they are.
        validation: The validation split's cases.
        loss_function: Takes logits [N, C, x, y, z] and labels [N, 1, x, y, z].
        inference: The rule that prediction will follow.
        num_classes: The background included.
        device: Where batches go.
        generator: Draws the samples; on the CPU, where the volumes are.
    """

    sampler: PatchSampler
    augmentation: VolumeAugmentation | None
    validation: Sequence[ValidationVolume]
    loss_function: nn.Module
    inference: Inference
    num_classes: int
    device: torch.device
    generator: Generator
    metric: str = field(default="val_dice", init=False)
    unit: str = field(default="volumes", init=False)
    _drawn: list[NDArray[np.uint8]] = field(default_factory=list, init=False, repr=False)
    """[x, y, z] predictions on the preprocessed grid of the first validation cases, as last validated."""

    @property
    def steps_per_epoch(self) -> int:
        """Batches an epoch."""
        return self.sampler.batches_per_epoch

    def batches(self, epoch: int) -> Iterator[Batch]:
        """Yield (images float32 [N, 1, x, y, z], labels uint8 [N, 1, x, y, z]) on the device."""
        for images, labels in self.sampler.epoch(self.generator):
            batch = images.to(self.device), labels.to(self.device)
            yield self.augmentation(*batch) if self.augmentation else batch

    def loss(self, model: nn.Module, batch: Batch) -> tuple[Tensor, int]:
        """Mean loss of the batch, and how many volumes (patches, where patches are drawn) it holds."""
        images, labels = batch
        value: Tensor = self.loss_function(model(images).float(), labels.long())
        return value, len(images)

    def validate(self, model: nn.Module) -> dict[str, float]:
        """Loss on the preprocessed grid, and Dice at the original resolution, both as means over cases."""
        self._drawn.clear()
        results = [self._validate_case(model, case) for case in self.validation]
        losses, scores = zip(*results, strict=True)
        return {"val_loss": float(np.mean(losses)), "val_dice": float(np.nanmean(scores))}

    def _validate_case(self, model: nn.Module, case: ValidationVolume) -> tuple[float, float]:
        logits = infer_logits(model, case.image.to(self.device), self.inference)
        loss = float(self.loss_function(logits[None], case.label.to(self.device).long()[None, None]))
        x, y, z = case.truth.shape
        prediction = label_map(logits.softmax(dim=0), (x, y, z)).cpu().numpy()
        if len(self._drawn) < NUM_CASES:
            self._drawn.append(logits.argmax(dim=0).to(torch.uint8).cpu().numpy())
        return loss, mean_dice(case.truth.numpy(), prediction, self.num_classes)

    def pictures(self) -> dict[str, Picture]:
        """For the first validation cases: the slice with most of the structures, with truth and prediction."""
        return {
            f"case_{number}": _panel(case, predicted)
            for number, (case, predicted) in enumerate(zip(self.validation, self._drawn, strict=False), start=1)
        }


def _panel(case: ValidationVolume, predicted: NDArray[np.uint8]) -> Picture:
    image, label = case.image.float().numpy(), case.label.numpy()
    z = busiest_slice(label, predicted)
    return slice_panel(image[..., z], label[..., z], predicted[..., z])


def mean_dice(truth: NDArray[np.uint8], prediction: NDArray[np.uint8], num_classes: int) -> float:
    """Mean Dice of a case's foreground classes; what neither map holds is left out, and with none left it is NaN."""
    scores = [dice(truth == label, prediction == label) for label in range(1, num_classes)]
    defined = [score for score in scores if not math.isnan(score)]
    return sum(defined) / len(defined) if defined else math.nan


def make_loss(name: str) -> nn.Module:
    """The loss of that name; the background counts in cross-entropy, not in Dice.

    Dice is taken over the batch: a patch without a class would else add pure noise.
    """
    from monai.losses import DiceCELoss, DiceLoss  # seconds to import

    loss = {"dice_ce": DiceCELoss, "dice": DiceLoss}[name]
    module: nn.Module = loss(include_background=False, to_onehot_y=True, softmax=True, batch=True)
    return module


@dataclass(frozen=True)
class _Data:
    """What the channels hold, ready for training."""

    sampler: PatchSampler
    validation: list[ValidationVolume]
    preprocessing: VolumePreprocessing
    inference: Inference


def train_segmenter(job: TrainingJob, settings: SegmentationHyperparameters) -> FitResult:
    """Train on the channels `train` and `val`, choose the best epoch by Dice on `val`, and write the model folder.

    Volumes are read, checked and preprocessed before the first epoch, and stay in memory; the log says what they take.

    Raises:
        DataError: A channel, split.json or a volume can't be used.
        SettingError: A hyperparameter doesn't suit the network or the data.
    """
    seed_everything(settings.seed)
    split = read_split_record(job.channel("split") / "split.json")
    classes = _classes(settings, split)
    network = networks.describe(settings, len(classes))
    multiple = networks.shape_multiple(network)
    _check_shape(settings, multiple)
    model = networks.build(network)
    pretrained = load_pretrained(job, model, network, classes)
    data = _load(job, settings, split, classes, multiple)
    device = pick_device()
    task = _make_task(settings, data, len(classes), device)
    with tracking(run_info("segmentation", settings, split), job.output_dir) as run:
        result = fit(model, task, settings, device=device, checkpoint_dir=job.checkpoint_dir, tracking=run)
        record = make_record(
            task="segmentation", network=network, classes=classes, preprocessing=data.preprocessing,
            inference=data.inference, split=split, pretrained=pretrained, settings=settings, best=result.best,
            tracking=run.runs(),
        )  # fmt: skip
        write_model(job.model_dir, model, record, result.history)
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
    job: TrainingJob, settings: SegmentationHyperparameters, split: SplitRecord, classes: list[str], multiple: int
) -> _Data:
    train, val = (
        segment_dataset.list_subjects(
            channel_folder(job.channel(name), job.channel("split"), name), name, split, classes
        )
        for name in TRAINING_SPLITS
    )
    rule = segment_dataset.fit_preprocessing(train, settings)
    pairs = segment_dataset.load_training(train, rule)
    validation = segment_dataset.load_validation(val, rule)
    patches = settings.mode == "patch"
    shape = segment_dataset.fit_patch(settings.patch_size, pairs, multiple) if patches else settings.size
    volumes = segment_dataset.prepare_training(pairs, shape, settings.seed)
    sampler = PatchSampler(
        volumes, shape, settings.patches_per_volume if patches else 1, settings.foreground_ratio, settings.batch_size
    )
    num_bytes = sum(v.num_bytes for v in volumes) + sum(v.num_bytes for v in validation)
    counts = f"{len(volumes)} training and {len(validation)} validation volumes"
    print(f"{counts} take {num_bytes / 2**20:.0f} MiB of memory", flush=True)
    inference = Inference(patch_size=shape if patches else None, overlap=settings.overlap, mirroring=settings.mirroring)
    return _Data(sampler, validation, rule, inference)


def _make_task(
    settings: SegmentationHyperparameters, data: _Data, num_classes: int, device: torch.device
) -> SegmentationTask:
    spacing = data.preprocessing.spacing or (1.0, 1.0, 1.0)
    on_device = Generator(device).manual_seed(settings.seed)
    return SegmentationTask(
        sampler=data.sampler,
        augmentation=VolumeAugmentation(spacing, settings.flips, on_device) if settings.augment else None,
        validation=data.validation,
        loss_function=make_loss(settings.loss),
        inference=data.inference,
        num_classes=num_classes,
        device=device,
        generator=Generator().manual_seed(settings.seed),
    )
