"""The table of metrics: what every row must have."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from medloop.documents.split import Task
from medloop.evaluation.metrics import METRICS, find_metric, floor_of, metrics_of

TASKS: tuple[Task, ...] = ("classification", "segmentation")
ROOT = Path(__file__).resolve().parents[3]


@pytest.mark.parametrize("task", TASKS)
def test_a_task_has_one_score_and_one_metric_of_floors(task: Task) -> None:
    """The score is over all classes, the floors' metric by class; of both the highest is best."""
    (score,) = [metric for metric in metrics_of(task) if metric.pair]
    (floor,) = [metric for metric in metrics_of(task) if metric.is_floor]
    assert (score.scope, score.best, score.shown) == ("overall", "highest", True)
    assert (floor.scope, floor.best, floor.shown) == ("class", "highest", True)
    assert floor_of(task) is floor


def test_names_and_keys_are_unique() -> None:
    """A statistic's name finds its own row."""
    names = Counter(name for metric in METRICS for name in {metric.name, metric.key or metric.name})
    assert set(names.values()) == {1}
    assert all(find_metric(metric.name) is metric for metric in METRICS)


def test_shown_metrics_are_explained() -> None:
    """Their definition is on the page, and their name in docs/evaluation.md."""
    docs = (ROOT / "docs/evaluation.md").read_text()
    for metric in METRICS:
        if metric.shown:
            assert metric.definition.endswith("."), metric.name
            assert f"`{metric.name}`" in docs, metric.name
