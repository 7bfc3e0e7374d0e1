"""Overlays of a segmented volume: slices with truth and prediction."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from numpy.typing import NDArray

from medloop.evaluation.report.cropped_volume import CroppedVolume
from medloop.evaluation.report.figure_style import PREDICTION, TRUTH, canvas, colour, png_uri, styled
from medloop.evaluation.report.page_parts import Figure

PLANES = {"axial": (2, "R", "L"), "coronal": (1, "R", "L"), "sagittal": (0, "A", "P")}
"""The RAS axis that each plane cuts, and the letters at its left and right in radiological convention."""


def draw_overlays(volume: CroppedVolume, classes: Sequence[str], patient: str) -> Figure:
    """Draw truth and prediction over the slices with most foreground, in three planes.

    One structure: both contours in one row of slices. Several: truth in the first row, the prediction in the second.

    Args:
        volume: The voxels that may be shown.
        classes: Foreground classes.
        patient: Pseudonym.
    """
    truth, predicted = volume.truth, volume.prediction
    rows = [(truth, predicted)] if len(classes) == 1 else [(truth, None), (None, predicted)]
    centre = [_busiest(truth > 0 if (truth > 0).any() else predicted > 0, axis) for axis in range(3)]
    sizes = [_plane_size(volume, axis) for axis, _, _ in PLANES.values()]
    with styled():
        widths = [width / height for width, height in sizes]
        figure = canvas(9.0, len(rows) * min(9.0 / sum(widths), 4.0) + 0.6)
        grid = figure.subplots(len(rows), 3, squeeze=False, width_ratios=widths)
        for line, maps in zip(grid, rows, strict=True):
            for axes, (plane, (axis, left, right)) in zip(line, PLANES.items(), strict=True):
                _slice(axes, volume, axis, centre[axis])
                _outline(axes, volume, maps, len(classes), axis, centre[axis])
                _letters(axes, left, right)
                axes.set_title(plane, fontsize=10)
        _legend(figure, grid, classes)
        text = f"Slices of patient {patient}'s volume in three planes with truth and prediction"
        return Figure(png_uri(figure, colours=128), text, _CAPTION, wide=True)


_CAPTION = "Slices with most of the true structures, in radiological convention: R and L are the patient's sides."


def _busiest(mask: NDArray[np.bool_], axis: int) -> int:
    return int(mask.sum(axis=tuple(a for a in range(3) if a != axis)).argmax())


def _plane_size(volume: CroppedVolume, axis: int) -> tuple[float, float]:
    across, up = (a for a in range(3) if a != axis)
    width, height = (volume.image.shape[a] * volume.spacing[a] for a in (across, up))
    return width, height


def _cut(voxels: NDArray[Any], axis: int, index: int) -> NDArray[Any]:
    """Cut a slice, rows from below: [up, across]."""
    return np.asarray(np.take(voxels, index, axis)).T


def _slice(axes: Axes, volume: CroppedVolume, axis: int, index: int) -> None:
    width, height = _plane_size(volume, axis)
    picture = _cut(volume.image, axis, index)
    axes.imshow(picture, cmap="gray", vmin=0, vmax=255, origin="lower", extent=(0, width, 0, height))
    axes.invert_xaxis()
    axes.set_axis_off()


def _outline(axes: Axes, volume: CroppedVolume, maps: Any, num_classes: int, axis: int, index: int) -> None:
    width, height = _plane_size(volume, axis)
    for labels, tone, style in zip(maps, (TRUTH, PREDICTION), ("solid", "dashed"), strict=True):
        if labels is None:
            continue
        cut = _cut(labels, axis, index)
        rows, columns = cut.shape
        # A rim of background closes the contours of structures that the crop cuts off.
        xs = (np.arange(-1, columns + 1) + 0.5) * width / columns
        ys = (np.arange(-1, rows + 1) + 0.5) * height / rows
        for label in range(1, num_classes + 1):
            mask = np.pad(cut == label, 1)
            if mask.any() and num_classes == 1:
                axes.contour(xs, ys, mask, levels=[0.5], colors=[tone], linewidths=1.8, linestyles=style)
            elif mask.any():
                axes.contourf(xs, ys, mask, levels=[0.5, 1.5], colors=[colour(label - 1)], alpha=0.35)
                axes.contour(xs, ys, mask, levels=[0.5], colors=[colour(label - 1)], linewidths=1.0)


def _letters(axes: Axes, left: str, right: str) -> None:
    for letter, x, side in ((left, 0.02, "left"), (right, 0.98, "right")):
        axes.text(x, 0.5, letter, transform=axes.transAxes, color="white", ha=side, va="center", fontsize=10, alpha=0.9)


def _legend(figure: Any, grid: Any, classes: Sequence[str]) -> None:
    if len(classes) == 1:
        handles = [
            Line2D([], [], color=TRUTH, linewidth=2, label=f"{classes[0]}, truth"),
            Line2D([], [], color=PREDICTION, linewidth=2, linestyle="dashed", label=f"{classes[0]}, prediction"),
        ]
    else:
        handles = [Line2D([], [], color=colour(k), linewidth=5, label=name) for k, name in enumerate(classes)]
        for line, name in zip(grid, ("truth", "prediction"), strict=True):
            line[0].set_title(f"{name}: axial", fontsize=10, fontweight="bold")
    figure.legend(handles=handles, loc="outside lower center", ncols=min(len(handles), 6), frameon=False)
