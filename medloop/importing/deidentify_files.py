"""De-identification of a folder's DICOM files; what can't be cleaned is left out with a reason. Torch-free."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from medloop.dicom.burned_in import describe_risk
from medloop.dicom.deidentify import Retained, deidentify
from medloop.dicom.files import is_dicom, read_dataset
from medloop.dicom.instances import read_instance
from medloop.errors import TargetError
from medloop.imaging.files import FileError
from medloop.imaging.on_all_cores import on_all_cores
from medloop.importing.cases import Omission, ProgressBars, no_progress
from medloop.importing.dicom_patients import PatientNames
from medloop.importing.dicom_source import list_files


@dataclass
class DeidentifiedFiles:
    """The result: files that were written, relative to the target, and those that weren't."""

    written: list[str] = field(default_factory=list)
    left_out: list[Omission] = field(default_factory=list)


@dataclass(frozen=True)
class _Rule:
    folder: Path
    target: Path
    key: bytes
    retained: Retained
    accept_burned_in: bool


def deidentify_files(
    folder: Path,
    target: Path,
    key: bytes,
    retained: Retained,
    *,
    accept_burned_in: bool = False,
    progress: ProgressBars = no_progress,
) -> DeidentifiedFiles:
    """Write each image, segmentation and structure set of a folder as `PATIENT/SERIES/INSTANCE.dcm`, by pseudonyms.

    Args:
        folder: The originals'; unchanged.
        target: A new or empty folder.
        key: Of pseudonyms, UIDs and shifts of dates.
        retained: Options of the profile.
        accept_burned_in: Write images that may show a patient's name in their pixels.
        progress: Makes a progress bar.

    Raises:
        TargetError: The target contains files, or is in the folder.
    """
    if target.exists() and any(target.iterdir()):
        raise TargetError(f"{target}: contains files; give a new folder")
    if target.resolve().is_relative_to(folder.resolve()):
        raise TargetError(f"{target}: is in the source {folder}; give a folder outside of it")
    files, result = list_files(folder), DeidentifiedFiles()
    rule = _Rule(folder, target, key, retained, accept_burned_in)
    with progress("files de-identified") as show:
        outcomes = on_all_cores(partial(_deidentify, rule), files)
        for number, (path, outcome) in enumerate(zip(files, outcomes, strict=True), 1):
            name = path.relative_to(folder).as_posix()
            if isinstance(outcome, Omission):
                result.left_out.append(Omission((name,), outcome.reason))
            else:
                result.written.append(outcome)
            show(number, len(files))
    return result


def _deidentify(rule: _Rule, path: Path) -> str | Omission:
    """Write one file; its name in the target, or the reason for which it isn't written."""
    try:
        if not is_dicom(path):
            return Omission((), "is no DICOM file")
        header = read_instance(path, ())
        if not header.planes and header.reference is None:
            return Omission((), f"is no image, segmentation or structure set ({header.modality or 'no modality'})")
        if (risk := describe_risk(header)) and not rule.accept_burned_in:
            text = f"may show a patient's name in its pixels: {risk}; look at it, then give --accept-burned-in"
            return Omission((), text)
        dataset = deidentify(read_dataset(path, None, pixels=True), rule.key, rule.retained)
    except FileError as error:
        return Omission((), error.reason)
    names = PatientNames(rule.key)
    name = f"{dataset.PatientID}/{names.item(header.series)}/{names.item(header.uid or str(path))}.dcm"
    (rule.target / name).parent.mkdir(parents=True, exist_ok=True)
    try:
        dataset.save_as(rule.target / name, enforce_file_format=True)
    except (ValueError, TypeError, AttributeError, KeyError):  # pydicom refuses to write what it could read.
        (rule.target / name).unlink(missing_ok=True)
        return Omission((), "can't be written again; export it again or remove it")
    return name
