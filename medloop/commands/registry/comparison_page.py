"""Two versions side by side as one self-contained page: verdicts, scores, classes, subgroups, data and code.

evaluation.json is read as it comes, whatever version wrote it: what is absent or of another kind is shown as absent.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from medloop.commands.output import shown
from medloop.commands.pages import templates
from medloop.documents.card import mapping

ABSENT = "\N{EN DASH}"
Row = dict[str, str]


@dataclass(frozen=True)
class Side:
    """One version's head.

    Args:
        model: `GROUP/N`.
        approval: Its status.
        score: Name of the main score.
        value: The score; None without an evaluation.
        lower: Lower bound of its 95 % interval, where it has one.
        upper: Upper bound.
        behind: Test patients and cases.
        verdict: What the gate said of it.
        leakage: Whether test patients were seen in training.
    """

    model: str
    approval: str
    score: str
    value: float | None
    lower: float | None
    upper: float | None
    behind: str
    verdict: str
    leakage: str

    @property
    def interval(self) -> str:
        """In words."""
        if self.lower is None or self.upper is None:
            return "no interval"
        return f"{self.lower:.3f} to {self.upper:.3f}, 95 % interval over patients"


def draw_comparison(document: Mapping[str, Any], evaluations: tuple[Mapping[str, Any], Mapping[str, Any]]) -> str:
    """Draw the page.

    Args:
        document: What `models compare --json` prints.
        evaluations: Both versions' evaluation.json; empty where there is none.

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
            metrics=[
                _row(row["name"], "", _figure(row["a"]), _figure(row["b"]), row["difference"])
                for row in document["metrics"]
            ],
            classes=_statistics(*evaluations),
            subgroups=_subgroups(*evaluations),
            facts=facts,
        )
    )


def _side(model: str, approval: str, evaluation: Mapping[str, Any]) -> Side:
    score, gate, data = (mapping(evaluation.get(name)) for name in ("score", "gate", "data"))
    patients, cases = _number(data.get("num_patients")), _number(data.get("num_cases"))
    behind = [f"{patients:.0f} test patients" if patients is not None else "test patients not known"]
    behind += [f"{cases:.0f} cases"] if cases is not None else []
    lower, upper = _bounds(score)
    return Side(
        model=model,
        approval=approval,
        score=str(score.get("name", "no score")),
        value=_number(score.get("value")),
        lower=lower,
        upper=upper,
        behind=", ".join(behind) if evaluation else "no evaluation can be read",
        verdict=str(gate.get("verdict") or ABSENT),
        leakage=str(mapping(data.get("leakage")).get("note") or ABSENT),
    )


def _statistics(first: Mapping[str, Any], second: Mapping[str, Any]) -> list[Row]:
    """Every statistic of either version, the overall ones first, with intervals and differences."""
    a, b = (_by_key(evaluation.get("statistics"), ("name", "class_name")) for evaluation in (first, second))
    keys = sorted({**a, **b}, key=lambda key: (key[1] != "", key))
    return [_compared(key[0], key[1] or "all", a.get(key, {}), b.get(key, {}), "value") for key in keys]


def _subgroups(first: Mapping[str, Any], second: Mapping[str, Any]) -> list[Row]:
    a, b = (_by_key(evaluation.get("subgroups"), ("attribute", "value")) for evaluation in (first, second))
    rows = []
    for key in {**a, **b}:
        ours, theirs = a.get(key, {}), b.get(key, {})
        patients = " and ".join(shown(side.get("num_patients")) if side else ABSENT for side in (ours, theirs))
        rows.append(_compared(key[0], key[1] or ABSENT, ours, theirs, "score") | {"patients": patients})
    return rows


def _compared(name: str, of: str, a: Mapping[str, Any], b: Mapping[str, Any], member: str) -> Row:
    values = [_number(side.get(member)) for side in (a, b)]
    texts = []
    for side, value in zip((a, b), values, strict=True):
        lower, upper = _bounds(side)
        spread = f" ({lower:.3f} to {upper:.3f})" if lower is not None and upper is not None else ""
        unit = f" {side['unit']}" if side.get("unit") else ""
        texts.append("hidden: few patients" if side.get("hidden") else f"{_figure(value)}{unit}{spread}")
    difference = values[1] - values[0] if values[0] is not None and values[1] is not None else None
    return _row(name, of, texts[0], texts[1], difference)


def _row(name: str, of: str, a: str, b: str, difference: float | None) -> Row:
    return {
        "name": name,
        "of": of,
        "a": a,
        "b": b,
        "difference": ABSENT if difference is None else f"{difference:+.3f}",
    }


def _by_key(listed: Any, names: tuple[str, str]) -> dict[tuple[str, str], Mapping[str, Any]]:
    return {(str(item.get(names[0], "")), str(item.get(names[1], ""))): item for item in _mappings(listed)}


def _mappings(listed: Any) -> Iterator[Mapping[str, Any]]:
    yield from (item for item in listed if isinstance(item, Mapping)) if isinstance(listed, list) else ()


def _bounds(holder: Mapping[str, Any]) -> tuple[float | None, float | None]:
    interval = mapping(holder.get("interval"))
    return _number(interval.get("lower")), _number(interval.get("upper"))


def _number(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return float(value)


def _figure(value: Any) -> str:
    number = _number(value)
    return ABSENT if number is None else f"{number:.3f}"
