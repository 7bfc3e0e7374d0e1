"""Tables of the page: statistics, subgroups and comparisons, as text."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from medloop.documents.csv_text import Cell
from medloop.documents.evaluation import Evaluation, Interval, Statistic, Subgroup
from medloop.evaluation.csv_table import CsvTable
from medloop.evaluation.metrics import find_metric
from medloop.evaluation.subgroups import MIN_RANKED, MIN_SHOWN, NOT_GIVEN

MAX_COLUMNS = 10


@dataclass(frozen=True)
class Bar:
    """An interval and its middle on a scale of 0 to 100."""

    low: float
    high: float
    at: float


@dataclass(frozen=True)
class Line:
    """A statistic, a class or a subgroup with its value and interval."""

    title: str
    value: str
    interval: str
    counts: Sequence[str]
    note: str
    bar: Bar | None = None


@dataclass(frozen=True)
class Matrix:
    """Statistics of each class: value and interval in each cell."""

    columns: Sequence[str]
    rows: Sequence[tuple[str, Sequence[tuple[str, str]]]]


def title_of(name: str) -> str:
    """Return the heading of a statistic."""
    metric = find_metric(name)
    return metric.label if metric else name[:1].upper() + name[1:].replace("_", " ")


def show_cell(cell: Cell) -> str:
    """Write a cell as text: three decimals, a dash if undefined."""
    if cell is None or (isinstance(cell, float) and math.isnan(cell)):
        return "\N{EN DASH}"
    if isinstance(cell, float):
        return "\N{INFINITY}" if math.isinf(cell) else f"{cell:.3f}"
    return str(cell)


def show_interval(interval: Interval | None, digits: int = 3) -> str:
    """Write the bounds as text; empty without an interval."""
    return "" if interval is None else f"{interval.lower:.{digits}f} to {interval.upper:.{digits}f}"


def overall(evaluation: Evaluation) -> list[Line]:
    """Make the rows of the statistics over all classes."""
    return [_line(statistic) for statistic in evaluation.statistics if not statistic.class_name]


def by_class(evaluation: Evaluation) -> Matrix | None:
    """Make the table of the statistics of each class; None if the record has none."""
    statistics = [statistic for statistic in evaluation.statistics if statistic.class_name]
    if not statistics:
        return None
    names = list(dict.fromkeys(statistic.name for statistic in statistics))[:MAX_COLUMNS]
    classes = list(dict.fromkeys(statistic.class_name for statistic in statistics))
    cells = {(statistic.class_name, statistic.name): statistic for statistic in statistics}
    columns = [_column(next(statistic for statistic in statistics if statistic.name == name)) for name in names]
    rows = [(label, [_cell(cells.get((label, name))) for name in names]) for label in classes]
    return Matrix(columns, rows)


def everything(evaluation: Evaluation) -> CsvTable:
    """Make the table of all statistics with unit, counts, method and note."""
    columns = [
        "statistic", "class", "value", "95 % interval", "unit", "patients", "cases", "excluded", "failures", "remark",
    ]  # fmt: skip
    rows: list[list[Cell]] = [
        [
            title_of(statistic.name),
            statistic.class_name or "all",
            statistic.value,
            show_interval(statistic.interval, _digits(statistic)) or None,
            statistic.unit or None,
            statistic.num_patients,
            statistic.num_cases,
            statistic.num_excluded,
            statistic.num_failures,
            "; ".join(
                part for part in (statistic.interval.method if statistic.interval else "", statistic.note) if part
            ),
        ]
        for statistic in evaluation.statistics
    ]
    return CsvTable(columns, rows)


def subgroup_lines(groups: Sequence[Subgroup], score: float) -> tuple[list[tuple[str, list[Line]]], Bar]:
    """Make the rows of the subgroups by attribute, on one scale, and the position of the whole test set's score."""
    bounds = [score, *_bounds(groups)]
    low = max(0.0, math.floor((min(bounds) - 0.02) * 20) / 20)
    span = max(1.0 - low, 0.05)
    position = [100 * (value - low) / span for value in (low, 1.0, score)]
    attributes = dict.fromkeys(group.attribute for group in groups)
    lines = [(name, [_group(g, low, span) for g in groups if g.attribute == name]) for name in attributes]
    return lines, Bar(low, 1.0, position[2])


