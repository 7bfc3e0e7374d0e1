"""Pictures of a segmentation model's evaluation.

Only single slices, cropped to the structures: no picture can be put together to a face.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from nibabel.affines import voxel_sizes
from nibabel.orientations import apply_orientation, inv_ornt_aff, io_orientation
from numpy.typing import NDArray

from medloop.evaluation.cases import HeldOut
from medloop.evaluation.grids import read_case
from medloop.evaluation.report.contents import Figure
from medloop.evaluation.report.drawing import PREDICTION, TRUTH, canvas, colour, png_uri, styled
from medloop.evaluation.scores import Floats

PLANES = {"axial": (2, "R", "L"), "coronal": (1, "R", "L"), "sagittal": (0, "A", "P")}
"""Plane to the RAS axis it cuts, and the letters at its left and right as radiologists look at it."""
_MARGIN = 0.2
"""Of the structures' extent, drawn around them."""
_MIN_MARGIN = 6


def strip_plot(dice: Floats, classes: Sequence[str]) -> Figure:
    """Draw every case's Dice, one row a class, with the median.

    Args:
        dice: [N, K]; NaN is left out.
        classes: K names.
    """
    generator = np.random.default_rng(0)
    with styled():
        figure = canvas(6.4, 1.1 + 0.45 * len(classes))
        axes = figure.add_subplot()
        for k in range(len(classes)):
            values = dice[np.isfinite(dice[:, k]), k]
            heights = k + generator.uniform(-0.18, 0.18, len(values))
            axes.scatter(values, heights, s=22, color=colour(k), alpha=0.7, linewidths=0)
            if len(values):
                axes.plot([np.median(values)] * 2, [k - 0.32, k + 0.32], color="#222222", linewidth=1.6)
        axes.set_yticks(range(len(classes)), classes)
        axes.set_ylim(len(classes) - 0.5, -0.5)
        axes.set_xlim(-0.02, 1.02)
        axes.set_xlabel("Dice")
        axes.grid(axis="x", color="#e5e5e5", linewidth=0.8)
        axes.set_axisbelow(True)
        text = "Dice of every test case by structure"
        return Figure(png_uri(figure), text, "One dot a case; the line is the median.")


def overlays(case: HeldOut, prediction: NDArray[Any], classes: Sequence[str]) -> Figure:
    """Draw truth and prediction over the slices with most foreground, in three planes.

    One structure: both contours in one row of pictures. Several: truth in the first row, the prediction in the second.

    Args:
        case: Its image and label are read again.
        prediction: [X, Y, Z] label values on the image's grid.
        classes: Foreground classes.
    """
    image, truth, predicted, spacing = _reoriented(case, prediction)
    found = (truth > 0) | (predicted > 0)
    centre = [_busiest(truth > 0 if (truth > 0).any() else found, axis) for axis in range(3)]
    box = tuple(_crop(found, axis) for axis in range(3))
    window = np.percentile(image[box], (1, 99))
    rows = [(truth, predicted)] if len(classes) == 1 else [(truth, None), (None, predicted)]
    sizes = [_plane_size(box, spacing, axis) for axis, _, _ in PLANES.values()]
    with styled():
        widths = [width / height for width, height in sizes]
        figure = canvas(9.0, len(rows) * min(9.0 / sum(widths), 4.0) + 0.6)
        grid = figure.subplots(len(rows), 3, squeeze=False, width_ratios=widths)
        for line, (shown_truth, shown_prediction) in zip(grid, rows, strict=True):
            for axes, (plane, (axis, left, right)) in zip(line, PLANES.items(), strict=True):
                _slice(axes, image, window, axis, centre[axis], box, spacing)
                _outline(axes, (shown_truth, shown_prediction), len(classes), axis, centre[axis], box, spacing)
                _letters(axes, left, right)
                axes.set_title(plane, fontsize=9)
        _legend(figure, grid, classes)
        text = f"Slices of patient {case.patient}'s volume in three planes with truth and prediction"
        return Figure(png_uri(figure), text, _CAPTION)


