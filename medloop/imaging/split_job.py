"""The split job: check the data, give every patient a split, write pseudonymised copies and split.json. Torch-free.

Nothing that this module prints, raises or writes contains a file's or a patient's name. `medloop data check` shows
names.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray
from pydantic import ConfigDict, model_validator

from medloop.documents.label_names import LabelNames
from medloop.documents.leakage import find_leakage
from medloop.documents.split import (
    SPLITS,
    Quarantined,
    Split,
    SplitCounts,
    SplitRecord,
    Task,
)
from medloop.documents.split_rule import Resampling, SplitRule
from medloop.errors import DataError, TargetError, printable
from medloop.imaging.assigned_cases import AssignedCase, AssignedCases, PatientRecords
from medloop.imaging.checked_cases import ByCase, count_classes
from medloop.imaging.content_digests import data_digest, digest_of_images
from medloop.imaging.files import FileError
from medloop.imaging.formats import copy_volume, read_image
from medloop.imaging.identity import (
    numbered_pseudonym,
    path_pseudonym,
    path_renamer,
    patient_pseudonym,
    pseudonym_number,
)
from medloop.imaging.image_facts import summarise
from medloop.imaging.layouts import IMAGE, LABEL, SAFE_NAMES
from medloop.imaging.leakage_warning import rows_of_split_patients
from medloop.imaging.manifest import write_manifests
from medloop.imaging.on_all_cores import on_all_cores
from medloop.imaging.pictures import write_png
from medloop.imaging.problems import Problem, group_by_kind
from medloop.imaging.progress_lines import progress_lines
from medloop.imaging.split_plan import LaterSteps, plan_split
from medloop.imaging.validation import DatasetReport, check_dataset, require_volume
from medloop.imaging.volume_memory import processes_for_volumes

FIX = "run `medloop data check DIR` to see the names"
MAX_LISTED = 600
"""Characters of problems in the failure text; all of them are in the log."""


class SplitSettings(SplitRule, Resampling):
    """The split job's arguments."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    task: Task
    labels: LabelNames | None = None
    """Segmentation: class names by label value, the background first."""
    data_version: str = ""
    """Digest of the input's listing: new data invalidate the step cache; nothing else reads it."""
    data_uri: str = ""
    """S3 URI of the raw data: what manifests refer to."""

    @model_validator(mode="after")
    def _manifest_has_a_prefix(self) -> Self:
        if self.layout == "manifest" and not self.data_uri.startswith("s3://"):
            raise ValueError("the layout manifest needs --data-uri s3://..., the location of the raw data")
        return self


@dataclass(frozen=True)
class SplitOutputs:
    """Folders that the job fills; each is empty or missing before."""

    train: Path
    val: Path
    test: Path
    split: Path


def split_dataset(
    data: Path, key: bytes, settings: SplitSettings, outputs: SplitOutputs, previous: SplitRecord | None = None
) -> SplitRecord:
    """Check, split and copy a data set.

    Args:
        data: The raw folder, in either layout.
        key: Of the pseudonyms.
        settings: The job's arguments.
        outputs: Folders of the copies and of split.json: complete or, when anything fails, empty.
        previous: The last split.json; its patients keep their splits.

    Raises:
        DataError: The data can't be used; the message names files by pseudonym.
        TargetError: An output folder isn't empty or can't be written.
    """
    if previous and previous.task != settings.task:
        raise DataError(f"previous: its task is {previous.task}, not {settings.task}; give this task's last split.json")
    report = check_dataset(data, settings.task, settings.labels, progress_lines("files checked"))
    names = _pseudonyms(report, key)
    earlier = _earlier_pseudonyms(report, key)
    known = _known_splits(previous, names, earlier) if previous else {}
    plan = plan_split(report, settings, names, known, LaterSteps(settings))
    report.problems += plan.problems
    report.warnings += plan.warnings
    rename = path_renamer(key, SAFE_NAMES | _class_folders(report))
    left_out = _quarantine(report, rename, settings.on_invalid)
    assigned = AssignedCases(report, names, plan, settings.layout)
    record = _record(report, assigned, settings, left_out, earlier)
    _write(data, settings, assigned, record, outputs)
    return record


