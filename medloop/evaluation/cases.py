"""Which cases are scored: those of the test folder that split.json knows, less patients that the model has seen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from medloop.documents.evaluation import Leakage
from medloop.documents.model import ModelRecord
from medloop.documents.split import SplitRecord
from medloop.errors import DataError

_MEND = "give the test folder and the split.json of one split step"


@dataclass(frozen=True)
class HeldOut:
    """One test case: an image, or a subject's folder."""

    path: Path
    name: str
    """As split.json has it, relative to the test folder."""
    patient: str
    """Pseudonym."""

    @property
    def class_name(self) -> str:
        """The folder that an image lies in."""
        return self.name.split("/")[0]


def list_cases(test: Path, split: SplitRecord, classes: Sequence[str]) -> list[HeldOut]:
    """The test folder's cases, sorted; the folder and split.json must name the same ones.

    Args:
        test: `<class>/<image>`, or `<subject>/{img,label}.nii.gz`.
        split: Which cases are test cases, and whose.
        classes: Classes that the model knows.

    Raises:
        DataError: The folder is empty, holds a class that the model doesn't know, or differs from split.json.
    """
    folders = sorted(entry for entry in test.iterdir() if entry.is_dir() and not entry.name.startswith("."))
    if split.task == "classification":
        _require_known(folders, classes)
        paths = [path for folder in folders for path in sorted(folder.iterdir()) if not path.name.startswith(".")]
    else:
        paths = folders
    if not paths:
        raise DataError("test: the folder holds no cases; " + _MEND)
    patient_of = split.patient_of("test")
    names = {path.relative_to(test).as_posix(): path for path in paths}
    for name in names:
        if name not in patient_of:
            raise DataError(f"test/{name}: is no test case of split.json; {_MEND}")
    for name in patient_of:
        if name not in names:
            raise DataError(f"test/{name}: is in split.json but not in the folder; {_MEND}")
    return [HeldOut(path, name, patient_of[name]) for name, path in names.items()]


def _require_known(folders: Sequence[Path], classes: Sequence[str]) -> None:
    for folder in folders:
        if folder.name not in classes:
            known = ", ".join(classes)
            raise DataError(f"test/{folder.name}: a class that the model does not know ({known}); train on it first")


def leave_out_seen(cases: Sequence[HeldOut], split: SplitRecord, model: ModelRecord) -> tuple[list[HeldOut], Leakage]:
    """Drop the cases of patients that the model was trained or validated on, and say so.

    Raises:
        DataError: Nothing is left.
    """
    seen = set(model.patients.train) | set(model.patients.val)
    kept = [case for case in cases if case.patient not in seen]
    num_left_out = len(cases) - len(kept)
    leaked = {case.patient for case in cases} & seen
    if not kept:
        raise DataError("test: the model was trained on every patient in it; give patients that it has not seen")
    if split.identifiers == "none":
        note = "Leakage is unknown: the data has no patient identifiers, so one patient may be on both sides."
        if num_left_out:
            note += f" {num_left_out} cases that the model was trained on are left out of every score."
        return kept, Leakage(status="unknown", num_patients=None, num_cases=num_left_out, note=note)
    if leaked:
        note = (
            f"LEAKAGE: the model was trained or validated on {len(leaked)} of the test patients; "
            f"their {num_left_out} cases are left out of every score."
        )
        return kept, Leakage(status="found", num_patients=len(leaked), num_cases=num_left_out, note=note)
    note = f"No test patient is among the {len(seen)} patients that the model was trained or validated on."
    return kept, Leakage(status="none", num_patients=0, num_cases=0, note=note)
