"""Cases to score: the test folder's, as split.json lists them, without patients that the model was trained on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from medloop.documents.leakage import Leakage, find_leakage, leaking_patients
from medloop.documents.model import ModelRecord
from medloop.documents.names import find_name
from medloop.documents.split import SplitRecord
from medloop.errors import DataError

_FIX = "give the test folder and the split.json of one split step"


@dataclass(frozen=True)
class HeldOut:
    """One test case: an image, or a subject's folder."""

    path: Path
    name: str
    """The path in split.json, relative to the test folder."""
    patient: str
    """Pseudonym."""

    @property
    def class_name(self) -> str:
        """The folder of an image."""
        return self.name.split("/")[0]


def list_cases(test: Path, split: SplitRecord, classes: Sequence[str]) -> list[HeldOut]:
    """List the test folder's cases, sorted; the folder and split.json must have the same ones.

    Args:
        test: `<class>/<image>`, or `<subject>/{img,label}.nii.gz`.
        split: Test cases and their patients.
        classes: The model's classes.

    Raises:
        DataError: The folder is empty, has a class that the model doesn't have, or differs from split.json.
    """
    folders = sorted(entry for entry in test.iterdir() if entry.is_dir() and not entry.name.startswith("."))
    if split.task == "classification":
        _require_known(folders, classes)
        paths = [path for folder in folders for path in sorted(folder.iterdir()) if not path.name.startswith(".")]
    else:
        paths = folders
    if not paths:
        raise DataError("test: the folder has no cases; " + _FIX)
    patient_of = split.patient_of("test")
    names = {path.relative_to(test).as_posix(): path for path in paths}
    for name in names:
        if name not in patient_of:
            raise DataError(f"test/{name}: is not a test case of split.json; {_FIX}")
    for name in patient_of:
        if name not in names:
            raise DataError(f"test/{name}: is in split.json but not in the folder; {_FIX}")
    return [HeldOut(path, name, patient_of[name]) for name, path in names.items()]


def _require_known(folders: Sequence[Path], classes: Sequence[str]) -> None:
    for folder in folders:
        if find_name(folder.name, classes) is None:
            known = ", ".join(classes)
            raise DataError(f"test/{folder.name}: not a class of the model ({known}); train a model with it")


def leave_out_seen(cases: Sequence[HeldOut], split: SplitRecord, model: ModelRecord) -> tuple[list[HeldOut], Leakage]:
    """Exclude the cases of patients that the model was trained or validated on, or that are in more than one split.

    Raises:
        DataError: No case is left.
    """
    seen = split.among({*model.patients.train, *model.patients.val})
    patients_and_splits = split.patients_and_splits()
    leaking = leaking_patients(patients_and_splits, seen)
    unseen = [case for case in cases if case.patient not in leaking]
    if not unseen:
        raise DataError("test: the model was trained on every patient; give patients that it was not trained on")
    identified, doubtful = split.identifiers != "none", bool(split.warnings)
    return unseen, find_leakage(patients_and_splits, identified=identified, doubtful=doubtful, seen=seen)
