"""The columns of cases.csv and of the page's table of cases that the table of metrics names."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from operator import attrgetter

from medloop.documents.csv_text import Cell
from medloop.evaluation.metrics import Metric, metrics_of
from medloop.evaluation.scored_cases import Scored, ScoredVolumes


@dataclass(frozen=True)
class CaseColumn:
    """A number of each case."""

    heading: str
    """Heading in cases.csv: `hd95_mm_CLASS`."""
    label: str
    """Heading on the page: `HD95 CLASS, mm`; empty: in cases.csv only."""
    values: Sequence[Cell]
    """[N], in the order of the cases."""


def case_columns(scored: Scored) -> list[CaseColumn]:
    """Make the columns: of metrics over all classes, of the floors' metric, then of the others in the table's order."""
    metrics = sorted(metrics_of(scored.task), key=lambda metric: (metric.scope == "class", not metric.is_floor))
    return [column for metric in metrics for column in (*_values(metric, scored), *_parts(metric, scored))]


def _values(metric: Metric, scored: Scored) -> Iterator[CaseColumn]:
    unit = scored.units[metric.unit]
    for k in metric.class_indices(scored) if metric.per_case else ():
        title = metric.label if k is None else f"{metric.label} {scored.classes[k]}"
        values = metric.function(scored, k).values.tolist()
        yield CaseColumn(metric.make_key(scored, k), f"{title}, {unit}" if unit else title, values)


def _parts(metric: Metric, scored: Scored) -> Iterator[CaseColumn]:
    for heading, field in metric.case_parts:
        assert isinstance(scored, ScoredVolumes)  # noqa: S101 (see `Metric.case_parts`)
        name, number = heading.format(unit=scored.units[metric.unit]), attrgetter(field)
        for k, class_name in enumerate(scored.classes):
            yield CaseColumn(f"{name}_{class_name}", "", [number(case[k]) for case in scored.scores])