def summary(record: SplitRecord) -> str:
    """The exit message: patients and cases of each split, quarantined cases, and leakage."""
    parts = [f"{split} {count.num_patients} patients {count.num_cases} cases" for split, count in record.counts.items()]
    if record.quarantined:
        parts.append(f"{len(record.quarantined)} left out")
    return f"{'; '.join(parts)}; leakage: {record.leakage.note}"


def _class_folders(report: DatasetReport) -> set[str]:
    """Names of class folders; a folder with fewer than two images might as well be a patient's."""
    if report.task == "segmentation":
        return set()
    return {name for name, count in report.counts.items() if count > 1}


def _quarantine(report: DatasetReport, rename: Callable[[str], str], on_invalid: str) -> list[Quarantined]:
    """Log warnings and problems; quarantine bad cases where settings allow it and that suffices, else raise."""
    for warning in report.warnings:
        print(f"warning: {printable(str(warning.hide(rename)))}", flush=True)
    for problem in report.problems:
        print(f"problem: {printable(str(problem.hide(rename)))}", flush=True)
    fatal = [problem for problem in report.problems if on_invalid == "fail" or problem.case is None]
    if fatal:
        raise DataError(_refusal(fatal, rename))
    reasons: dict[str, list[str]] = defaultdict(list)
    for problem in report.problems:
        reasons[problem.case or problem.path].append(problem.reason(rename))
    return [Quarantined(path=rename(case), reason="; ".join(texts)) for case, texts in reasons.items()]


def _refusal(problems: list[Problem], rename: Callable[[str], str]) -> str:
    listed: list[str] = []
    num_listed = 0
    for problem in group_by_kind(problems):
        listed.append(problem.hide(rename))
        num_listed += 1 + len(problem.alike)
        if sum(map(len, listed)) > MAX_LISTED:
            break
    more = f"; and {len(problems) - num_listed} more in the log" if num_listed < len(problems) else ""
    return f"{'; '.join(listed)}{more}; {FIX}"


def _pseudonyms(report: DatasetReport, key: bytes) -> ByCase[str]:
    """Pseudonym of each case's patient."""
    pseudonym_of = partial(patient_pseudonym if report.identified else path_pseudonym, key)
    patients, of_cases = np.unique(report.patients.numbers, return_inverse=True)
    made = (pseudonym_number(pseudonym_of(report.patients.value_of(patient))) for patient in map(int, patients))
    numbers = np.fromiter(made, np.uint64, len(patients))
    return ByCase(report.cases, numbers[of_cases], numbered_pseudonym)


def _earlier_pseudonyms(report: DatasetReport, key: bytes) -> dict[str, list[str]]:
    """Pseudonyms that earlier versions made of the text of a patient's identifier, of patients that have any."""
    made: dict[str, set[str]] = defaultdict(set)
    raw = report.cases.raw
    for number in np.unique(raw.person_numbers[report.cases.rows]).tolist():
        person = raw.people[number]
        if person.patient and person.written:
            made[patient_pseudonym(key, person.patient)].add(patient_pseudonym(key, person.written))
    return {name: sorted(names - {name}) for name, names in made.items() if names - {name}}


def _known_splits(previous: SplitRecord, names: ByCase[str], earlier: Mapping[str, list[str]]) -> dict[str, Split]:
    """The splits that patients had; one who had several, perhaps under several pseudonyms, stays in the first."""
    known: dict[str, Split] = {}
    for split in SPLITS:
        for name in previous.pseudonyms(split):
            known.setdefault(name, split)
    for name, older in earlier.items():
        if splits := {known[each] for each in (name, *older) if each in known}:
            known[name] = min(splits, key=SPLITS.index)
    if known and not any(name in known for name in names.values()):
        print("warning: previous: knows none of these patients; was another key or patients.csv used?", flush=True)
    return known


