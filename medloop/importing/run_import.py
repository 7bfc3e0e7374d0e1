"""Import of a data set: plan its cases, write those that are missing on all cores, and report. Torch-free."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from medloop.container.memory import available_memory
from medloop.documents.csv_text import csv_text
from medloop.documents.file_names import IMPORT_FOLDER
from medloop.documents.import_report import ImportedCase, ImportReport, LeftOut
from medloop.errors import DataError, TargetError
from medloop.imaging.files import FileError
from medloop.imaging.on_all_cores import num_cores, on_all_cores
from medloop.imaging.patients import PATIENTS_FILE
from medloop.importing.archives import open_folder
from medloop.importing.cases import ImportCase, ImportOptions, ImportPlan, Omission, ProgressBars, no_progress
from medloop.importing.journal import Journal, WrittenCase, fingerprint
from medloop.importing.sources import ONE_FILE, find_source

BYTES_PER_VOXEL = 20
"""Of writing a subject: the voxels, their file's content, compressed or not, the label and a mask."""
_SCRATCH, _UNPACKED = "scratch", "unpacked"


def import_data(
    folder: Path,
    target: Path,
    options: ImportOptions,
    source: str | None = None,
    progress: ProgressBars = no_progress,
) -> ImportReport:
    """Write a source as a data set that `medloop data check` reads; cases of an earlier import are not written again.

    Args:
        folder: The source's, an archive of it, or its DICOMDIR.
        target: The data set's: new, empty, or of an earlier import.
        options: The user's choices.
        source: Name of the source's kind; None lets the folder decide.
        progress: Makes progress bars.

    Raises:
        DataError: The source is of no known kind, or an archive that can't be unpacked.
        SettingError: The options don't fit.
        TargetError: The target contains other files, or can't be written.
    """
    folder, options, source = _open_one_file(folder, options, source)
    if _is_inside(folder, target) and source != "medmnist":
        raise TargetError(f"{target}: is in the source {folder}; give a folder outside of it")
    with _open_target(target), open_folder(folder, target / IMPORT_FOLDER / _UNPACKED) as folder:
        kind, evidence = find_source(folder, source)
        plan = kind.plan(folder, options, progress)
        writer = _Writer(folder, target, Journal(target))
        results = writer.write_all(plan.cases, progress)
        report = _make_report(plan, results, kind.name, evidence)
        report.warnings += writer.describe_stale(plan)
        _write_patients(target, [case for case, result in results if not isinstance(result, Omission)])
        _write_text(target / IMPORT_FOLDER / ImportReport.FILE, report.model_dump_json(indent=2) + "\n")
    return report


def _is_inside(folder: Path, target: Path) -> bool:
    """True if a data set would be written into its own source."""
    return folder.is_dir() and target.resolve().is_relative_to(folder.resolve())


def _open_one_file(source: Path, options: ImportOptions, kind: str | None) -> tuple[Path, ImportOptions, str | None]:
    """The folder of a source that is a table or a file of arrays, the options with the file's name, and the kind."""
    known = ONE_FILE.get(source.suffix.lower()) if source.is_file() else None
    return (source.parent, replace(options, file=source.name), kind or known) if known else (source, options, kind)


@dataclass(frozen=True)
class _Failure:
    """A case that couldn't be written: the file that can't be used, if it is known, and the reason."""

    path: Path | None
    reason: str


@dataclass(frozen=True)
class _Result:
    case: WrittenCase
    is_new: bool


class _Writer:
    """Writes cases into the target, each completely or not at all."""

    def __init__(self, source: Path, target: Path, journal: Journal) -> None:
        self._source, self._target, self._journal = source, target, journal

    def write_all(
        self, cases: Sequence[ImportCase], progress: ProgressBars
    ) -> list[tuple[ImportCase, _Result | Omission]]:
        """Write the cases that are missing; the results are in the order of the cases."""
        fingerprints = [fingerprint(self._source, case) for case in cases]
        known = [self._journal.find(case.name, value) for case, value in zip(cases, fingerprints, strict=True)]
        missing = [number for number, written in enumerate(known) if written is None]
        work = [(number, cases[number]) for number in missing]
        results: dict[int, _Result | Omission] = {n: _Result(case, False) for n, case in enumerate(known) if case}
        with progress("cases written") as show:
            for done, (number, outcome) in enumerate(on_all_cores(self._write, work, partial(_num_processes, work)), 1):
                results[number] = self._move(cases[number], fingerprints[number], number, outcome)
                show(done, len(work))
        return [(case, results[number]) for number, case in enumerate(cases)]

    def _scratch(self, number: int) -> Path:
        return self._target / IMPORT_FOLDER / _SCRATCH / str(number)

    def _write(self, item: tuple[int, ImportCase]) -> tuple[int, tuple[str, ...] | _Failure]:
        """Write a case under a temporary name; runs in another process."""
        number, case = item
        path = self._scratch(number) / Path(case.name).name
        path.parent.mkdir(parents=True)
        try:
            return number, case.write(path)
        except FileError as error:
            return number, _Failure(error.path, error.reason)
        except DataError as error:
            return number, _Failure(None, str(error))

    def _move(
        self, case: ImportCase, value: str, number: int, outcome: tuple[str, ...] | _Failure
    ) -> _Result | Omission:
        """Move a written case to its place, and note it."""
        scratch, final = self._scratch(number), self._target / case.name
        try:
            _remove(final)
            if isinstance(outcome, _Failure):
                return Omission(self._with_first(case.files, outcome.path), outcome.reason)
            final.parent.mkdir(parents=True, exist_ok=True)
            os.replace(scratch / final.name, final)
            return _Result(self._journal.add(case.name, value, outcome), True)
        finally:
            shutil.rmtree(scratch, ignore_errors=True)

    def _with_first(self, files: tuple[str, ...], path: Path | None) -> tuple[str, ...]:
        """The files of a case, the one that can't be used first."""
        is_other = [path is None or self._source / name != path for name in files]
        return tuple(name for _, name in sorted(zip(is_other, files, strict=True), key=lambda item: item[0]))

    def describe_stale(self, plan: ImportPlan) -> Iterator[str]:
        """Warn of cases of earlier imports that the source no longer has."""
        planned = {case.name for case in plan.cases}
        stale = sorted(name for name in self._journal.names() if name not in planned and (self._target / name).exists())
        if stale:
            more = f" and {len(stale) - 1} more" if len(stale) > 1 else ""
            yield f"{stale[0]}{more}: of an earlier import, and no longer in the source; remove it if it is wrong"


