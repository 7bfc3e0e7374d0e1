"""The source DICOM: series become volumes with labels, or images in class folders. Torch-free."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from medloop.dicom.attributes import keywords_of
from medloop.dicom.burned_in import describe_risk
from medloop.dicom.elements import items, text
from medloop.dicom.files import is_dicom, read_dataset
from medloop.dicom.instances import DicomFile, read_instance
from medloop.dicom.library import load_pydicom
from medloop.dicom.stacks import Rejected, Stack, build_stacks
from medloop.documents.split import Task
from medloop.errors import SettingError
from medloop.imaging.files import FileError
from medloop.imaging.foreign_layouts import find_dicom
from medloop.imaging.listing import DataFolder
from medloop.imaging.on_all_cores import on_all_cores
from medloop.importing.cases import ImportOptions, ImportPlan, Omission, ProgressBars
from medloop.importing.dicom_images import ClassRule, choose_class_rule, plan_images
from medloop.importing.dicom_patients import PatientNames, merge_attributes
from medloop.importing.dicom_subjects import SeriesVolume, plan_subjects

DIRECTORY = "dicomdir"
_UNSAFE_PARTS = frozenset({"", ".", ".."})
VOLUMES = frozenset({"CT", "MR", "PT"})
"""Modalities that become volumes."""
PICTURES = frozenset(
    ["CR", "DX", "MG", "US", "IVUS", "XA", "RF", "IO", "PX", "OP", "OPT", "XC", "GM", "ES", "DG", "OT", "SC"]
)
"""Modalities that become 2D images."""


def recognise(root: DataFolder) -> str | None:
    """Evidence that a folder contains DICOM files."""
    name = find_dicom(root)
    return f"contains DICOM files, such as {name}" if name else None


@dataclass
class Headers:
    """The headers of a source, and the files that have none."""

    instances: list[DicomFile] = field(default_factory=list)
    left_out: list[Omission] = field(default_factory=list)


def plan(folder: Path, options: ImportOptions, progress: ProgressBars) -> ImportPlan:
    """Read all headers, and decide what becomes of each series.

    Raises:
        SettingError: The options don't fit.
    """
    load_pydicom()
    chosen = [*keywords_of(options.attributes), *([options.class_by] if _is_keyword(options.class_by) else [])]
    headers = read_headers(folder, chosen, progress)
    images, labels, left_out = _sort_out(folder, headers, options)
    volumes, pictures = (
        [each for each in images if each.modality in VOLUMES],
        [each for each in images if each.modality not in VOLUMES],
    )
    names = PatientNames(options.key)
    rule = choose_class_rule(folder, pictures, options.class_by)
    series, rejected = _build_series(folder, volumes, labels)
    task = _choose_task(options, series, pictures, rule)
    if task == "segmentation":
        planned = plan_subjects(folder, series, labels, options, names)
        other = [Omission((_relative(folder, each.path),), _other_task("a 2D image", task)) for each in pictures]
    else:
        planned = plan_images(folder, pictures, options, names, rule)
        other = [Omission(_files(folder, each.stack), _other_task("a volume", task)) for each in series]
        other += [Omission((_relative(folder, each.path),), _other_task("a segmentation", task)) for each in labels]
    cases, warnings = merge_attributes(planned.cases)
    return ImportPlan(
        task,
        tuple(cases),
        (*headers.left_out, *left_out, *rejected, *other, *planned.left_out),
        planned.labels,
        (*_describe_directory(folder), *names.warnings(), *warnings, *planned.warnings),
    )


def _is_keyword(class_by: str) -> bool:
    """True if the class is in an element of the header.

    Raises:
        SettingError: The element is unknown.
    """
    if class_by in ("", "folder"):
        return False
    from pydicom.datadict import tag_for_keyword

    if tag_for_keyword(class_by) is None:
        raise SettingError(f"--class-by {class_by}: is no element of DICOM; give folder, or a keyword as ViewPosition")
    return True


def _other_task(kind: str, task: Task) -> str:
    other = "classification" if task == "segmentation" else "segmentation"
    return f"is {kind}, and the import is for {task}; --task {other} imports it"


def _relative(folder: Path, path: Path) -> str:
    return path.relative_to(folder).as_posix()


def _files(folder: Path, stack: Stack) -> tuple[str, ...]:
    return tuple(dict.fromkeys(_relative(folder, plane.path) for plane in stack.planes))


def list_files(folder: Path) -> list[Path]:
    """All files below a folder, sorted, except hidden ones and the DICOMDIR."""
    paths: list[Path] = []
    for top, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        paths += [Path(top, name) for name in sorted(files) if not name.startswith(".") and name.lower() != DIRECTORY]
    return paths


def _describe_directory(folder: Path) -> Iterator[str]:
    """Warn of files that a DICOMDIR names and that aren't there. Its paths are only looked up, never followed."""
    path = next((path for path in folder.iterdir() if path.name.lower() == DIRECTORY and path.is_file()), None)
    if path is None:
        return
    try:
        records = items(read_dataset(path, ["DirectoryRecordSequence"]), "DirectoryRecordSequence")
    except FileError as error:
        yield f"DICOMDIR: {error.reason}"
        return
    names = [name for record in records if (name := text(record, "ReferencedFileID"))]
    missing = [name for name in names if not _is_there(folder, name.split("\\"))]
    if missing:
        yield f"DICOMDIR names {len(missing)} of {len(names)} files that are not there; copy the complete medium"


