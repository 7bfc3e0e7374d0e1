"""Plots of numbers by structure or class, one row each: strips of dots."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes

from medloop.evaluation.report.contents import Figure
from medloop.evaluation.report.drawing import FAINT, GREY, INK, MAX_POINTS, canvas, colour, styled, svg_uri
from medloop.evaluation.scores import Floats

MAX_ROWS = 16
"""Structures in one plot; of more, those with the lowest scores are drawn."""


def dice_strips(dice: Floats, classes: Sequence[str]) -> Figure:
    """Draw every case's Dice, one row a structure, with the median.

    Args:
        dice: [N, K]; NaN is left out.
        classes: K names.
    """
    rows = _rows(dice)
    with styled():
        figure = canvas(5.2, 1.0 + 0.42 * len(rows))
        axes = figure.add_subplot()
        _strips(axes, dice[:, rows], [classes[k] for k in rows], rows)
        axes.set_xlim(-0.02, 1.02)
        axes.set_xlabel("Dice")
        return Figure(
            svg_uri(figure),
            "Dice of every test case by structure",
            "One dot a case; the bar is the median." + _left(dice),
        )


def distance_strips(hd95: Floats, classes: Sequence[str], unit: str) -> Figure:
    """Draw every case's HD95, one row a structure; where one mask alone is empty, a cross at the right.

    Args:
        hd95: [N, K]; NaN is left out, infinity where one mask alone is empty.
        classes: K names.
        unit: mm or voxels.
    """
    finite = np.where(np.isfinite(hd95), hd95, np.nan)
    rows = _rows(-np.nan_to_num(hd95, nan=0.0, posinf=1e9))
    with styled():
        figure = canvas(5.2, 1.0 + 0.42 * len(rows))
        axes = figure.add_subplot()
        _strips(axes, finite[:, rows], [classes[k] for k in rows], rows)
        axes.set_xlim(left=0)
        right = axes.get_xlim()[1]
        for row, k in enumerate(rows):
            number = int(np.isinf(hd95[:, k]).sum())
            if number:
                axes.plot([right], [row], marker="x", color="#b91c1c", markersize=7, clip_on=False)
                axes.annotate(
                    str(number), (right, row), (6, 0), textcoords="offset points", va="center", color="#b91c1c"
                )
        axes.set_xlabel(f"HD95, {unit}")
        caption = "One dot a case; the bar is the median."
        if np.isinf(hd95).any():
            caption += " A cross counts cases where truth or prediction alone holds the structure."
        return Figure(svg_uri(figure), "HD95 of every test case by structure", caption + _left(hd95))


def agreement(truth: Floats, predicted: Floats, names: tuple[str, str], lines: tuple[float, float, float]) -> Figure:
    """Draw Bland and Altman's plot of one structure's volumes.

    Args:
        truth: [N].
        predicted: [N].
        names: The structure, and the unit.
        lines: Lower limit, bias, upper limit.
    """
    name, unit = names
    with styled():
        figure = canvas(4.4, 3.2)
        axes = figure.add_subplot()
        mean, difference = (truth + predicted) / 2, predicted - truth
        axes.scatter(
            mean, difference, s=20, color=colour(0), alpha=0.75, linewidths=0, rasterized=len(mean) > MAX_POINTS
        )
        axes.axhline(0, color=FAINT, linewidth=1)
        for value, style in zip(lines, ("dashed", "solid", "dashed"), strict=True):
            axes.axhline(value, color=INK, linewidth=1.2, linestyle=style)
        axes.set(xlabel=f"mean of truth and prediction, {unit}", ylabel=f"prediction less truth, {unit}", title=name)
        axes.title.set_fontsize(10)
        text = f"Bland-Altman plot of {name}: bias {lines[1]:.2f} {unit}, limits {lines[0]:.2f} to {lines[2]:.2f}"
        return Figure(svg_uri(figure), text, "Solid: the bias; dashed: 95 % limits of agreement.")


def _rows(values: Floats) -> list[int]:
    """Columns to draw, in their own order: all, or the MAX_ROWS of the lowest means."""
    counts = np.isfinite(values).sum(axis=0)
    means = np.where(counts > 0, np.nansum(values, axis=0) / np.maximum(counts, 1), np.inf)
    return sorted(int(k) for k in np.argsort(means, kind="stable")[:MAX_ROWS])


def _left(values: Floats) -> str:
    return "" if values.shape[1] <= MAX_ROWS else f" Of {values.shape[1]} structures, the {MAX_ROWS} that do worst."


def _strips(axes: Axes, values: Floats, names: Sequence[str], tones: Sequence[int]) -> None:
    generator = np.random.default_rng(0)
    for row in range(len(names)):
        found = values[np.isfinite(values[:, row]), row]
        heights = row + generator.uniform(-0.2, 0.2, len(found))
        axes.scatter(
            found, heights, s=20, color=colour(tones[row]), alpha=0.7, linewidths=0, rasterized=values.size > MAX_POINTS
        )
        if len(found):
            axes.plot([np.median(found)] * 2, [row - 0.34, row + 0.34], color=INK, linewidth=1.8)
    axes.set_yticks(range(len(names)), [name if len(name) <= 24 else name[:23] + "…" for name in names])
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.grid(axis="x", color=FAINT, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(length=0)
    axes.spines["left"].set_color(GREY)