def _record(
    report: DatasetReport,
    assigned: AssignedCases,
    settings: SplitSettings,
    left_out: list[Quarantined],
    earlier: Mapping[str, list[str]],
) -> SplitRecord:
    splits, names = assigned.splits, assigned.names
    train, test = (splits == SPLITS.index(split) for split in ("train", "test"))
    facts = report.cases.facts(train)
    record = SplitRecord(
        task=settings.task,
        seed=settings.seed,
        classes=report.classes,
        presplit=report.presplit,
        identifiers="patients.csv" if report.identified else "none",
        patients={},
        counts={split: _count(report, assigned, splits == number) for number, split in enumerate(SPLITS)},
        leakage=find_leakage(
            [(names.at(row), SPLITS[splits[row]]) for row in rows_of_split_patients(names.numbers, splits)],
            identified=report.identified,
            doubtful=bool(report.doubts_of_identifiers),
        ),
        warnings=report.doubts_of_identifiers,
        quarantined=left_out,
        test_digest=digest_of_images(report.cases, test),
        images=summarise(facts) if facts else None,
        data_digest=data_digest(report.cases),
    )
    # Made one by one as they are written.
    return record.model_copy(update={"patients": PatientRecords(assigned, earlier)})


def _count(report: DatasetReport, assigned: AssignedCases, chosen: NDArray[np.bool_]) -> SplitCounts:
    counts = count_classes(report.cases, report.classes, chosen)
    num_patients = len(np.unique(assigned.names.numbers[chosen]))
    return SplitCounts(num_patients=num_patients, num_cases=int(np.count_nonzero(chosen)), classes=counts)


def _write(
    data: Path, settings: SplitSettings, assigned: AssignedCases, record: SplitRecord, outputs: SplitOutputs
) -> None:
    """Write everything to a temporary folder first, and move it into the outputs when it is complete."""
    targets = {"train": outputs.train, "val": outputs.val, "test": outputs.test, "split": outputs.split}
    try:
        for name, target in targets.items():
            target.mkdir(parents=True, exist_ok=True)
            if any(target.iterdir()):
                raise TargetError(f"output {name}: folder is not empty; give a new or an empty one")
        with tempfile.TemporaryDirectory(prefix=".split-", dir=outputs.split) as scratch:
            for name in targets:
                (Path(scratch) / name).mkdir()
            if settings.layout == "manifest":
                folders = {name: Path(scratch) / name for name in targets}
                write_manifests(settings.data_uri, partial(_sources, data, assigned, settings.task), folders)
            else:
                _copy_all(data, Path(scratch), assigned, settings.task)
            record.write(Path(scratch) / "split")
            for name, target in targets.items():
                for entry in sorted((Path(scratch) / name).iterdir()):
                    shutil.move(entry, target / entry.name)
    except OSError as error:
        raise TargetError(f"output: can't be written ({os.strerror(error.errno or 5)}); give other folders") from error


def _sources(data: Path, assigned: AssignedCases, task: Task, split: Split) -> Iterator[tuple[str, str]]:
    """Files of a split's cases: path below the split's folder, and below the raw data."""
    for item in assigned.of_split(split):
        if task == "classification":
            yield item.path, item.source
            continue
        for stem in (IMAGE, LABEL):
            volume = _volume(data / item.source, stem, item.path)
            yield f"{item.path}/{volume}", f"{item.source}/{volume}"


def _volume(folder: Path, stem: str, name: str) -> str:
    try:
        return require_volume(folder, stem).name
    except FileError as error:
        raise DataError(f"{name}: {error.reason}; {FIX}") from None


def _copy_all(data: Path, folder: Path, assigned: AssignedCases, task: Task) -> None:
    """Copy the cases into the folders of their splits, on all cores."""
    workers = partial(processes_for_volumes, data, assigned.cases.raw) if task == "segmentation" else None
    progress, total = progress_lines("files copied"), len(assigned)
    for done, _ in enumerate(on_all_cores(partial(_copy, data, folder, task), assigned, workers), 1):
        progress(done, total)


def _copy(data: Path, folder: Path, task: Task, item: AssignedCase) -> None:
    """Copy one case; its path in the split is used in the message if the case changed since it was checked."""
    source, target = data / item.source, folder / item.split / item.path
    try:
        if task == "classification":
            write_png(target, read_image(source))
            return
        for stem in (IMAGE, LABEL):
            copy_volume(require_volume(source, stem), target / f"{stem}.nii.gz")
    except FileError as error:
        raise DataError(f"{item.path}: {error.reason}; {FIX}") from None
