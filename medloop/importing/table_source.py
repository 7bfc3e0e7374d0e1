"""A table of labels: a row for each file, with its class or label map, patient, split and attributes. Torch-free."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from medloop.dicom.attributes import DEFAULT_ATTRIBUTES
from medloop.documents.names import is_missing, normalise, tidy
from medloop.documents.split import Split
from medloop.errors import DataError, SettingError
from medloop.imaging.importable import PICTURE_ENDS, VOLUME_ENDS, find_tables, stem_of
from medloop.imaging.label_tables import TableColumns, find_columns, read_heading, read_label_table
from medloop.imaging.layouts import split_of_folder
from medloop.imaging.listing import DataFolder, walk
from medloop.importing.cases import ImportOptions, ImportPlan, Omission, ProgressBars
from medloop.importing.dicom_patients import merge_attributes
from medloop.importing.image_cases import LabelledImage, plan_pictures
from medloop.importing.patient_columns import choose_columns
from medloop.importing.source_files import PathError, resolve_path
from medloop.importing.subject_cases import MaskFile, VolumePair, choose_axis, plan_pairs

_MAX_ROWS = 5
"""Rows that one message names."""


@dataclass(frozen=True)
class _Row:
    """A row that can be used."""

    number: int
    path: str
    label: str
    patient: str | None
    split: Split | None
    attributes: Mapping[str, str]


class _Files:
    """The source's files, by path, by name and by name without suffix."""

    def __init__(self, root: DataFolder) -> None:
        self.root = root.path
        self.paths = [folder.below(name) for folder in walk(root) for name in folder.files]
        self._known = set(self.paths)
        self._ends: dict[str, list[str]] = defaultdict(list)
        for path in self.paths:
            name = path.rpartition("/")[2]
            if name.lower().endswith((*PICTURE_ENDS, *VOLUME_ENDS)):
                for key in {name, _stem(name)}:
                    self._ends[key].append(path)

    def find(self, text: str) -> str:
        """The file that a path in the table names: the path, or the only file that ends so, with or without suffix.

        Raises:
            PathError: There is none, there are several, or it is outside of the source.
        """
        written = PurePosixPath(text.strip().replace("\\", "/"))
        if not written.is_absolute() or written.is_relative_to(self.root.absolute()):
            path = resolve_path(self.root, text).relative_to(self.root).as_posix()
            if path in self._known:
                return path
        candidates = [
            path for path in self._ends.get(written.name, ()) if written.is_absolute() or _ends_with(path, written)
        ]
        if written.is_absolute():
            candidates = _longest(candidates, written)
        if len(candidates) > 1:
            raise PathError("names several files; write the path relative to the table's folder")
        if not candidates:
            raise PathError("names no file of the source; correct the path, or remove the row")
        return candidates[0]


def _stem(name: str) -> str:
    suffix = max((end for end in (*PICTURE_ENDS, *VOLUME_ENDS) if name.lower().endswith(end)), key=len, default="")
    return name[: len(name) - len(suffix)]


def _ends_with(path: str, written: PurePosixPath) -> bool:
    """True if a file's path ends as a written one; suffixes of files may be missing there."""
    parts, ends = PurePosixPath(path).parts, written.parts
    return parts[-len(ends) : -1] == ends[:-1] if len(ends) > 1 else True


def _longest(candidates: Sequence[str], written: PurePosixPath) -> list[str]:
    """The candidates that share the most folders with a path of another computer."""

    def shared(path: str) -> int:
        pairs = zip(reversed(PurePosixPath(path).parts[:-1]), reversed(written.parts[:-1]), strict=False)
        number = 0
        for first, second in pairs:
            if first != second:
                break
            number += 1
        return number

    best = max(map(shared, candidates), default=0)
    return [path for path in candidates if shared(path) == best]


class _Problems:
    """Rows that are left out, by reason."""

    def __init__(self, table: str) -> None:
        self._table = table
        self._rows: dict[str, list[int]] = defaultdict(list)

    def add(self, number: int, reason: str) -> None:
        """Leave a row out."""
        self._rows[reason].append(number)

    def omissions(self) -> Iterator[Omission]:
        """One for each reason, with the rows' numbers."""
        for reason, numbers in self._rows.items():
            listed = ", ".join(map(str, numbers[:_MAX_ROWS]))
            more = f" and {len(numbers) - _MAX_ROWS} more" if len(numbers) > _MAX_ROWS else ""
            text = f"row{'s' if len(numbers) > 1 else ''} {listed}{more}"
            yield Omission((self._table,), f"{text}: {reason}")


