"""Subjects made of volumes and label maps in files; each is read as `data check` reads it. Torch-free."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from medloop.documents.split import Split
from medloop.errors import SettingError
from medloop.imaging.dataset_json import DescribedLabels
from medloop.imaging.files import FileError, Volume
from medloop.imaging.importable import stem_of
from medloop.imaging.listing import IMAGE, LABEL
from medloop.imaging.nifti import nifti_labels, write_nifti
from medloop.imaging.on_all_cores import on_all_cores
from medloop.imaging.validation import read_subject
from medloop.importing.cases import ImportCase, ImportOptions, ImportPlan, Omission, ProgressBars
from medloop.importing.label_rules import LabelRule, choose_rule, remap, scan_label
from medloop.importing.patient_columns import NO_ROW, read_source_patients
from medloop.importing.source_files import require_inside, safe_name, unique_names
from medloop.importing.volume_files import is_itk, num_channels, read_source_volume, write_image

_RECIPE = "subject 1"
"""Changes when other voxels are written for the same files."""
_SAME_GRID = 1e-3
IGNORED = (
    "has voxels to ignore (label value {}), which medloop can't: write the true class of such voxels, or leave it out"
)


@dataclass(frozen=True)
class MaskFile:
    """A label map, or the mask of one structure.

    Attributes:
        path: Relative to the source.
        structure: The structure's name; "" for a label map.
    """

    path: str
    structure: str = ""


@dataclass(frozen=True)
class VolumePair:
    """An image, and what is labelled in it.

    Attributes:
        name: Of the subject.
        image: Its path, relative to the source.
        masks: None if there is no label.
        channel: Of an image with several channels in one file.
        split: Of the source, if it has one.
        patient: As patients.csv will name the patient.
        attributes: Further columns of patients.csv.
    """

    name: str
    image: str
    masks: tuple[MaskFile, ...] = ()
    channel: int | None = None
    split: Split | None = None
    patient: str | None = None
    attributes: Mapping[str, str] = field(default_factory=dict)


def plan_pairs(
    root: Path,
    pairs: Sequence[VolumePair],
    options: ImportOptions,
    progress: ProgressBars,
    described: DescribedLabels | None = None,
) -> ImportPlan:
    """Read the values of all labels, decide the classes, and make a case of each image with a label.

    Raises:
        SettingError: The options don't fit.
    """
    if options.task == "classification":
        raise SettingError("--task classification: the source has volumes with label maps; omit it")
    labelled = [pair for pair in pairs if pair.masks or options.unlabelled]
    left_out = [Omission((pair.image,), UNLABELLED) for pair in pairs if not pair.masks and not options.unlabelled]
    values = _scan(root, labelled, progress)
    usable = [pair for pair in labelled if not any(isinstance(values[mask.path], Omission) for mask in pair.masks)]
    left_out += _find_unusable(labelled, values)
    scanned = {path: occurring for path, occurring in values.items() if not isinstance(occurring, Omission)}
    rule = choose_rule(
        [scanned[mask.path] for pair in usable for mask in pair.masks if not mask.structure],
        [mask.structure for pair in usable for mask in pair.masks if mask.structure],
        described or DescribedLabels(),
        options.labels,
    )
    chosen = list(_without_ignored(usable, scanned, rule, left_out))
    names = unique_names(_choose_names(chosen))
    cases = [_make_case(root, name, pair, rule, scanned) for name, pair in zip(names, chosen, strict=True)]
    return ImportPlan("segmentation", tuple(cases), tuple(left_out), rule.names, rule.warnings)


UNLABELLED = "has no label; add one, or give --unlabelled to import the volume all the same"


def identify(root: Path, pairs: Sequence[VolumePair], left_out: list[Omission]) -> list[VolumePair]:
    """The pairs with their patients from the source's patients.csv; all as they are if there is none.

    A row may name an image's path, a folder above it, or the case. Pairs without a row are left out.

    Raises:
        DataError: patients.csv can't be used.
    """
    patients = read_source_patients(root)
    if not patients.is_known:
        return list(pairs)
    identified = []
    for pair in pairs:
        patient, attributes = patients.find(pair.image)
        if patient is None:
            patient, attributes = patients.find(pair.name)
        if patient is None:
            left_out.append(Omission((pair.image,), NO_ROW))
        else:
            identified.append(replace(pair, patient=patient, attributes=attributes))
    return identified


def choose_channel(names: Sequence[str], chosen: str) -> int:
    """The number of the channel that is imported.

    Args:
        names: Of all channels.
        chosen: The user's choice: a name or a number; "" for none.

    Raises:
        SettingError: There are several and none is chosen, or the choice is none of them.
    """
    if not chosen and len(names) == 1:
        return 0
    by_name = {name.strip().casefold(): number for number, name in reversed(list(enumerate(names)))}
    number = by_name.get(chosen.strip().casefold(), int(chosen) if chosen.strip().isdecimal() else None)
    if number is not None and 0 <= number < len(names):
        return number
    listed = ", ".join(f"{number} {name}" if name != str(number) else name for number, name in enumerate(names))
    problem = f"the images have {len(names)} channels" if not chosen else f"{chosen} is no channel"
    raise SettingError(f"--channel: {problem} ({listed}); choose one by name or number")


def choose_axis(root: Path, images: Iterable[str], names: Sequence[str], chosen: str) -> int | None:
    """The channel of images that have all channels in one file; None if they have one.

    Args:
        root: The source.
        images: Their paths; the first that can be read decides.
        names: Of the channels, if they are known.
        chosen: See `choose_channel`.

    Raises:
        SettingError: See `choose_channel`.
    """
    for image in images:
        try:
            number = num_channels(require_inside(root, root / image))
        except FileError:
            continue
        if number == 1:
            return None
        return choose_channel(names if len(names) == number else [str(each) for each in range(number)], chosen)
    return None


def _scan(root: Path, pairs: Sequence[VolumePair], progress: ProgressBars) -> dict[str, tuple[int, ...] | Omission]:
    """The values of each label file, or the reason for which it can't be used."""
    masks = list({mask.path: mask for pair in pairs for mask in pair.masks}.values())
    values: dict[str, tuple[int, ...] | Omission] = {}
    with progress("labels read") as show:
        for number, (mask, occurring) in enumerate(
            zip(masks, on_all_cores(partial(_scan_one, root), masks), strict=True)
        ):
            values[mask.path] = Omission((mask.path,), occurring) if isinstance(occurring, str) else occurring
            show(number + 1, len(masks))
    return values