def _is_there(folder: Path, parts: list[str]) -> bool:
    if _UNSAFE_PARTS.intersection(parts) or any("/" in part for part in parts):
        return False
    return any(folder.joinpath(*form).is_file() for form in (parts, [part.lower() for part in parts]))


def read_headers(folder: Path, chosen: Sequence[str], progress: ProgressBars) -> Headers:
    """Read the headers of all files below a folder, with the elements that `chosen` names besides."""
    files = list_files(folder)
    headers, foreign = Headers(), list[str]()
    with progress("headers read") as show:
        results = zip(files, on_all_cores(partial(_read, chosen), files), strict=True)
        for number, (path, header) in enumerate(results, 1):
            if isinstance(header, DicomFile):
                headers.instances.append(header)
            elif header:
                headers.left_out.append(Omission((_relative(folder, path),), header))
            else:
                foreign.append(_relative(folder, path))
            show(number, len(files))
    if foreign:
        headers.left_out.append(Omission(tuple(foreign), "is no DICOM file"))
    return headers


def _read(chosen: Sequence[str], path: Path) -> DicomFile | str:
    """A file's header, the reason for which it can't be read, or "" if it is no DICOM file."""
    if not is_dicom(path):
        return ""
    try:
        return read_instance(path, chosen)
    except FileError as error:
        return error.reason


def _sort_out(
    folder: Path, headers: Headers, options: ImportOptions
) -> tuple[list[DicomFile], list[DicomFile], list[Omission]]:
    """Images, segmentations, and what is neither or may show a name."""
    images, labels, left_out = list[DicomFile](), list[DicomFile](), list[Omission]()
    for instance in headers.instances:
        risk = describe_risk(instance)
        if instance.reference is not None:
            labels.append(instance)
        elif not instance.planes:
            kind = instance.modality or "of no modality"
            left_out.append(Omission((_relative(folder, instance.path),), f"is no image ({kind})"))
        elif instance.modality not in VOLUMES | PICTURES:
            reason = f"is of a modality that isn't imported ({instance.modality or 'none'})"
            left_out.append(Omission((_relative(folder, instance.path),), reason))
        elif risk and not options.accept_burned_in:
            reason = f"may show a patient's name in its pixels: {risk}; look at it, then give --accept-burned-in"
            left_out.append(Omission((_relative(folder, instance.path),), reason))
        else:
            images.append(instance)
    return images, labels, left_out


def _build_series(
    folder: Path, volumes: Sequence[DicomFile], labels: Sequence[DicomFile]
) -> tuple[list[SeriesVolume], list[Omission]]:
    """The volumes of all series, in the order of their first files, each with its labels."""
    by_series: dict[str, list[DicomFile]] = defaultdict(list)
    for instance in volumes:
        by_series[instance.series].append(instance)
    series, rejected = list[SeriesVolume](), list[Omission]()
    for members in by_series.values():
        if len({member.patient for member in members}) > 1:
            files = tuple(_relative(folder, member.path) for member in members)
            rejected.append(Omission(files, "PatientID differs within the series; export the series again"))
            continue
        volumes_of_series, without_volume = build_volumes(members)
        rejected += [
            Omission(tuple(dict.fromkeys(_relative(folder, plane.path) for plane in each.planes)), each.reason)
            for each in without_volume
        ]
        series += volumes_of_series
    return series, rejected


def build_volumes(members: Sequence[DicomFile]) -> tuple[list[SeriesVolume], list[Rejected]]:
    """The volumes of a series' files, and slices of which none can be made."""
    built = build_stacks([plane for member in members for plane in member.planes])
    return [SeriesVolume(members[0], stack, _stored(members)) for stack in built.stacks], built.rejected


def _stored(members: Sequence[DicomFile]) -> tuple[float, float]:
    return min(member.stored[0] for member in members), max(member.stored[1] for member in members)


def _choose_task(
    options: ImportOptions, series: Sequence[SeriesVolume], pictures: Sequence[DicomFile], rule: ClassRule | None
) -> Task:
    """The user's task; else that of the files."""
    if options.task is not None:
        return options.task
    if series and pictures and rule is not None:
        raise SettingError("--task: the source has volumes and 2D images; choose segmentation or classification")
    return "classification" if pictures and not series else "segmentation"
