"""Images and labels in folders: images/ and masks/, and pairs in one folder or in one for each subject. Torch-free."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import takewhile
from pathlib import Path

from medloop.documents.split import Split
from medloop.errors import DataError
from medloop.imaging.dataset_json import DescribedLabels
from medloop.imaging.files import FileError
from medloop.imaging.importable import (
    MASK_FOLDERS,
    NNUNET_IMAGE,
    VOLUME_ENDS,
    choose_key,
    image_keys,
    mask_folders,
    mask_key,
    split_volumes,
    stem_of,
    tops_of,
)
from medloop.imaging.layouts import split_of_folder
from medloop.imaging.listing import LABEL, DataFolder
from medloop.importing.cases import ImportOptions, ImportPlan, Omission, ProgressBars
from medloop.importing.itk_volumes import segment_names
from medloop.importing.source_files import list_unread, require_inside
from medloop.importing.subject_cases import MaskFile, VolumePair, choose_axis, choose_channel, identify, plan_pairs


def plan_mask_folders(folder: Path, options: ImportOptions, progress: ProgressBars) -> ImportPlan:
    """Match images with masks by their names, without `img_`, `_mask` and similar ones.

    Raises:
        SettingError: The options don't fit.
    """
    left_out = [
        omission for images, _, _ in mask_folders(DataFolder(folder)) for omission in list_unread(images, VOLUME_ENDS)
    ]
    pairs = [
        pair
        for images, masks, name in mask_folders(DataFolder(folder))
        for pair in _match_folders(images, masks, split_of_folder(name), options, left_out)
    ]
    return _finish(folder, pairs, left_out, options, progress)


def plan_subject_pairs(folder: Path, options: ImportOptions, progress: ProgressBars) -> ImportPlan:
    """Match images and labels in one folder, or in one for each subject.

    Raises:
        SettingError: The options don't fit.
    """
    left_out: list[Omission] = []
    pairs: list[VolumePair] = []
    root = DataFolder(folder)
    subjects: list[tuple[DataFolder, Split | None]] = []
    for top in tops_of(root):
        split = split_of_folder(top.name) if top is not root else None
        pairs += _match_names(top, split_volumes(top), split, left_out)
        subjects += [(each, split) for each in top.folders]
    modalities = {each.relative: _modalities(each) for each, _ in subjects}
    channel = _choose_modality(modalities, options.channel)
    for each, split in subjects:
        if pair := _match_subject(each, modalities[each.relative], channel, split, left_out):
            pairs.append(pair)
    return _finish(folder, pairs, left_out, options, progress)


def _finish(
    folder: Path, pairs: Sequence[VolumePair], left_out: list[Omission], options: ImportOptions, bars: ProgressBars
) -> ImportPlan:
    """Add patients and channels, and plan the cases."""
    chosen = identify(folder, pairs, left_out)
    axis = choose_axis(folder, [pair.image for pair in chosen], (), options.channel)
    chosen = [replace(pair, channel=axis) for pair in chosen]
    described = _segments(folder, [mask.path for pair in chosen for mask in pair.masks])
    plan = plan_pairs(folder, chosen, options, bars, described)
    return replace(plan, left_out=(*left_out, *plan.left_out))


def _segments(folder: Path, labels: Sequence[str]) -> DescribedLabels:
    """Names of labels in 3D Slicer's files, where all agree."""
    names: dict[int, str] = {}
    for path in labels:
        if not path.lower().endswith(".seg.nrrd"):
            continue
        try:
            segments = segment_names(require_inside(folder, folder / path))
        except FileError:
            continue
        if any(names.get(value, name) != name for value, name in segments.items()):
            raise DataError(f"{path}: a label value has another name than in other files; give one name to each value")
        names |= segments
    return DescribedLabels(names)


def _match_folders(
    images: DataFolder, masks: DataFolder, split: Split | None, options: ImportOptions, left_out: list[Omission]
) -> Iterator[VolumePair]:
    by_key = _masks_by_key(masks, left_out)
    cases = _images_by_case(images, by_key, left_out)
    channels = sorted({number for case in cases.values() for number in case})
    chosen = channels[choose_channel([str(each) for each in channels], options.channel)] if len(channels) > 1 else None
    for key, case in cases.items():
        image = case.get(chosen) if chosen is not None else next(iter(case.values()))
        if image is None:
            left_out.append(Omission(tuple(case.values()), f"has no channel {chosen}, which is imported; add it"))
            continue
        yield VolumePair(key, image, by_key.pop(key, ()), None, split)
    for unmatched in by_key.values():
        files = tuple(mask.path for mask in unmatched)
        left_out.append(Omission(files, "is a label without an image of its name; add the image"))


def _images_by_case(
    images: DataFolder, labels: Mapping[str, object], left_out: list[Omission]
) -> dict[str, dict[int, str]]:
    """Images by case and channel: `CASE_0000` is channel 0 of CASE if that has a label and CASE_0000 has none."""
    cases: dict[str, dict[int, str]] = defaultdict(dict)
    for name in images.files_with(VOLUME_ENDS):
        stem = stem_of(name)
        key, match = choose_key(stem, labels), NNUNET_IMAGE.fullmatch(stem)
        channel = int(match[2]) if match and key in image_keys(match[1]) else 0
        if channel in cases[key]:
            reason = "is next to an image of the same case and channel, which is imported; remove one"
            left_out.append(Omission((images.below(name),), reason))
        else:
            cases[key][channel] = images.below(name)
    return cases