def _scan_one(root: Path, mask: MaskFile) -> tuple[int, ...] | str:
    try:
        values = scan_label(require_inside(root, root / mask.path))
    except FileError as error:
        return error.reason
    if mask.structure and len([value for value in values if value]) > 1:
        listed = ", ".join(map(str, values[:8]))
        return f"has label values {listed}, and the mask of one structure has one; name the file as a label map"
    return values


def _find_unusable(pairs: Sequence[VolumePair], values: Mapping[str, tuple[int, ...] | Omission]) -> Iterator[Omission]:
    for pair in pairs:
        bad = [(mask.path, occurring) for mask in pair.masks if isinstance(occurring := values[mask.path], Omission)]
        if bad:
            rest = [path for path in (pair.image, *(mask.path for mask in pair.masks)) if path != bad[0][0]]
            yield Omission((bad[0][0], *rest), bad[0][1].reason)


def _without_ignored(
    pairs: Sequence[VolumePair], values: Mapping[str, Sequence[int]], rule: LabelRule, left_out: list[Omission]
) -> Iterator[VolumePair]:
    for pair in pairs:
        bad = [(mask.path, value) for mask in pair.masks for value in values[mask.path] if value in rule.ignored]
        if bad and not all(mask.structure for mask in pair.masks):
            left_out.append(Omission((bad[0][0], pair.image), IGNORED.format(bad[0][1])))
        else:
            yield pair


def _choose_names(pairs: Sequence[VolumePair]) -> Iterator[str]:
    """Subjects' folders: the case's name, or if that repeats, the path of its image."""
    numbers = Counter((pair.split, pair.name) for pair in pairs)
    for pair in pairs:
        name = pair.name if numbers[pair.split, pair.name] == 1 else stem_of(pair.image).replace("/", "_")
        yield f"{pair.split}/{safe_name(name)}" if pair.split else safe_name(name)


