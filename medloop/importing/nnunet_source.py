"""nnU-Net's raw data sets and those of the Medical Segmentation Decathlon. Torch-free."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from medloop.documents.split import Split
from medloop.errors import DataError
from medloop.imaging.dataset_json import DATASET_JSON, DatasetJson, read_dataset_json
from medloop.imaging.importable import NNUNET_IMAGE, VOLUME_ENDS, stem_of
from medloop.imaging.listing import DataFolder
from medloop.importing.cases import ImportOptions, ImportPlan, Omission, ProgressBars
from medloop.importing.source_files import PathError, list_unread, resolve_path
from medloop.importing.subject_cases import (
    UNLABELLED,
    MaskFile,
    VolumePair,
    choose_axis,
    choose_channel,
    identify,
    plan_pairs,
)

_FOLDERS: tuple[tuple[str, str, Split], ...] = (("imagestr", "labelstr", "train"), ("imagests", "labelsts", "test"))
_PICTURES = (".png", ".bmp", ".tif", ".tiff", ".jpg", ".jpeg")
_Channels = Mapping[str, Mapping[int, str]]
"""Path of an image by channel, by case."""


def plan_nnunet(folder: Path, options: ImportOptions, progress: ProgressBars) -> ImportPlan:
    """Take the channel that the user chooses of each case, and its label.

    Raises:
        DataError: dataset.json can't be used, or the images are pictures.
        SettingError: The options don't fit.
    """
    described = read_dataset_json(folder)
    root = DataFolder(folder)
    images = {split: _channels(root.find(top)) for top, _, split in _FOLDERS}
    names = _channel_names(described, [case for cases in images.values() for case in cases.values()])
    channel = choose_channel(names, options.channel)
    left_out = [omission for top, _, _ in _FOLDERS for omission in _unread(root.find(top), is_nnunet=True)]
    pairs = list(_pairs(root, images, channel, left_out))
    return _finish(folder, pairs, left_out, described, options, progress)


def plan_decathlon(folder: Path, options: ImportOptions, progress: ProgressBars) -> ImportPlan:
    """Take each image, or the channel of each that the user chooses, and its label.

    Raises:
        DataError: dataset.json can't be used, or the images are pictures.
        SettingError: The options don't fit.
    """
    described = read_dataset_json(folder)
    root = DataFolder(folder)
    images = {
        split: {stem_of(name): {0: top.below(name)} for name in _volumes(top)}
        for title, _, split in _FOLDERS
        if (top := root.find(title))
    }
    paths = [path for cases in images.values() for case in cases.values() for path in case.values()]
    axis = choose_axis(folder, paths, described.channels, options.channel)
    left_out = [omission for top, _, _ in _FOLDERS for omission in _unread(root.find(top), is_nnunet=False)]
    pairs = [
        VolumePair(pair.name, pair.image, pair.masks, axis, pair.split) for pair in _pairs(root, images, 0, left_out)
    ]
    return _finish(folder, pairs, left_out, described, options, progress)


def _volumes(folder: DataFolder) -> list[str]:
    """Names of a folder's volumes.

    Raises:
        DataError: There are pictures only.
    """
    volumes = folder.files_with(VOLUME_ENDS)
    if not volumes and (pictures := folder.files_with(_PICTURES)):
        raise DataError(
            f"{folder.relative}: has pictures ({pictures[0]}), and segmentation takes volumes; convert them to .nii.gz"
        )
    return volumes


def _channels(folder: DataFolder | None) -> dict[str, dict[int, str]]:
    """The images of each case by channel."""
    cases: dict[str, dict[int, str]] = {}
    for name in _volumes(folder) if folder else ():
        if match := NNUNET_IMAGE.fullmatch(stem_of(name)):
            cases.setdefault(match[1], {})[int(match[2])] = folder.below(name) if folder else name
    return cases


def _unread(folder: DataFolder | None, *, is_nnunet: bool) -> Iterator[Omission]:
    """Files in a folder of images that are in no case."""
    if folder is None:
        return
    yield from list_unread(folder, VOLUME_ENDS)
    for name in folder.files_with(VOLUME_ENDS) if is_nnunet else ():
        if not NNUNET_IMAGE.fullmatch(stem_of(name)):
            yield Omission((folder.below(name),), "has no channel in its name; rename it CASE_0000")


def _channel_names(described: DatasetJson, cases: Sequence[Mapping[int, str]]) -> list[str]:
    """Names of the channels: those of dataset.json, or numbers."""
    number = max((max(case) + 1 for case in cases), default=1)
    names = list(described.channels[:number])
    return names + [str(each) for each in range(len(names), number)]


def _pairs(
    root: DataFolder, images: Mapping[Split, _Channels], channel: int, left_out: list[Omission]
) -> Iterator[VolumePair]:
    """Each image with its label; a test split is kept if it has labels."""
    test_labels = root.find("labelsts")
    has_test = test_labels is not None and bool(test_labels.files_with(VOLUME_ENDS))
    for _, title, split in _FOLDERS:
        folder = root.find(title)
        labels = {stem_of(name): folder.below(name) for name in folder.files_with(VOLUME_ENDS)} if folder else {}
        for case, channels in images.get(split, {}).items():
            label = labels.pop(case, None)
            if channel not in channels:
                paths = tuple(channels.values())
                left_out.append(Omission(paths, f"has no channel {channel}, which is imported; add it"))
                continue
            masks = (MaskFile(label),) if label else ()
            yield VolumePair(case, channels[channel], masks, None, split if has_test else None)
        for path in labels.values():
            left_out.append(Omission((path,), "is a label without an image of its name; add the image"))


def _finish(
    folder: Path,
    pairs: Sequence[VolumePair],
    left_out: list[Omission],
    described: DatasetJson,
    options: ImportOptions,
    progress: ProgressBars,
) -> ImportPlan:
    plan = plan_pairs(folder, identify(folder, pairs, left_out), options, progress, described.labels)
    tests = tuple(omission.files[0] for omission in plan.left_out if _is_test(omission))
    rest = [omission for omission in plan.left_out if not _is_test(omission)]
    if tests:
        rest.append(Omission(tests, "has no label, as it is of the test set of a challenge"))
    listed = list(_check_listed(folder, described, {mask.path for pair in pairs for mask in pair.masks}))
    return ImportPlan(
        plan.task,
        plan.cases,
        (*left_out, *rest, *listed),
        plan.labels,
        (*_check_number(described, pairs), *plan.warnings),
    )


def _is_test(omission: Omission) -> bool:
    return omission.reason == UNLABELLED and re.match("imagests/", omission.files[0], re.IGNORECASE) is not None


def _check_number(described: DatasetJson, pairs: Sequence[VolumePair]) -> Iterator[str]:
    number = sum(bool(pair.masks) and pair.split != "test" for pair in pairs)
    if described.num_training is not None and described.num_training != number:
        yield (
            f"{DATASET_JSON} numTraining: is {described.num_training}, and the folders have {number} images with "
            "labels; correct it, or add what is missing"
        )


def _check_listed(folder: Path, described: DatasetJson, labels: set[str]) -> Iterator[Omission]:
    """Entries of dataset.json whose label isn't there, or is outside of the source."""
    for case in described.cases:
        try:
            path = resolve_path(folder, case.label)
        except PathError as error:
            yield Omission((DATASET_JSON,), f"{case.field}: its label {error}")
            continue
        if path.relative_to(folder).as_posix() not in labels and not path.exists():
            yield Omission((DATASET_JSON,), f"{case.field}: its label isn't there; add it or remove the entry")
