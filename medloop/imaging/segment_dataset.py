"""Segmentation channels (a folder for each subject), checked and turned into what training and validation take.

Deterministic work is done once, here, and kept in a cache whose keys are the files' content and the rule: a later run
on the same files unpacks and resamples nothing. What comes out are plain tensors, mapped from the cache's files.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from medloop.documents.hyperparameters import SegmentationHyperparameters
from medloop.documents.model import Intensity, VolumePreprocessing
from medloop.documents.quantities import Triple
from medloop.documents.split import Split, SplitRecord
from medloop.errors import DataError
from medloop.imaging import intensity
from medloop.imaging.cache import Cache, Tensors, file_digest, make_key
from medloop.imaging.files import Volume
from medloop.imaging.layouts import IMAGE, LABEL, LAYOUTS
from medloop.imaging.network_grid import Shape, median_spacing
from medloop.imaging.patches import TrainingVolume, training_volume
from medloop.imaging.preparation import ALONE, Item, Share, count_workers, in_threads, no_barrier, prepare
from medloop.imaging.validation import require_volume
from medloop.imaging.volumes import preprocess, read_case, read_spacing, resize_label, to_ras

PREPARATION = 3
"""Version of what reading, checking and preprocessing make of a subject; raise it when that changes."""
IN_MEMORY = Cache(None, 0)
"""A cache without files."""


@dataclass(frozen=True)
class Subjects:
    """The subjects' folders of one channel, and their class names."""

    channel: Split
    folders: Sequence[Path]
    classes: Sequence[str]
    _digests: list[str | None] = field(default_factory=list, init=False, repr=False, compare=False)

    def read(self, folder: Path) -> tuple[Volume, Volume]:
        """One subject's (image, label), both on its own grid, checked.

        Raises:
            DataError: A file can't be used; the message names channel, subject and file.
        """
        try:
            return read_case(folder, self.classes)
        except DataError as error:
            raise DataError(f"channel {self.channel}: {error}") from None

    def digests(self, num_workers: int = 0) -> list[str | None]:
        """A digest of each subject's files; None where one can't be read, `read` raises the reason."""
        if not self._digests:
            self._digests.extend(in_threads(_digest, self.folders, num_workers))
        return self._digests


def _digest(folder: Path) -> str | None:
    try:
        return make_key(*(file_digest(require_volume(folder, stem)) for stem in (IMAGE, LABEL)))
    except (DataError, OSError):
        return None


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
        split: Lists the subjects of the channel.
        classes: Names by label value, the background first.

    Raises:
        DataError: The channel contains no subject, or another set of subjects than split.json says.
    """
    folders = sorted(path for path in root.iterdir() if path.is_dir() and not path.name.startswith("."))
    if not folders:
        raise DataError(f"channel {channel} contains no subject; give {LAYOUTS['segmentation']}")
    names, known = {path.name for path in folders}, set(split.patient_of(channel))
    for name in sorted(names ^ known):
        state = "is in the channel, not in split.json" if name in names else "is in split.json, not in the channel"
        raise DataError(f"channel {channel}: {name} {state}; give the outputs of one split step")
    return Subjects(channel, folders, classes)


def fit_preprocessing(
    subjects: Subjects,
    settings: SegmentationHyperparameters,
    cache: Cache = IN_MEMORY,
    num_workers: int = 0,
    share: Share = ALONE,
    barrier: Callable[[], None] = no_barrier,
) -> VolumePreprocessing:
    """Measure on the training volumes the values that the settings don't give: spacing and intensity statistics.

    Args:
        subjects: Of the training split.
        settings: The run's.
        cache: Keeps what was measured.
        num_workers: As in `load_training`.
        share: (this process's index among the host's, their number): the first measures.
        barrier: Waits for the others.

    Raises:
        DataError: A file can't be used.
    """
    workers = count_workers(num_workers, share)
    rule = intensity.fit(settings, []) if settings.intensity != "dataset" else None
    items = []
    if rule is None:
        measure = partial(_statistics, subjects, settings, workers)
        items.append(_measured(subjects, "statistics", 4, workers, measure, settings.seed))
    if settings.mode == "patch" and settings.spacing is None:
        items.append(_measured(subjects, "spacing", 3, workers, lambda: _median_spacing(subjects)))
    entries = prepare(items, cache, num_workers=1, share=share, barrier=barrier)
    numbers = [entry["numbers"].tolist() for entry in entries]
    if rule is None:
        low, high, mean, std = numbers.pop(0)
        rule = Intensity(rule="dataset", low=low, high=high, mean=mean, std=std)
    if settings.mode == "resize":
        return VolumePreprocessing(mode="resize", size=settings.size, spacing=None, intensity=rule)
    spacing = tuple(numbers.pop()) if numbers else settings.spacing
    return VolumePreprocessing(mode="patch", size=None, spacing=spacing, intensity=rule)


def _measured(
    subjects: Subjects, name: str, count: int, num_workers: int, measure: Callable[[], Sequence[float]], *also: int
) -> Item:
    """Numbers that follow from all subjects' files."""
    digests = subjects.digests(num_workers)
    key = make_key(name, PREPARATION, list(subjects.classes), digests, *also) if all(digests) else None

    def check(tensors: Mapping[str, Tensor]) -> bool:
        return _forms(tensors) == {"numbers": (torch.float64, 1)} and len(tensors["numbers"]) == count

    return Item(key, lambda: {"numbers": torch.tensor(measure(), dtype=torch.float64)}, check)


def _statistics(subjects: Subjects, settings: SegmentationHyperparameters, num_workers: int) -> Sequence[float]:
    cases = in_threads(subjects.read, subjects.folders, num_workers)
    rule = intensity.fit(settings, ((image.voxels, label.voxels) for image, label in cases))
    return [float(value) for value in (rule.low, rule.high, rule.mean, rule.std) if value is not None]