def plan_table(folder: Path, options: ImportOptions, progress: ProgressBars) -> ImportPlan:
    """Take the file of each row.

    Raises:
        DataError: The table can't be used.
        SettingError: The options don't fit.
        UserError: A package that reads the table is not installed.
    """
    name, columns = _find_table(folder, options.file)
    table = read_label_table(folder / name)
    columns = find_columns(table.heading) or columns
    taken = [each for each in (columns.path, columns.label, columns.patient, columns.split) if each]
    if not columns.patient and options.attributes not in ((), DEFAULT_ATTRIBUTES):
        raise SettingError(f"--attributes: {name} has no column patient, which attributes belong to; add it")
    attributes = choose_columns(table.heading, taken, options.attributes if columns.patient else ())
    files, problems = _Files(DataFolder(folder)), _Problems(name)
    for number in table.uneven:
        problems.add(number, "has another number of cells than the first line; quote cells that contain commas")
    rows = [
        row
        for number, cells in table.rows
        if (row := _read_row(number, cells, columns, attributes.values(cells), files, problems))
    ]
    rows = _without_repeated(rows, problems)
    plan = _plan(folder, rows, columns, files, problems, options, progress)
    cases, warnings = merge_attributes(plan.cases)
    unlisted = _unlisted(files, rows, plan, name)
    return replace(
        plan,
        cases=tuple(cases),
        left_out=(*problems.omissions(), *unlisted, *plan.left_out),
        warnings=(*(attributes.describe_ignored(name) if columns.patient else ()), *warnings, *plan.warnings),
    )


def _find_table(folder: Path, chosen: str) -> tuple[str, TableColumns]:
    names = [chosen] if chosen else find_tables(DataFolder(folder))
    tables = [(name, columns) for name in names if (columns := find_columns(read_heading(folder / name)))]
    if len(tables) == 1:
        return tables[0]
    if not tables:
        if chosen:
            read_label_table(folder / chosen)
        listed = ", ".join(names) or "none"
        raise DataError(f"{folder}: has no table with columns path and label (tables: {listed}); name the columns so")
    listed = ", ".join(name for name, _ in tables)
    raise DataError(f"{folder}: has several tables of labels ({listed}); give the path of one")


def _read_row(
    number: int,
    cells: Mapping[str, str],
    columns: TableColumns,
    attributes: Mapping[str, str],
    files: _Files,
    problems: _Problems,
) -> _Row | None:
    """A row, or None if it is left out."""
    try:
        path = files.find(cells[columns.path])
        label = tidy(cells[columns.label])
        if not label or is_missing(normalise(label)):
            raise PathError(f"column {columns.label} is empty; write the label, or remove the row")
        patient = normalise(cells[columns.patient]) if columns.patient else None
        if patient is not None and (not patient or is_missing(patient)):
            raise PathError(f"column {columns.patient} is empty; give each file its patient, or remove the column")
        split = split_of_folder(normalise(cells[columns.split])) if columns.split else None
        if columns.split and split is None:
            raise PathError(f"column {columns.split} is none of train, val and test; correct it")
    except PathError as error:
        text = str(error)
        problems.add(number, text if text.startswith("column") else f"column {columns.path} {text}")
        return None
    return _Row(number, path, label, patient, split, attributes)


def _without_repeated(rows: Sequence[_Row], problems: _Problems) -> list[_Row]:
    """One row for each file; a file whose rows differ has none."""
    by_path: dict[str, list[_Row]] = defaultdict(list)
    for row in rows:
        by_path[row.path].append(row)
    unique = []
    for same in by_path.values():
        if len({(row.label, row.patient, row.split) for row in same}) > 1:
            for row in same:
                problems.add(row.number, "repeats a file with another label, patient or split; remove the wrong rows")
            continue
        unique.append(same[0])
        for row in same[1:]:
            problems.add(row.number, "repeats a row; remove one")
    return unique


def _plan(
    folder: Path,
    rows: Sequence[_Row],
    columns: TableColumns,
    files: _Files,
    problems: _Problems,
    options: ImportOptions,
    progress: ProgressBars,
) -> ImportPlan:
    """Cases of images of classes, or of volumes with label maps."""
    volumes = [row for row in rows if row.path.lower().endswith(VOLUME_ENDS)]
    pictures = [row for row in rows if row.path.lower().endswith(PICTURE_ENDS)]
    if volumes and pictures:
        raise SettingError("--task: the table has volumes and 2D images; divide it into two")
    for row in rows:
        if not row.path.lower().endswith((*VOLUME_ENDS, *PICTURE_ENDS)):
            problems.add(row.number, f"column {columns.path} names no picture and no volume")
    if not volumes:
        images = [LabelledImage(row.path, row.label, row.split, row.patient, row.attributes) for row in pictures]
        return plan_pictures(folder, images, (), options)
    pairs = []
    for row in volumes:
        try:
            label = files.find(row.label)
        except PathError as error:
            problems.add(row.number, f"column {columns.label} {error}")
            continue
        name = stem_of(row.path.rpartition("/")[2])
        name = row.path.split("/")[-2] if name in ("img", "image", "ct", "mr") and "/" in row.path else name
        pairs.append(VolumePair(name, row.path, (MaskFile(label),), None, row.split, row.patient, row.attributes))
    axis = choose_axis(folder, [pair.image for pair in pairs], (), options.channel) if pairs else None
    return plan_pairs(folder, [replace(pair, channel=axis) for pair in pairs], options, progress)


def _unlisted(files: _Files, rows: Sequence[_Row], plan: ImportPlan, table: str) -> list[Omission]:
    """Files of images that no row names."""
    used = {name for case in plan.cases for name in case.files} | {row.path for row in rows}
    used |= {name for omission in plan.left_out for name in omission.files}
    ends = VOLUME_ENDS if plan.task == "segmentation" else PICTURE_ENDS
    rest = tuple(path for path in files.paths if path not in used and path.lower().endswith(ends))
    return [Omission(rest, f"has no row in {table} that can be used")] if rest else []
