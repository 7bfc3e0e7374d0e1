"""The split job: check the data, give every patient a split, write pseudonymised copies and split.json. Torch-free.

Nothing that this module prints, raises or writes contains a file's or a patient's name. `medloop data check` shows
names.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Self

from pydantic import ConfigDict, model_validator

from medloop.documents.label_names import LabelNames
from medloop.documents.leakage import find_leakage
from medloop.documents.split import (
    SPLITS,
    Case,
    Patient,
    Quarantined,
    Split,
    SplitCounts,
    SplitRecord,
    Task,
)
from medloop.documents.split_rule import Resampling, SplitRule
from medloop.errors import DataError, TargetError, printable
from medloop.imaging.files import FileError
from medloop.imaging.formats import IMAGE_SUFFIXES, copy_volume, find_suffix, read_image
from medloop.imaging.identity import case_stem, path_pseudonym, path_renamer, patient_pseudonym
from medloop.imaging.layouts import IMAGE, LABEL, SAFE_NAMES
from medloop.imaging.manifest import write_manifests
from medloop.imaging.on_all_cores import on_all_cores
from medloop.imaging.pictures import write_png
from medloop.imaging.problems import Problem, group_by_kind
from medloop.imaging.progress_lines import progress_lines
from medloop.imaging.split_plan import LaterSteps, plan_split
from medloop.imaging.validation import (
    CheckedCase,
    DatasetReport,
    case_classes,
    check_dataset,
    image_statistics,
    require_volume,
)
from medloop.imaging.volume_memory import processes_for_volumes

FIX = "run `medloop data check DIR` to see the names"
PatientCases = Mapping[str, Sequence[CheckedCase]]
"""Cases of each patient, by pseudonym."""
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


@dataclass(frozen=True, slots=True)
class AssignedCase:
    """A case with its patient's pseudonym, its split, and its path below the split's folder."""

    case: CheckedCase
    pseudonym: str
    split: Split
    path: str


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
    cases = _cases_of_patients(report, names)
    earlier = _earlier_pseudonyms(cases, key)
    known = _known_splits(previous, cases.keys(), earlier) if previous else {}
    plan = plan_split(report, settings, names, known, LaterSteps(settings))
    report.problems += plan.problems
    report.warnings += plan.warnings
    report.cases = [replace(case, thumbnail=b"") for case in report.cases]  # compared by now: a quarter of the memory
    cases = _cases_of_patients(report, names)
    rename = path_renamer(key, SAFE_NAMES | _class_folders(report))
    left_out = _quarantine(report, rename, settings.on_invalid)
    assigned_cases = _name_cases(report, cases, plan.split_of, settings.layout)
    record = _record(report, assigned_cases, plan.strata, settings, left_out, earlier)
    _write(data, settings, assigned_cases, record, outputs)
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


def _pseudonyms(report: DatasetReport, key: bytes) -> dict[str, str]:
    """Pseudonym of each case's patient, by path; one text for all cases of a patient."""
    pseudonym_of = partial(patient_pseudonym if report.identified else path_pseudonym, key)
    known: dict[str, str] = {}
    return {path: known.setdefault(name := pseudonym_of(patient), name) for path, patient in report.patients.items()}


def _cases_of_patients(report: DatasetReport, names: Mapping[str, str]) -> PatientCases:
    cases: dict[str, list[CheckedCase]] = {}
    for case in report.cases:
        name = names[case.path]
        if name in cases:
            cases[name].append(case)
        else:
            cases[name] = [case]  # a list that grew has room for four
    return cases


def _earlier_pseudonyms(cases: PatientCases, key: bytes) -> dict[str, list[str]]:
    """Pseudonyms that earlier versions made of the text of a patient's identifier, of patients that have any."""
    made = (
        (name, {patient_pseudonym(key, case.raw.written) for case in group if case.raw.written} - {name})
        for name, group in cases.items()
    )
    return {name: sorted(names) for name, names in made if names}


def _known_splits(previous: SplitRecord, patients: Set[str], earlier: Mapping[str, list[str]]) -> dict[str, Split]:
    """The splits that patients had; one who had several, perhaps under several pseudonyms, stays in the first."""
    known: dict[str, Split] = {}
    for split in SPLITS:
        for name in previous.pseudonyms(split):
            known.setdefault(name, split)
    for name in patients:
        if splits := {known[each] for each in (name, *earlier.get(name, ())) if each in known}:
            known[name] = min(splits, key=SPLITS.index)
    if known and not known.keys() & patients:
        print("warning: previous: knows none of these patients; was another key or patients.csv used?", flush=True)
    return known


def _name_cases(
    report: DatasetReport, cases: PatientCases, split_of: Mapping[str, Split], layout: str
) -> list[AssignedCase]:
    """Number each patient's cases in the order of their content: file names may contain dates. Copies are PNG."""
    assigned_cases = []
    for name, group in sorted(cases.items()):
        for number, case in enumerate(sorted(group, key=lambda c: (c.image_digest, c.path))):
            path = case_stem(report.task, name, number, len(group))
            if report.task == "classification":
                suffix = ".png" if layout == "copy" else find_suffix(case.path, IMAGE_SUFFIXES)
                path = f"{case.raw.group}/{path}{suffix}"
            assigned_cases.append(AssignedCase(case, name, split_of[case.path], path))
    return assigned_cases


