"""Plots by structure: strips of Dice and HD95 with a dot for each case, and Bland-Altman's plot of volumes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes

from medloop.documents.evaluation import VolumeAgreement
from medloop.evaluation.intervals.estimate import Floats
from medloop.evaluation.report.figure_style import ALARM, FAINT, GREY, INK, MAX_POINTS, colour, plot, short, svg_uri
from medloop.evaluation.report.page_parts import Figure
from medloop.evaluation.scored_cases import ScoredVolumes

MAX_ROWS = 16
"""Structures in one plot; of more, only those with the lowest scores are drawn."""


def dice_strips(dice: Floats, classes: Sequence[str]) -> Figure:
    """Draw every case's Dice, one row a structure, with the median.

    Args:
        dice: [N, K]; NaN is left out.
        classes: K names.
    """
    rows = _rows(dice)
    with plot(5.2, 1.0 + 0.42 * len(rows)) as (figure, axes):
        _strips(axes, dice[:, rows], [classes[k] for k in rows], rows)
        axes.set_xlim(_lowest(dice) - 0.02, 1.02)
        axes.set_xlabel("Dice")
        caption = "One dot a case; the bar is the median." + _omission(dice)
        return Figure(svg_uri(figure), "Dice of every test case by structure", caption)


def distance_strips(scored: ScoredVolumes) -> Figure:
    """Draw every case's HD95, one row a structure; a cross at the right for cases with one empty mask."""
    hd95, failed = scored.table("hd95"), scored.failed
    finite = np.where(np.isfinite(hd95) & ~failed, hd95, np.nan)
    rows = _rows(-hd95)
    with plot(5.2, 1.0 + 0.42 * len(rows)) as (figure, axes):
        _strips(axes, finite[:, rows], [scored.classes[k] for k in rows], rows)
        axes.set_xlim(left=0)
        right = axes.get_xlim()[1]
        for row, number in enumerate(int(n) for n in failed[:, rows].sum(axis=0)):
            if number:
                axes.plot([right], [row], marker="x", color=ALARM, markersize=7, clip_on=False)
                axes.annotate(str(number), (right, row), (6, 0), textcoords="offset points", va="center", color=ALARM)
        axes.set_xlabel(f"HD95, {scored.unit}")
        caption = "One dot a case; the bar is the median."
        if failed.any():
            caption += " A cross counts the cases with the structure in only one of truth and prediction."
        return Figure(svg_uri(figure), "HD95 of every test case by structure", caption + _omission(hd95))


def agreement_plot(scored: ScoredVolumes, agreement: VolumeAgreement) -> Figure:
    """Draw Bland and Altman's plot of one structure's volumes."""
    k, unit = list(scored.classes).index(agreement.class_name), agreement.unit
    truth, predicted = (scored.table(f"volume_{name}")[:, k] for name in ("truth", "predicted"))
    present = (truth > 0) | (predicted > 0)
    mean, difference = (truth[present] + predicted[present]) / 2, predicted[present] - truth[present]
    with plot(5.2, 3.0) as (figure, axes):
        axes.axhline(0, color=FAINT, linewidth=1)
        many = len(mean) > MAX_POINTS
        axes.scatter(mean, difference, s=20, color=colour(k), alpha=0.75, linewidths=0, rasterized=many)
        lines = {agreement.lower_limit: "dashed", agreement.bias: "solid", agreement.upper_limit: "dashed"}
        for value, style in lines.items():
            axes.axhline(value, color=INK, linewidth=1.2, linestyle=style)
        axes.set(xlabel=f"mean of truth and prediction, {unit}", ylabel=f"prediction minus truth, {unit}")
        limits = f"{agreement.lower_limit:.2f} to {agreement.upper_limit:.2f} {unit}"
        text = f"Bland-Altman plot of {agreement.class_name}: bias {agreement.bias:.2f} {unit}, limits {limits}"
        caption = f"Volume of {agreement.class_name} (Bland-Altman). Solid: the bias; dashed: 95 % limits of agreement."
        return Figure(svg_uri(figure), text, caption)


def _lowest(dice: Floats) -> float:
    """Return the start of the axis: 0, or the tenth below the lowest Dice if all are above 0.5."""
    lowest = float(np.nanmin(dice)) if np.isfinite(dice).any() else 0.0
    return float(np.floor(lowest * 10 - 1e-9)) / 10 if lowest > 0.5 else 0.0


def _rows(values: Floats) -> list[int]:
    """Return the columns to draw, in order: all, or the MAX_ROWS with the lowest means."""
    counts = np.isfinite(values).sum(axis=0)
    means = np.where(counts > 0, np.nansum(values, axis=0) / np.maximum(counts, 1), np.inf)
    return sorted(int(k) for k in np.argsort(means, kind="stable")[:MAX_ROWS])


def _omission(values: Floats) -> str:
    number = values.shape[1]
    return "" if number <= MAX_ROWS else f" Of {number} structures, the {MAX_ROWS} with the worst values."


def _strips(axes: Axes, values: Floats, names: Sequence[str], tones: Sequence[int]) -> None:
    generator, many = np.random.default_rng(0), values.size > MAX_POINTS
    for row in range(len(names)):
        defined = values[np.isfinite(values[:, row]), row]
        heights = row + generator.uniform(-0.2, 0.2, len(defined))
        axes.scatter(defined, heights, s=20, color=colour(tones[row]), alpha=0.7, linewidths=0, rasterized=many)
        if len(defined):
            axes.plot([np.median(defined)] * 2, [row - 0.34, row + 0.34], color=INK, linewidth=1.8)
    axes.set_yticks(range(len(names)), [short(name) for name in names])
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.grid(axis="x", color=FAINT, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(length=0)
    axes.spines["left"].set_color(GREY)