def _median_spacing(subjects: Subjects) -> Triple:
    return median_spacing([read_spacing(folder) for folder in subjects.folders])


def load_training(
    subjects: Subjects,
    rule: VolumePreprocessing,
    cache: Cache = IN_MEMORY,
    num_workers: int = 0,
    share: Share = ALONE,
    barrier: Callable[[], None] = no_barrier,
) -> list[tuple[Tensor, Tensor]]:
    """Read and preprocess the training volumes, or map them where that was done before.

    Args:
        subjects: Of the training split.
        rule: From `fit_preprocessing`.
        cache: Keeps the prepared volumes.
        num_workers: Threads, each with one subject at a time; 0 takes the cores this process may use, divided among
            the host's processes.
        share: (this process's index among the host's, their number): each prepares its part, and maps all.
        barrier: Waits for the others.

    Returns:
        (image float32 [x, y, z], label uint8 [x, y, z]) of each subject.

    Raises:
        DataError: A file can't be used, or a class occurs in no label.
    """
    entries = _load(subjects, rule, "train", cache, num_workers, share, barrier)
    seen = {value for entry in entries for value in entry["values"].tolist()}
    missing = sorted(set(range(1, len(subjects.classes))) - seen)
    if missing:
        names = ", ".join(f"{value} ({subjects.classes[value]})" for value in missing)
        raise DataError(f"channel {subjects.channel}: no label contains value {names}; correct `labels` or the files")
    return [(entry["image"], entry["label"]) for entry in entries]


def load_validation(
    subjects: Subjects,
    rule: VolumePreprocessing,
    cache: Cache = IN_MEMORY,
    num_workers: int = 0,
    share: Share = ALONE,
    barrier: Callable[[], None] = no_barrier,
) -> list[ValidationVolume]:
    """Read and preprocess the validation volumes, with their truth unchanged; see `load_training`.

    Raises:
        DataError: A file can't be used, or no label contains foreground.
    """
    entries = _load(subjects, rule, "val", cache, num_workers, share, barrier)
    if not any(bool(entry["values"].any()) for entry in entries):
        raise DataError(
            f"channel {subjects.channel}: no label contains foreground, hence no Dice; add patients with foreground"
        )
    return [ValidationVolume(entry["image"], entry["label"], entry["truth"]) for entry in entries]


def _load(
    subjects: Subjects,
    rule: VolumePreprocessing,
    kind: Split,
    cache: Cache,
    num_workers: int,
    share: Share,
    barrier: Callable[[], None],
) -> list[Tensors]:
    workers = count_workers(num_workers, share)
    digests = subjects.digests(workers)
    items = [_item(subjects, rule, kind, *pair) for pair in zip(subjects.folders, digests, strict=True)]
    title = f"{kind} volumes"
    return prepare(items, cache, num_workers=workers, share=share, barrier=barrier, title=title)


def _item(subjects: Subjects, rule: VolumePreprocessing, kind: Split, folder: Path, digest: str | None) -> Item:
    """An entry of `image`, `label` and the `values` that occur; for a validation subject the original `truth` too."""
    recipe = ("volume", kind, PREPARATION, rule.model_dump(mode="json"), list(subjects.classes))
    forms = {"image": (torch.float32, 3), "label": (torch.uint8, 3), "values": (torch.uint8, 1)}
    forms |= {"truth": (torch.uint8, 3)} if kind == "val" else {}

    def make() -> Tensors:
        image, label = subjects.read(folder)
        truth = to_ras(label).voxels
        prepared, original = {"image": preprocess(image, rule)}, torch.from_numpy(truth)
        x, y, z = prepared["image"].shape
        prepared["label"] = resize_label(original, (x, y, z))
        # What training can draw from is the resampled label.
        values = torch.unique(original if kind == "val" else prepared["label"])
        return prepared | {"values": values} | ({"truth": original} if kind == "val" else {})

    def check(tensors: Mapping[str, Tensor]) -> bool:
        if _forms(tensors) != forms or tensors["image"].shape != tensors["label"].shape:
            return False
        labels = [tensor for tensor in tensors.values() if tensor.dtype == torch.uint8]
        # A value without a class would be an index out of bounds on the GPU.
        return all(tensor.numel() and int(tensor.max()) < len(subjects.classes) for tensor in labels)

    return Item(None if digest is None else make_key(*recipe, digest), make, check)


def _forms(tensors: Mapping[str, Tensor]) -> dict[str, tuple[torch.dtype, int]]:
    return {name: (tensor.dtype, tensor.ndim) for name, tensor in tensors.items()}


def fit_patch(largest_patch: Shape, pairs: Sequence[tuple[Tensor, Tensor]], multiple: int) -> Shape:
    """The patch, cut to what the largest training volume needs: padding beyond that would only cost time.

    Args:
        largest_patch: The settings' patch_size.
        pairs: Preprocessed training volumes.
        multiple: The network takes edges that are multiples of it, and more than one of them in all.
    """
    largest = (max(image.shape[axis] for image, _ in pairs) for axis in range(3))
    x, y, z = (min(edge, -(-size // multiple) * multiple) for edge, size in zip(largest_patch, largest, strict=True))
    if x == y == z == multiple:
        return largest_patch
    return x, y, z


def prepare_training(
    pairs: Sequence[tuple[Tensor, Tensor]], patch: Shape, seed: int, num_workers: int = 0
) -> list[TrainingVolume]:
    """Pad training volumes to the patch and draw their candidate centres, in threads."""
    return list(in_threads(lambda pair: training_volume(*pair, patch, seed), pairs, num_workers))
