"""Charts of an execution: metrics by epoch from the jobs' logs, and the trials of tuning jobs."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from medloop.commands.execution.charts import COLOURS, Axis, Chart, Names, Series, draw, span
from medloop.commands.execution.trials import Trial, TuningTrials, short
from medloop.log_metrics import find_metrics

_EPOCH = re.compile(r"\bepoch=(\d+)")
_PALE = "var(--soft, #55606e)"
_BEST = "var(--bad, #b91c1c)"
_WIDE = 100.0
"""A range of scale Auto is drawn logarithmically when what was tried is this many times apart."""


@dataclass(frozen=True)
class Done:
    """A trial that has an objective."""

    trial: Trial
    value: float


def read_curves(lines: Iterable[str], patterns: Mapping[str, re.Pattern[str]]) -> dict[str, list[tuple[float, float]]]:
    """Read metrics by epoch from the lines of a log with an epoch; the last value of an epoch counts."""
    curves: dict[str, dict[float, float]] = {}
    for line in lines:
        epoch = _EPOCH.search(line)
        if epoch:
            for name, value in find_metrics(line, patterns):
                curves.setdefault(name, {})[float(epoch[1])] = value
    return {name: sorted(points.items()) for name, points in curves.items()}


def metric_charts(curves: Mapping[str, Sequence[tuple[float, float]]]) -> list[Chart]:
    """Draw one chart for the losses, one for the scores on val, one for each other metric."""
    groups: dict[str, list[str]] = {}
    for name in sorted(curves):
        title = "loss" if name.endswith("loss") else "scores on val" if name.startswith("val_") else name
        groups.setdefault(title, []).append(name)
    order = sorted(groups, key=lambda title: (title != "loss", title != "scores on val", title))
    return [_by_epoch(title, {name: curves[name] for name in groups[title]}) for title in order]


def tuning_charts(tuning: TuningTrials, curves: Mapping[int, Sequence[tuple[float, float]]]) -> list[Chart]:
    """Draw the convergence, the objective by epoch, and each tuned hyperparameter against the objective.

    The curves, by trial number, are of the objective by epoch.
    """
    done = [Done(trial, trial.objective) for trial in tuning.trials if trial.objective is not None]
    if not done:
        return []
    charts = [_convergence(tuning, done)]
    if any(len(points) > 1 for points in curves.values()):
        charts.append(_learning(tuning, curves))
    names = sorted({name for item in done for name in item.trial.hyperparameters})
    return charts + [_against(tuning, done, name) for name in names]


def _by_epoch(title: str, curves: Mapping[str, Sequence[tuple[float, float]]]) -> Chart:
    points = [point for curve in curves.values() for point in curve]
    series = [
        Series(name, curve, COLOURS[index % len(COLOURS)], notes=[f"{name} {y:.4g}, epoch {x:.0f}" for x, y in curve])
        for index, (name, curve) in enumerate(curves.items())
    ]
    x = span([x for x, _ in points], "epoch", integers=True)
    return draw(title, x, span([y for _, y in points], title), series)


def _convergence(tuning: TuningTrials, done: list[Done]) -> Chart:
    better = max if tuning.maximise else min
    best: list[tuple[float, float]] = []
    for item in done:
        so_far = better(item.value, best[-1][1]) if best else item.value
        best.append((float(item.trial.number), so_far))
    points = [(float(item.trial.number), item.value) for item in done]
    x = span([x for x, _ in points], "trial", integers=True)
    series = [
        Series("best so far", best, COLOURS[0], "steps"),
        Series("trial", points, _PALE, "points", notes=[_note(item) for item in done]),
        *_ring(done, {item.trial.number: point for item, point in zip(done, points, strict=True)}),
    ]
    return draw("Convergence", x, span([y for _, y in points], tuning.metric), series)


def _learning(tuning: TuningTrials, curves: Mapping[int, Sequence[tuple[float, float]]]) -> Chart:
    best = next((trial.number for trial in tuning.trials if trial.best), None)
    series = [
        Series("" if number != best else "best trial", points, _BEST if number == best else _PALE, faint=number != best)
        for number, points in sorted(curves.items(), key=lambda item: item[0] == best)
    ]
    points = [point for curve in curves.values() for point in curve]
    x = span([x for x, _ in points], "epoch", integers=True)
    return draw(f"{tuning.metric} of each trial", x, span([y for _, y in points], tuning.metric), series)


def _against(tuning: TuningTrials, done: list[Done], name: str) -> Chart:
    tried = [(item, item.trial.hyperparameters[name]) for item in done if name in item.trial.hyperparameters]
    axis: Axis | Names
    if name in tuning.scaling:
        values = [float(text) for _, text in tried]
        axis = span(values, name, scale=_scale(tuning.scaling[name], values))
    else:
        texts = tuple(dict.fromkeys(sorted((text for _, text in tried), key=_by_number)))
        axis, values = Names(name, texts), [float(texts.index(text)) for _, text in tried]
    points = [(value, item.value) for value, (item, _) in zip(values, tried, strict=True)]
    notes = [_note(item) for item, _ in tried]
    ring = _ring(done, {item.trial.number: point for (item, _), point in zip(tried, points, strict=True)})
    y = span([item.value for item in done], tuning.metric)
    return draw(name, axis, y, [Series("trial", points, COLOURS[0], "points", notes=notes), *ring])


def _ring(done: list[Done], points: Mapping[int, tuple[float, float]]) -> list[Series]:
    best = [points[item.trial.number] for item in done if item.trial.best and item.trial.number in points]
    return [Series("best", best, _BEST, "rings")] if best else []


def _scale(scaling: str, values: Sequence[float]) -> str:
    if scaling == "ReverseLogarithmic":
        return "reverse"
    wide = min(values) > 0 and max(values) / min(values) >= _WIDE
    return "log" if scaling == "Logarithmic" or (scaling == "Auto" and wide) else "linear"


def _by_number(text: str) -> tuple[float, str]:
    try:
        return float(text), ""
    except ValueError:
        return float("inf"), text


def _note(item: Done) -> str:
    hyperparameters = ", ".join(f"{name}={short(value)}" for name, value in sorted(item.trial.hyperparameters.items()))
    return f"trial {item.trial.number}: {item.value:.4f} ({hyperparameters})"
