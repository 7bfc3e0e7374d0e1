"""A segmentation model's part of the page."""

from __future__ import annotations

import numpy as np

from medloop.evaluation.outcome import Cell, ScoredVolumes, Table
from medloop.evaluation.report import volume_figures
from medloop.evaluation.report.contents import Section
from medloop.evaluation.scores import case_means


def volume_sections(scored: ScoredVolumes) -> list[Section]:
    """The segmentation model's own part of the page."""
    captions = f"HD95 in {scored.unit}, the mean over cases where both truth and prediction hold the class."
    return [
        Section(
            "Structures",
            tables=[Table(_COLUMNS, [_class_row(scored, k) for k in range(len(scored.classes))], captions)],
            figures=[volume_figures.strip_plot(scored.dice, scored.classes)],
        ),
        *_drawn(scored),
    ]


_COLUMNS = ("structure", "cases with it", "mean Dice", "median", "lowest", "mean HD95", "missed or invented")


def _class_row(scored: ScoredVolumes, k: int) -> list[Cell]:
    dice, hd95 = scored.dice[:, k], scored.hd95[:, k]
    defined, finite = dice[np.isfinite(dice)], hd95[np.isfinite(hd95)]
    summary = [float(f(defined)) if len(defined) else None for f in (np.mean, np.median, np.min)]
    distance = float(finite.mean()) if len(finite) else None
    return [scored.classes[k], int(scored.present[:, k].sum()), *summary, distance, int(np.isinf(hd95).sum())]


def _drawn(scored: ScoredVolumes) -> list[Section]:
    """The worst, the median and the best case, each drawn once; the worst first, as an approver asks for it."""
    means = case_means(scored.dice)
    order = [int(i) for i in np.argsort(means, kind="stable") if np.isfinite(means[i])]
    if not order:
        return []
    ranks = {"Worst case": order[0], "Median case": order[(len(order) - 1) // 2], "Best case": order[-1]}
    names: dict[int, list[str]] = {}
    for title, index in ranks.items():
        names.setdefault(index, []).append(title)
    return [_drawn_case(scored, index, " and ".join(titles), float(means[index])) for index, titles in names.items()]


def _drawn_case(scored: ScoredVolumes, index: int, title: str, mean: float) -> Section:
    case = scored.cases[index]
    scores = ", ".join(
        f"{name} Dice {value:.3f}" if np.isfinite(value) else f"{name} in neither"
        for name, value in zip(scored.classes, scored.dice[index], strict=True)
    )
    figure = volume_figures.overlays(case, scored.predictions[index].unpack(), scored.classes)
    return Section(f"{title}: mean Dice {mean:.3f}", f"Patient {case.patient}. {scores}.", figures=[figure])