def _record(
    report: DatasetReport,
    assigned_cases: list[AssignedCase],
    strata: Mapping[str, str],
    settings: SplitSettings,
    left_out: list[Quarantined],
    earlier: Mapping[str, list[str]],
) -> SplitRecord:
    patients: dict[str, Patient] = {}
    for item in assigned_cases:
        patient = patients.setdefault(
            item.pseudonym,
            Patient(
                stratum=strata[item.pseudonym],
                attributes=dict(item.case.raw.attributes),
                cases=[],
                earlier=earlier.get(item.pseudonym, []),
            ),
        )
        classes = case_classes(item.case, report.classes)
        patient.cases.append(Case(path=item.path, split=item.split, classes=classes))
    return SplitRecord(
        task=settings.task,
        seed=settings.seed,
        classes=report.classes,
        presplit=report.presplit,
        identifiers="patients.csv" if report.identified else "none",
        patients=patients,
        counts={split: _count(split, assigned_cases, report.classes) for split in SPLITS},
        leakage=find_leakage(
            [(item.pseudonym, item.split) for item in assigned_cases],
            identified=report.identified,
            doubtful=bool(report.doubts_of_identifiers),
        ),
        warnings=report.doubts_of_identifiers,
        quarantined=left_out,
        test_digest=digest_of_images(item.case for item in assigned_cases if item.split == "test"),
        images=image_statistics(item.case for item in assigned_cases if item.split == "train"),
        data_digest=data_digest(report.cases),
    )


def _count(split: Split, assigned_cases: list[AssignedCase], classes: list[str]) -> SplitCounts:
    items = [item for item in assigned_cases if item.split == split]
    counts = {name: 0 for name in classes}
    for item in items:
        for name in case_classes(item.case, classes):
            counts[name] += 1
    return SplitCounts(num_patients=len({i.pseudonym for i in items}), num_cases=len(items), classes=counts)


def digest_of_images(cases: Iterable[CheckedCase]) -> str:
    """SHA-256 over the sorted content digests of the images: names and labels change nothing."""
    return hashlib.sha256("\n".join(sorted(case.image_digest for case in cases)).encode()).hexdigest()


def data_digest(cases: list[CheckedCase]) -> str:
    """SHA-256 over the sorted classes and content digests: the same images give the same digest under any names."""
    lines = sorted(f"{case.raw.group} {case.image_digest} {case.label_digest}" for case in cases)
    return hashlib.sha256("\n".join(lines).encode("utf-8", "surrogateescape")).hexdigest()


def _write(
    data: Path, settings: SplitSettings, assigned_cases: list[AssignedCase], record: SplitRecord, outputs: SplitOutputs
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
                write_manifests(settings.data_uri, _sources(data, assigned_cases, settings.task), folders)
            else:
                _copy_all(data, Path(scratch), assigned_cases, settings.task)
            record.write(Path(scratch) / "split")
            for name, target in targets.items():
                for entry in sorted((Path(scratch) / name).iterdir()):
                    shutil.move(entry, target / entry.name)
    except OSError as error:
        raise TargetError(f"output: can't be written ({os.strerror(error.errno or 5)}); give other folders") from error


def _sources(data: Path, assigned_cases: list[AssignedCase], task: Task) -> dict[Split, dict[str, str]]:
    """Files of all cases by split: path below the split's folder to path below the raw data."""
    files: dict[Split, dict[str, str]] = {split: {} for split in SPLITS}
    for item in assigned_cases:
        if task == "classification":
            files[item.split][item.path] = item.case.path
            continue
        for stem in (IMAGE, LABEL):
            volume = _volume(data / item.case.path, stem, item.path)
            files[item.split][f"{item.path}/{volume}"] = f"{item.case.path}/{volume}"
    return files


def _volume(folder: Path, stem: str, name: str) -> str:
    try:
        return require_volume(folder, stem).name
    except FileError as error:
        raise DataError(f"{name}: {error.reason}; {FIX}") from None


def _copy_all(data: Path, folder: Path, assigned_cases: list[AssignedCase], task: Task) -> None:
    """Copy the cases into the folders of their splits, on all cores."""
    cases = [item.case.raw for item in assigned_cases]
    workers = partial(processes_for_volumes, data, cases) if task == "segmentation" else None
    progress, total = progress_lines("files copied"), len(assigned_cases)
    for done, _ in enumerate(on_all_cores(partial(_copy, data, folder, task), assigned_cases, workers), 1):
        progress(done, total)


def _copy(data: Path, folder: Path, task: Task, item: AssignedCase) -> None:
    """Copy one case; its path in the split is used in the message if the case changed since it was checked."""
    source, target = data / item.case.path, folder / item.split / item.path
    try:
        if task == "classification":
            write_png(target, read_image(source))
            return
        for stem in (IMAGE, LABEL):
            copy_volume(require_volume(source, stem), target / f"{stem}.nii.gz")
    except FileError as error:
        raise DataError(f"{item.path}: {error.reason}; {FIX}") from None