def _num_processes(work: Sequence[tuple[int, ImportCase]]) -> int:
    """Processes that may each write a volume as large as the largest: at least one, at most one a core."""
    largest = max((case.num_voxels for _, case in work), default=0)
    available = available_memory() if largest else None
    return num_cores() if available is None else max(1, min(num_cores(), available // (BYTES_PER_VOXEL * largest)))


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


@contextmanager
def _open_target(target: Path) -> Iterator[None]:
    """Make the folder ready, and remove what is temporary at the end.

    Raises:
        TargetError: It contains other files, or can't be written.
    """
    notes = target / IMPORT_FOLDER
    try:
        if target.exists() and not target.is_dir():
            raise TargetError(f"{target}: is a file; give a folder")
        if not notes.is_dir() and target.is_dir() and any(target.iterdir()):
            raise TargetError(f"{target}: contains other files; give a new folder, or that of an earlier import")
        for name in (_SCRATCH, _UNPACKED):  # Of an import that was killed.
            shutil.rmtree(notes / name, ignore_errors=True)
        (notes / _SCRATCH).mkdir(parents=True, exist_ok=True)
        notes.chmod(0o700)  # The report names source files, and those are often named after patients.
    except OSError as error:
        raise TargetError(f"{target}: can't be written ({error.strerror}); give another folder") from None
    try:
        yield
    finally:
        shutil.rmtree(notes / _SCRATCH, ignore_errors=True)


def _make_report(
    plan: ImportPlan, results: Sequence[tuple[ImportCase, _Result | Omission]], source: str, evidence: str
) -> ImportReport:
    written = [(case, result) for case, result in results if isinstance(result, _Result)]
    omissions = [*plan.left_out, *(result for _, result in results if isinstance(result, Omission))]
    return ImportReport(
        source=source,
        evidence=evidence,
        task=plan.task,
        labels=list(plan.labels),
        num_patients=len({case.patient for case, _ in written if case.patient is not None}),
        cases=sorted((_describe(case, result) for case, result in written), key=lambda case: case.name),
        left_out=[
            LeftOut(path=_utf8(omission.files[0]), num_files=len(omission.files), reason=omission.reason)
            for omission in omissions
        ],
        warnings=list(plan.warnings),
    )


def _describe(case: ImportCase, result: _Result) -> ImportedCase:
    warnings = [*case.warnings, *result.case.warnings]
    return ImportedCase(name=case.name, is_new=result.is_new, num_files=len(case.files), warnings=warnings)


def _utf8(name: str) -> str:
    """A file's name as JSON can have it: bytes that are not UTF-8 are escaped."""
    return name.encode("utf-8", "backslashreplace").decode()


def _write_patients(target: Path, cases: Sequence[ImportCase]) -> None:
    """Write patients.csv, unless no patient is known."""
    if not any(case.patient for case in cases):
        (target / PATIENTS_FILE).unlink(missing_ok=True)
        return
    columns = sorted({name for case in cases for name in case.attributes})
    rows = [
        (case.name, case.patient, *map(partial(case.attributes.get), columns))
        for case in sorted(cases, key=lambda case: case.name)
    ]
    _write_text(target / PATIENTS_FILE, csv_text([("path", "patient", *columns), *rows], line_end="\n"))


def _write_text(path: Path, text: str) -> None:
    """Replace a file's content completely or not at all; an equal file is left as it is."""
    if path.is_file() and path.read_text(encoding="utf-8") == text:
        return
    scratch = path.with_name(f".{path.name}.new")
    scratch.write_text(text, encoding="utf-8")
    os.replace(scratch, path)
