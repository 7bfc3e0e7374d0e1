"""Segmentation channels (`<subject>/{img,label}.nii.gz`), checked and turned into what training and validation take.

Deterministic work is done once, here; what comes out are plain tensors that stay in memory for the whole run.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from medloop.errors import DataError
from medloop.imaging import intensity
from medloop.imaging.patches import TrainingVolume, training_volume
from medloop.imaging.split_record import Split, SplitRecord
from medloop.imaging.volumes import (
    Shape,
    Volume,
    preprocess,
    read_case,
    read_spacing,
    resize_label,
    to_ras,
)
from medloop.training.model_record import Triple, VolumePreprocessing
from medloop.training.settings import SegmentationHyperparameters


@dataclass(frozen=True)
class Subjects:
    """The subjects' folders of one channel, and what their labels may hold."""

    channel: Split
    folders: Sequence[Path]
    classes: Sequence[str]

    def read(self) -> Iterator[tuple[Volume, Volume]]:
        """Yield (image, label), both on the subject's own grid, checked; one subject in memory at a time.

        Raises:
            DataError: A file can't be used; the message names channel, subject and file.
        """
        for folder in self.folders:
            try:
                case = read_case(folder, self.classes)
            except DataError as error:
                raise DataError(f"channel {self.channel}: {error}") from None
            yield case


@dataclass(frozen=True)
class ValidationVolume:
    """A preprocessed volume with its label on both grids.

    Args:
        image: float32 [x, y, z], as the network takes it.
        label: uint8 [x, y, z], for the loss.
        truth: uint8 [X, Y, Z] at the original resolution, in RAS; never resampled.
    """

    image: Tensor
    label: Tensor
    truth: Tensor

    @property
    def num_bytes(self) -> int:
        """Memory it takes."""
        return sum(t.numel() * t.element_size() for t in (self.image, self.label, self.truth))


def list_subjects(root: Path, channel: Split, split: SplitRecord, classes: Sequence[str]) -> Subjects:
    """Find a channel's subjects.

    Args:
        root: The channel's folder.
        channel: `train` or `val`.
        split: Says which subjects belong here.
        classes: Names by label value, the background first.

    Raises:
        DataError: The channel holds no subject, or another set of subjects than split.json says.
    """
    folders = sorted(path for path in root.iterdir() if path.is_dir() and not path.name.startswith("."))
    if not folders:
        raise DataError(f"channel {channel} holds no subject; give <subject>/img.nii.gz and <subject>/label.nii.gz")
    found, known = {path.name for path in folders}, set(split.patient_of(channel))
    for name in sorted(found ^ known):
        where = "is in the channel, not in split.json" if name in found else "is in split.json, not in the channel"
        raise DataError(f"channel {channel}: {name} {where}; give the outputs of one split step")
    return Subjects(channel, folders, classes)


def fit_preprocessing(subjects: Subjects, settings: SegmentationHyperparameters) -> VolumePreprocessing:
    """Measure on the training volumes what the settings leave open: spacing and intensity statistics.

    Raises:
        DataError: A file can't be used.
    """
    rule = intensity.fit(settings, ((image.voxels, label.voxels) for image, label in subjects.read()))
    if settings.mode == "resize":
        return VolumePreprocessing(mode="resize", size=settings.size, spacing=None, intensity=rule)
    spacing = settings.spacing or _median_spacing(subjects)
    return VolumePreprocessing(mode="patch", size=None, spacing=spacing, intensity=rule)


def _median_spacing(subjects: Subjects) -> Triple:
    spacings = [read_spacing(folder) for folder in subjects.folders]
    x, y, z = (float(median(sizes)) for sizes in zip(*spacings, strict=True))
    return x, y, z


def load_training(subjects: Subjects, rule: VolumePreprocessing) -> list[tuple[Tensor, Tensor]]:
    """Read and preprocess the training volumes.

    Returns:
        (image float32 [x, y, z], label uint8 [x, y, z]) of each subject.

    Raises:
        DataError: A file can't be used, or a class occurs in no label.
    """
    pairs = []
    for image, label in subjects.read():
        pairs.append(_preprocess_pair(image, to_ras(label).voxels, rule))
    seen = {value for _, label in pairs for value in torch.unique(label).tolist()}
    missing = sorted(set(range(1, len(subjects.classes))) - seen)
    if missing:
        names = ", ".join(f"{value} ({subjects.classes[value]})" for value in missing)
        raise DataError(f"channel {subjects.channel}: no label holds value {names}; mend `labels` or the label files")
    return pairs


def load_validation(subjects: Subjects, rule: VolumePreprocessing) -> list[ValidationVolume]:
    """Read and preprocess the validation volumes, and keep their truth as it is.

    Raises:
        DataError: A file can't be used, or no label holds foreground.
    """
    volumes = []
    for image, label in subjects.read():
        truth = to_ras(label).voxels
        prepared = _preprocess_pair(image, truth, rule)
        volumes.append(ValidationVolume(*prepared, torch.from_numpy(truth)))
    if not any(bool(volume.truth.any()) for volume in volumes):
        raise DataError(f"channel {subjects.channel}: no label holds foreground, so there is no Dice; mend the labels")
    return volumes


def _preprocess_pair(image: Volume, truth: NDArray[np.uint8], rule: VolumePreprocessing) -> tuple[Tensor, Tensor]:
    prepared = preprocess(image, rule)
    x, y, z = prepared.shape
    return prepared, resize_label(torch.from_numpy(truth), (x, y, z))


def fit_patch(wanted: Shape, pairs: Sequence[tuple[Tensor, Tensor]], multiple: int) -> Shape:
    """The patch, cut to what the largest training volume needs: padding beyond that would only cost time.

    Args:
        wanted: The settings' patch_size.
        pairs: Preprocessed training volumes.
        multiple: The network takes edges that are multiples of it, and more than one of them in all.
    """
    largest = (max(image.shape[axis] for image, _ in pairs) for axis in range(3))
    x, y, z = (min(edge, -(-size // multiple) * multiple) for edge, size in zip(wanted, largest, strict=True))
    if x == y == z == multiple:
        return wanted
    return x, y, z


def prepare_training(pairs: Sequence[tuple[Tensor, Tensor]], patch: Shape, seed: int) -> list[TrainingVolume]:
    """Pad training volumes to the patch and draw their candidate centres."""
    return [training_volume(image, label, patch, seed) for image, label in pairs]
