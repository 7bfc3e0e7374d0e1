"""Two versions side by side as one self-contained page: verdicts, scores, classes, subgroups, data and code."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from medloop.commands.output import shown
from medloop.commands.pages import templates

if TYPE_CHECKING:
    from medloop.documents.evaluation import Evaluation, Interval

ABSENT = "\N{EN DASH}"
Row = dict[str, str]
Cell = tuple[float | None, str]
"""A number, and how it is shown."""
NO_CELL: Cell = (None, ABSENT)


@dataclass(frozen=True)
class Side:
    """One version's head.

    Args:
        model: `GROUP/N`.
        approval: Its status.
        score: Name of the main score.
        value: The score; None without an evaluation.
        bounds: The score's 95 % interval, if it has one.
        behind: Test patients and cases.
        verdict: The gate's verdict.
        leakage: Test patients seen in training, as text.
    """

    model: str
    approval: str
    score: str
    value: float | None
    bounds: Interval | None
    behind: str
    verdict: str
    leakage: str

    @property
    def interval(self) -> str:
        """The interval as text."""
        if self.bounds is None:
            return "no interval"
        return f"{self.bounds.lower:.3f} to {self.bounds.upper:.3f}, 95 % interval over patients"


def draw_comparison(document: Mapping[str, Any], evaluations: tuple[Evaluation | None, Evaluation | None]) -> str:
    """Draw the page.

    Args:
        document: The output of `models compare --json`.
        evaluations: Both versions' evaluation.json; None without one.

    Returns:
        HTML.
    """
    approvals = next(row for row in document["facts"] if row["name"] == "approval")
    sides = [
        _side(model, str(approvals[key]), evaluation)
        for model, key, evaluation in zip(document["models"], "ab", evaluations, strict=True)
    ]
    facts = [
        {"name": row["name"], "a": shown(row["a"]), "b": shown(row["b"]), "same": row["same"]}
        for row in document["facts"]
    ]
    return (
        templates("medloop.commands.registry")
        .get_template("comparison.html.jinja")
        .render(
            sides=sides,
            comparable=document["comparable"],
            verdict=document["verdict"],
            metrics=[_row(row["name"], "", _cell(row["a"]), _cell(row["b"])) for row in document["metrics"]],
            classes=_statistics(*evaluations),
            subgroups=_subgroups(*evaluations),
            facts=facts,
        )
    )


def _side(model: str, approval: str, evaluation: Evaluation | None) -> Side:
    if evaluation is None:
        return Side(model, approval, "no score", None, None, "no evaluation can be read", ABSENT, ABSENT)
    score, data = evaluation.score, evaluation.data
    patients = "test patients not known" if data.num_patients is None else f"{data.num_patients} test patients"
    return Side(
        model=model,
        approval=approval,
        score=score.name,
        value=score.value,
        bounds=score.interval,
        behind=f"{patients}, {data.num_cases} cases",
        verdict=evaluation.gate.verdict or ABSENT,
        leakage=data.leakage.note or ABSENT,
    )


def _statistics(first: Evaluation | None, second: Evaluation | None) -> list[Row]:
    """Every statistic of either version, the overall ones first, with intervals and differences."""
    a, b = (
        {(s.name, s.class_name): _cell(s.value, s.interval, s.unit) for s in (side.statistics if side else ())}
        for side in (first, second)
    )
    keys = sorted({**a, **b}, key=lambda key: (key[1] != "", key))
    return [_row(key[0], key[1] or "all", a.get(key, NO_CELL), b.get(key, NO_CELL)) for key in keys]


def _subgroups(first: Evaluation | None, second: Evaluation | None) -> list[Row]:
    a, b = ({(s.attribute, s.value): s for s in (side.subgroups if side else ())} for side in (first, second))
    rows = []
    for key in {**a, **b}:
        sides = (a.get(key), b.get(key))
        cells = [_cell(side.score, side.interval, hidden=side.hidden) if side else NO_CELL for side in sides]
        patients = " and ".join(shown(side.num_patients) if side else ABSENT for side in sides)
        rows.append(_row(key[0], key[1] or ABSENT, cells[0], cells[1]) | {"patients": patients})
    return rows


def _row(name: str, group: str, a: Cell, b: Cell) -> Row:
    difference = ABSENT if a[0] is None or b[0] is None else f"{b[0] - a[0]:+.3f}"
    return {"name": name, "group": group, "a": a[1], "b": b[1], "difference": difference}


def _cell(value: float | None, interval: Interval | None = None, unit: str = "", *, hidden: bool = False) -> Cell:
    if value is None:
        return None, "hidden: few patients" if hidden else ABSENT
    spread = f" ({interval.lower:.3f} to {interval.upper:.3f})" if interval else ""
    return value, f"{value:.3f}{f' {unit}' if unit else ''}{spread}"