def comparison_table(evaluation: Evaluation) -> CsvTable:
    """Make the table of the comparisons with approved versions."""
    classes = sorted({name for entry in evaluation.comparisons for name in entry.classes})
    columns = ["version", "this model", "that version", "difference", "lower bound", "patients", "cases", "power"]
    rows: list[list[Cell]] = []
    for entry in evaluation.comparisons:
        role = "champion" if entry.role == "champion" else "first approved"
        numbers: list[Cell] = [entry.score_candidate, entry.score_model, entry.difference, entry.lower_bound]
        counts: list[Cell] = [entry.num_patients, entry.num_cases, entry.power]
        rows.append([f"{role}: {entry.model}", *numbers, *counts, *(entry.classes.get(name) for name in classes)])
    return CsvTable([*columns, *(f"difference, {name}" for name in classes)], rows)


def _bounds(groups: Iterable[Subgroup]) -> list[float]:
    bounds = []
    for group in groups:
        if not group.hidden and group.score is not None:
            bounds.append(group.score)
            bounds += [group.interval.lower] if group.interval else []
    return bounds


def _group(group: Subgroup, low: float, span: float) -> Line:
    counts = [str(group.num_patients), str(group.num_cases)]
    if group.hidden:
        few = f"under {MIN_SHOWN}"
        remark = f"{few} patients: not shown, to protect their privacy"
        return Line(group.value, "not shown", "", [few, "\N{EN DASH}"], remark)
    if group.score is None:
        remark = "no value in patients.csv: no subgroup" if group.value == NOT_GIVEN else "undefined in this group"
        return Line(group.value, "\N{EN DASH}", "", counts, remark)
    note = "" if group.ranked else f"under {MIN_RANKED} patients: not ranked"
    bar = _bar(group.score, group.interval, low, span)
    return Line(group.value, f"{group.score:.3f}", show_interval(group.interval), counts, note, bar)


def _bar(value: float, interval: Interval | None, low: float = 0.0, span: float = 1.0) -> Bar:
    """Place value and interval on a scale that begins at `low`; what is outside is at the scale's end."""
    ends = (interval.lower, interval.upper) if interval else (value, value)
    return Bar(*(min(100.0, max(0.0, 100 * (end - low) / span)) for end in (*ends, value)))


def _line(statistic: Statistic) -> Line:
    digits = _digits(statistic)
    value = "\N{EN DASH}" if statistic.value is None else f"{statistic.value:.{digits}f} {statistic.unit}".strip()
    patients = "unknown" if statistic.num_patients is None else str(statistic.num_patients)
    interval, bar = statistic.interval, None
    if not statistic.unit and statistic.value is not None and 0 <= statistic.value <= 1:
        bar = _bar(statistic.value, interval)
    counts = [patients, str(statistic.num_cases)]
    return Line(title_of(statistic.name), value, show_interval(interval, digits), counts, _remark(statistic), bar)


def _remark(statistic: Statistic) -> str:
    counts = {"excluded": statistic.num_excluded, "failures": statistic.num_failures}
    parts = [statistic.note, *(f"{number} {name}" for name, number in counts.items() if number)]
    return "; ".join(part for part in parts if part)


def _column(statistic: Statistic) -> str:
    return title_of(statistic.name) + (f", {statistic.unit}" if statistic.unit else "")


def _cell(statistic: Statistic | None) -> tuple[str, str]:
    if statistic is None or statistic.value is None:
        return "\N{EN DASH}", ""
    digits = _digits(statistic)
    return f"{statistic.value:.{digits}f}", show_interval(statistic.interval, digits)


def _digits(statistic: Statistic) -> int:
    """Return the decimals; without a row in the table of metrics, 2 for a statistic with a unit."""
    metric = find_metric(statistic.name)
    return metric.digits if metric else 2 if statistic.unit else 3
