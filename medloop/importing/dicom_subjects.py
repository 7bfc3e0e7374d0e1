"""Subjects made of DICOM: a volume, and the label map that SEG and RTSTRUCT give it. Torch-free."""

from __future__ import annotations

import json
import math
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from medloop.dicom.attributes import compute_attributes
from medloop.dicom.contours import read_contour_masks
from medloop.dicom.instances import STRUCTURE_SET, DicomFile
from medloop.dicom.segmentations import read_masks
from medloop.dicom.stacks import NOTICED_TILT, Stack
from medloop.dicom.volumes import read_voxels
from medloop.documents.names import normalise
from medloop.errors import SettingError
from medloop.imaging.listing import IMAGE, LABEL
from medloop.imaging.nifti import write_nifti
from medloop.importing.cases import BACKGROUND, ImportCase, ImportOptions, Omission
from medloop.importing.dicom_patients import PatientNames

MAX_LABEL = 255
_RECIPE = "dicom subject 1"
"""Changes when other voxels are written for the same files."""


@dataclass(frozen=True)
class SeriesVolume:
    """A volume of a series, before it is decoded.

    Attributes:
        first: The header of one of its files.
        stack: Its slices.
        stored: Smallest and largest value that the pixels can have.
    """

    first: DicomFile
    stack: Stack
    stored: tuple[float, float]


@dataclass
class PlannedCases:
    """Cases of one task."""

    cases: list[ImportCase] = field(default_factory=list)
    left_out: list[Omission] = field(default_factory=list)
    labels: tuple[str, ...] = ()
    warnings: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class LabelFile:
    """A SEG or RTSTRUCT of a volume.

    Attributes:
        path: The file.
        is_contours: True for RTSTRUCT.
        values: Label value by the number of a structure; others are left out.
    """

    path: Path
    is_contours: bool
    values: Mapping[int, int]


def plan_subjects(
    folder: Path,
    series: Sequence[SeriesVolume],
    labels: Sequence[DicomFile],
    options: ImportOptions,
    names: PatientNames,
) -> PlannedCases:
    """Match volumes and segmentations, and make a case of each volume with one.

    Raises:
        SettingError: There are more structures than label values.
    """
    matched, unmatched = _match(series, labels)
    planned = PlannedCases()
    planned.labels = _choose_labels(labels, options)
    planned.warnings += _describe_ignored(labels, planned.labels)
    reason = "segments a series that is not in the source, or of which no volume could be made"
    planned.left_out += [Omission((_relative(folder, each.path),), reason) for each in unmatched]
    for each, files in zip(series, matched, strict=True):
        chosen = list(_label_files(files, planned.labels))
        if not chosen and not options.unlabelled:
            paths = tuple(dict.fromkeys(_relative(folder, plane.path) for plane in each.stack.planes))
            text = "has no segmentation (SEG or RTSTRUCT); --unlabelled imports the volume all the same"
            planned.left_out.append(Omission(paths, text))
        else:
            planned.cases.append(_make_case(folder, each, chosen, planned.labels, options, names))
    return planned


def _relative(folder: Path, path: Path) -> str:
    return path.relative_to(folder).as_posix()


def _match(
    series: Sequence[SeriesVolume], labels: Sequence[DicomFile]
) -> tuple[list[list[DicomFile]], list[DicomFile]]:
    """The segmentations of each volume, and those of none."""
    matched: list[list[DicomFile]] = [[] for _ in series]
    unmatched: list[DicomFile] = []
    for label in labels:
        numbers = _volumes_of(label, series)
        for number in numbers:
            matched[number].append(label)
        if not numbers:
            unmatched.append(label)
    return matched, unmatched


def _volumes_of(label: DicomFile, series: Sequence[SeriesVolume]) -> list[int]:
    """The volumes that a segmentation is of: by series, then by images, else by frame of reference."""
    reference = label.reference
    assert reference is not None  # noqa: S101 (labels are what has one)
    same = [number for number, each in enumerate(series) if each.first.series in reference.series]
    if not same and not reference.series:
        same = [number for number, each in enumerate(series) if each.first.frame_of_reference in reference.frames]
    named = [
        number for number in same if any(plane.instance in reference.instances for plane in series[number].stack.planes)
    ]
    return named or same


def _choose_labels(labels: Sequence[DicomFile], options: ImportOptions) -> tuple[str, ...]:
    """Names by label value: the user's, else those of the structures, sorted."""
    if options.labels is not None:
        return options.labels
    names = {_key(name): name for label in labels if label.reference for name in label.reference.structures.values()}
    if len(names) > MAX_LABEL:
        raise SettingError(
            f"--labels: the source has {len(names)} structures, and a label map has {MAX_LABEL}; name those to import"
        )
    return (BACKGROUND, *(names[key] for key in sorted(names))) if names else ()


def _key(name: str) -> str:
    return normalise(name).casefold()