_CAPTION = "Slices with most of the true structures, as a radiologist looks at them: R and L are the patient's sides."


def _reoriented(case: HeldOut, prediction: NDArray[Any]) -> tuple[Any, Any, Any, tuple[float, ...]]:
    """Image, truth and prediction in RAS order, and the voxel size."""
    subject = read_case(case)
    image, truth = subject.image, subject.label
    orientation = io_orientation(image.affine)
    ras = [apply_orientation(voxels, orientation) for voxels in (image.voxels, truth.voxels, prediction)]
    sizes = voxel_sizes(image.affine @ inv_ornt_aff(orientation, image.voxels.shape))
    return ras[0], ras[1], ras[2], tuple(float(size) for size in sizes)


def _busiest(mask: NDArray[np.bool_], axis: int) -> int:
    return int(mask.sum(axis=tuple(other for other in range(3) if other != axis)).argmax())


def _crop(mask: NDArray[np.bool_], axis: int) -> slice:
    occupied = np.flatnonzero(mask.any(axis=tuple(other for other in range(3) if other != axis)))
    if not len(occupied):
        return slice(0, mask.shape[axis])
    margin = max(_MIN_MARGIN, round(_MARGIN * (occupied[-1] - occupied[0] + 1)))
    return slice(max(0, int(occupied[0]) - margin), min(mask.shape[axis], int(occupied[-1]) + margin + 1))


def _plane_size(box: tuple[slice, ...], spacing: tuple[float, ...], axis: int) -> tuple[float, float]:
    across, up = (other for other in range(3) if other != axis)
    width, height = ((box[a].stop - box[a].start) * spacing[a] for a in (across, up))
    return width, height


def _cut(volume: NDArray[Any], axis: int, index: int, box: tuple[slice, ...]) -> NDArray[Any]:
    """The slice, cropped, as rows from below: [up, across]."""
    where: list[Any] = list(box)
    where[axis] = index
    return np.asarray(volume[tuple(where)]).T


def _slice(axes: Axes, image: Any, window: Any, axis: int, index: int, box: Any, spacing: Any) -> None:
    width, height = _plane_size(box, spacing, axis)
    low, high = float(window[0]), float(window[1])
    axes.imshow(
        _cut(image, axis, index, box),
        cmap="gray",
        vmin=low,
        vmax=high if high > low else low + 1,
        origin="lower",
        extent=(0, width, 0, height),
    )
    axes.invert_xaxis()
    axes.set_axis_off()


def _outline(axes: Axes, maps: Any, num_classes: int, axis: int, index: int, box: Any, spacing: Any) -> None:
    width, height = _plane_size(box, spacing, axis)
    for labels, tone, style in zip(maps, (TRUTH, PREDICTION), ("solid", "dashed"), strict=True):
        if labels is None:
            continue
        cut = _cut(labels, axis, index, box)
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
        axes.text(x, 0.5, letter, transform=axes.transAxes, color="white", ha=side, va="center", fontsize=9, alpha=0.9)


def _legend(figure: Any, grid: Any, classes: Sequence[str]) -> None:
    if len(classes) == 1:
        handles = [
            Line2D([], [], color=TRUTH, linewidth=2, label=f"{classes[0]}, truth"),
            Line2D([], [], color=PREDICTION, linewidth=2, linestyle="dashed", label=f"{classes[0]}, prediction"),
        ]
    else:
        handles = [Line2D([], [], color=colour(k), linewidth=5, label=name) for k, name in enumerate(classes)]
        for line, name in zip(grid, ("truth", "prediction"), strict=True):
            line[0].set_title(f"{name}: axial", fontsize=9, fontweight="bold")
    figure.legend(handles=handles, loc="outside lower center", ncols=min(len(handles), 6), frameon=False)