def _make_case(
    root: Path, name: str, pair: VolumePair, rule: LabelRule, values: Mapping[str, tuple[int, ...]]
) -> ImportCase:
    stays = len(pair.masks) == 1 and not pair.masks[0].structure and rule.keeps(values[pair.masks[0].path])
    recipe = [_RECIPE, pair.channel, stays, sorted(rule.values.items()), sorted(rule.structures.items())]
    return ImportCase(
        name=name,
        files=tuple(dict.fromkeys((pair.image, *(mask.path for mask in pair.masks)))),
        write=partial(_write, root, pair, rule, stays),
        recipe=json.dumps(recipe),
        patient=pair.patient,
        attributes=pair.attributes,
    )


def _write(root: Path, pair: VolumePair, rule: LabelRule, stays: bool, folder: Path) -> tuple[str, ...]:
    """Write image and label, and read them as `data check` does."""
    image = require_inside(root, root / pair.image)
    masks = [(require_inside(root, root / mask.path), mask) for mask in pair.masks]
    folder.mkdir()
    write_image(image, folder, IMAGE, pair.channel)
    warnings: list[str] = []
    if stays:
        write_image(masks[0][0], folder, LABEL, None)
    elif masks:
        _write_label(folder / f"{LABEL}.nii.gz", masks, rule, warnings)
    if masks:
        _check(folder, root / pair.image, root / pair.masks[0].path, rule)
    return tuple(warnings)


def _write_label(target: Path, masks: Sequence[tuple[Path, MaskFile]], rule: LabelRule, warnings: list[str]) -> None:
    """Join masks; label maps have their voxels before masks of structures, and higher classes before lower ones."""
    label, first = None, None
    overlaps: dict[tuple[int, int], int] = defaultdict(int)
    for path, mask in sorted(
        masks, key=lambda each: (not each[1].structure, rule.structures.get(each[1].structure, 0))
    ):
        volume = read_source_volume(path)
        classes = _classes_of(volume, mask, rule)
        if label is None or first is None:
            label, first = classes, (path, volume)
            continue
        _require_same_grid(path, volume, first[1])
        both = (label != 0) & (classes != 0) & (label != classes)
        codes, numbers = np.unique(label[both].astype(np.uint16) * 256 + classes[both], return_counts=True)
        for code, number in zip(codes.tolist(), numbers.tolist(), strict=True):
            overlaps[divmod(code, 256)] += number
        label = np.where(classes != 0, classes, label)
    if label is None or first is None:
        return
    for (covered, shown), number in overlaps.items():
        names = [rule.names[value] if rule.names else str(value) for value in (covered, shown)]
        warnings.append(f"structures {names[0]} and {names[1]} overlap in {number} voxels, which {names[1]} has")
    _write_on_grid(target, label, *first)


def _classes_of(volume: Volume, mask: MaskFile, rule: LabelRule) -> NDArray[np.uint8]:
    if not mask.structure:
        return remap(volume.voxels, rule.values)
    return np.asarray(np.rint(volume.voxels) != 0, np.uint8) * np.uint8(rule.structures.get(mask.structure, 0))


def _require_same_grid(path: Path, volume: Volume, first: Volume) -> None:
    same = volume.voxels.shape == first.voxels.shape and np.allclose(volume.affine, first.affine, atol=_SAME_GRID)
    if not same:
        raise FileError(path, "is on another grid than the subject's other masks; export it on the image's grid")


def _write_on_grid(target: Path, label: NDArray[np.uint8], path: Path, volume: Volume) -> None:
    """Write a label map with the geometry of a file: bit by bit where that is NIfTI."""
    if is_itk(path):
        write_nifti(target, label, volume.affine, volume.unit, fast=True)
    else:
        target.write_bytes(nifti_labels(label, volume, path))


def _check(folder: Path, image: Path, label: Path, rule: LabelRule) -> None:
    """Read a written subject as `data check` does.

    Raises:
        FileError: It can't be used; the file is the source's.
    """
    try:
        read_subject(folder, rule.names or None)
    except FileError as error:
        source = image if error.path.name.startswith(IMAGE) else label
        raise FileError(source, error.reason) from None