def _masks_by_key(masks: DataFolder, left_out: list[Omission]) -> dict[str, tuple[MaskFile, ...]]:
    """Labels by case: files, or folders with a file for each structure, or folders of structures with cases."""
    by_case: dict[str, list[MaskFile]] = defaultdict(list)
    for name in masks.files_with(VOLUME_ENDS):
        by_case[mask_key(stem_of(name))].append(MaskFile(masks.below(name)))
    names = [{mask_key(stem_of(name)) for name in each.files_with(VOLUME_ENDS)} for each in masks.folders]
    by_structure = len(names) > 1 and 2 * len(set.intersection(*names)) > len(set.union(*names)) and _is_many(names)
    for each in masks.folders:
        for name in each.files_with(VOLUME_ENDS):
            key, structure = each.name, mask_key(stem_of(name))
            key, structure = (structure, key) if by_structure else (key, structure)
            by_case[key].append(MaskFile(each.below(name), structure))
    for key, files in list(by_case.items()):
        if sum(not file.structure for file in files) > 1:
            left_out.append(Omission(tuple(file.path for file in files), "are several labels of one case; remove one"))
            del by_case[key]
    return {key: tuple(files) for key, files in by_case.items()}


def _is_many(names: Sequence[set[str]]) -> bool:
    """True if the folders have more files than there are folders: cases are more than structures."""
    return len(set.union(*names)) > len(names)


def _match_names(
    top: DataFolder, volumes: tuple[list[str], list[str]], split: Split | None, left_out: list[Omission]
) -> Iterator[VolumePair]:
    """Pairs in one folder, such as `a.nii.gz` and `a_seg.nii.gz`."""
    images, masks = volumes
    by_key = {mask_key(stem_of(name)): MaskFile(top.below(name)) for name in masks}
    for name in images:
        key = choose_key(stem_of(name), by_key)
        label = by_key.pop(key, None)
        yield VolumePair(key, top.below(name), (label,) if label else (), None, split)
    for mask in by_key.values():
        left_out.append(Omission((mask.path,), "is a label without an image of its name; add the image"))


def _modalities(subject: DataFolder) -> dict[str, str]:
    """The images of a subject's folder, by what distinguishes them: `t1`, `flair`."""
    images, _ = split_volumes(subject)
    stems = [stem_of(name) for name in images]
    start = _common_start(stems) if len(stems) > 1 else ""
    start = start[: max(start.rfind(sign) for sign in "_-. ") + 1]
    return {stem[len(start) :] or stem: subject.below(name) for stem, name in zip(stems, images, strict=True)}


def _choose_modality(modalities: Mapping[str, Mapping[str, str]], chosen: str) -> str:
    """The image of each folder that is imported; "" where each has one."""
    if all(len(images) < 2 for images in modalities.values()):
        return ""
    names = list(dict.fromkeys(name for images in modalities.values() if len(images) > 1 for name in images))
    return names[choose_channel(names, chosen)]


def _match_subject(
    subject: DataFolder, images: Mapping[str, str], channel: str, split: Split | None, left_out: list[Omission]
) -> VolumePair | None:
    """The image and the label of a subject's folder."""
    masks = [MaskFile(subject.below(name)) for name in split_volumes(subject)[1]]
    folders = filter(None, [subject.find(*MASK_FOLDERS)])
    structures = [MaskFile(f.below(name), stem_of(name)) for f in folders for name in f.files_with(VOLUME_ENDS)]
    image = images.get(channel) or (next(iter(images.values())) if len(images) == 1 else None)
    files = (*images.values(), *(mask.path for mask in (*masks, *structures)))
    if not files:
        return None
    if image is None:
        reason = f"has no image {channel}, which is imported; add it" if channel else "is a label without an image"
        left_out.append(Omission(files, reason))
        return None
    if len(masks) > 1:
        exact = [mask for mask in masks if stem_of(mask.path.rpartition("/")[2]).lower() == LABEL]
        masks = exact if len(exact) == 1 else [replace(m, structure=_structure_of(m.path, image)) for m in masks]
    return VolumePair(subject.name, image, tuple(masks or structures), None, split)


def _common_start(texts: Sequence[str]) -> str:
    """The beginning that texts share."""
    signs = zip(*texts, strict=False)
    return "".join(first for first, *_ in takewhile(lambda column: len(set(column)) == 1, signs))


def _structure_of(path: str, image: str) -> str:
    """The structure of one of several masks in a folder, by its name: `liver` of `case_liver_mask`."""
    stem, other = (stem_of(each.rpartition("/")[2]) for each in (path, image))
    name = mask_key(stem).removeprefix(other).removeprefix(_common_start([stem, other])).strip("_-. ")
    return name or mask_key(stem)