def _describe_ignored(labels: Sequence[DicomFile], chosen: Sequence[str]) -> Iterator[str]:
    """Warn of structures that the user's names leave out, and of names that no structure has."""
    present = {_key(name): name for label in labels if label.reference for name in label.reference.structures.values()}
    wanted_keys = {_key(name): name for name in chosen[1:]}
    if ignored := [name for key, name in sorted(present.items()) if key not in wanted_keys]:
        yield f"structures that --labels doesn't name are left out: {', '.join(ignored)}"
    if absent := [name for key, name in wanted_keys.items() if key not in present]:
        known = ", ".join(present.values())
        yield f"no segmentation has the structures {', '.join(absent)} of --labels; the source has {known}"


def _label_files(files: Sequence[DicomFile], labels: Sequence[str]) -> Iterator[LabelFile]:
    """The files of a volume's structures; of a structure in several files, the newest has it."""
    value_of = {_key(name): value for value, name in enumerate(labels)}
    newest: dict[str, DicomFile] = {}
    for file in sorted(files, key=lambda each: (each.reference.date if each.reference else "", each.uid)):
        if file.reference:
            newest |= {_key(name): file for name in file.reference.structures.values()}
    for file in files:
        structures = file.reference.structures if file.reference else {}
        values = {
            number: value_of[_key(name)]
            for number, name in structures.items()
            if _key(name) in value_of and newest[_key(name)] is file
        }
        if values:
            yield LabelFile(file.path, file.sop_class == STRUCTURE_SET, values)


def _make_case(
    folder: Path,
    series: SeriesVolume,
    files: Sequence[LabelFile],
    labels: Sequence[str],
    options: ImportOptions,
    names: PatientNames,
) -> ImportCase:
    stack, patient = series.stack, names.patient(series.first)
    suv = series.first.modality == "PT" and options.pet == "suv"
    paths = [*(plane.path for plane in stack.planes), *(file.path for file in files)]
    values = [sorted(file.values.items()) for file in files]
    part = f"-{stack.part}" if stack.part else ""
    return ImportCase(
        name=f"{patient}-{names.item(series.first.series)}{part}",
        files=tuple(dict.fromkeys(_relative(folder, path) for path in paths)),
        write=partial(_write, series, tuple(files), tuple(labels), suv),
        recipe=json.dumps([_RECIPE, suv, values, list(labels)]),
        patient=patient,
        attributes=compute_attributes(options.attributes, series.first.chosen),
        warnings=(*stack.warnings, *_describe_header_tilt(series)),
        num_voxels=math.prod(stack.shape),
    )


def _describe_header_tilt(series: SeriesVolume) -> Iterator[str]:
    """Warn of a header whose gantry is tilted and whose positions are not."""
    tilt = series.first.tilt
    if abs(tilt) > NOTICED_TILT and not any("tilted" in warning for warning in series.stack.warnings):
        yield f"GantryDetectorTilt is {tilt:g} degrees, but the positions aren't tilted: the positions are used"


def _write(
    series: SeriesVolume, files: Sequence[LabelFile], labels: Sequence[str], suv: bool, path: Path
) -> tuple[str, ...]:
    """Write the volume, and its label map if there is one."""
    warnings: list[str] = []
    stack = series.stack
    label = _read_label(stack, files, labels, warnings) if files else None
    path.mkdir()
    write_nifti(path / f"{IMAGE}.nii.gz", read_voxels(stack, series.stored, suv=suv), stack.affine, fast=True)
    if label is not None:
        write_nifti(path / f"{LABEL}.nii.gz", label, stack.affine, fast=True)
    return tuple(warnings)


def _read_label(
    stack: Stack, files: Sequence[LabelFile], labels: Sequence[str], warnings: list[str]
) -> NDArray[np.uint8]:
    """The label map [columns, rows, slices]; where structures overlap, the one of the higher value has the voxel."""
    label = np.zeros(stack.shape, np.uint8, order="F")
    overlaps: dict[tuple[str, str], int] = defaultdict(int)
    for file in files:
        read = read_contour_masks if file.is_contours else read_masks
        for number, mask, warning in read(file.path, stack):
            if number not in file.values:
                continue
            value = file.values[number]
            if warning:
                warnings.append(f"structure {labels[value]} {warning}" if file.is_contours else warning)
            if not mask.any():
                warnings.append(f"structure {labels[value]} has no voxel in the image")
            for covered, num in zip(*np.unique(label[mask], return_counts=True), strict=True):
                if covered not in (0, value):
                    overlaps[labels[min(covered, value)], labels[max(covered, value)]] += int(num)
            np.maximum(label, np.uint8(value), out=label, where=mask)
    for (lower, higher), num in overlaps.items():
        warnings.append(
            f"structures {lower} and {higher} overlap in {num} voxels, which {higher} has; --labels orders them"
        )
    warnings[:] = dict.fromkeys(warnings)
    return label
