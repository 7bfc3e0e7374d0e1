"""Figures of a classifier's evaluation."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import NDArray
from PIL import Image
from sklearn.metrics import average_precision_score, precision_recall_curve, roc_auc_score, roc_curve

from medloop.documents.evaluation import ReliabilityBin
from medloop.evaluation.intervals.estimate import Floats
from medloop.evaluation.report.figure_style import (
    FAINT,
    GREY,
    INK,
    PREDICTION,
    TRUTH,
    canvas,
    colour,
    data_uri,
    plot,
    png_uri,
    short,
    styled,
    svg_uri,
)
from medloop.evaluation.report.page_parts import Figure
from medloop.evaluation.scored_cases import Integers
from medloop.imaging.formats import read_image

THUMBNAIL = 160
"""Longest edge, in pixels."""
MAX_WRITTEN = 15
"""Classes up to which the matrix's cells hold their counts."""
MAX_CURVES = 8
"""Curves in one plot, as many as there are colours; of more classes, those with the lowest areas are drawn."""
MAX_NAMED = 40
"""Classes up to which the matrix's rows are named."""


def confusion_matrix(counts: Integers, classes: Sequence[str]) -> Figure:
    """Draw the confusion matrix, shaded by the share of each true class.

    Args:
        counts: [C, C]; rows are the true class.
        classes: C names.
    """
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    edge = 2.6 + 0.5 * min(len(classes), 12)
    names = [short(name) for name in classes] if len(classes) <= MAX_NAMED else [""] * len(classes)
    with plot(edge, edge * 0.9) as (figure, axes):
        axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
        axes.set_xticks(range(len(classes)), names, rotation=35, ha="right")
        axes.set_yticks(range(len(classes)), names)
        axes.set(xlabel="predicted", ylabel="true")
        axes.spines[:].set_visible(False)
        axes.tick_params(length=0)
        if len(classes) <= MAX_WRITTEN:
            for (row, column), count in np.ndenumerate(counts):
                tone = "white" if shares[row, column] > 0.55 else INK
                axes.text(column, row, str(count), ha="center", va="center", color=tone, fontsize=11)
        right, total = int(np.trace(counts)), int(counts.sum())
        text = f"Confusion matrix: {right} of {total} cases on the diagonal"
        legend = "Rows are the true class, columns the most probable one; the shade is the share of the row."
        return Figure(svg_uri(figure) if len(classes) <= MAX_NAMED else png_uri(figure), text, f"{text}. {legend}")


def roc_curves(
    truth: Integers, probabilities: Floats, classes: Sequence[str], thresholds: Mapping[str, float]
) -> Figure:
    """Draw each class's ROC curve against the rest, and its operating point; classes without both signs are left out.

    Args:
        truth: [N] class indices.
        probabilities: [N, C].
        classes: C names.
        thresholds: The operating points' probabilities, by class.
    """
    with _square() as (figure, axes):
        axes.plot([0, 1], [0, 1], color=GREY, linestyle=":", linewidth=1)
        for tone, k, positive, area in _curved(truth, probabilities, roc_auc_score):
            false_rate, true_rate, _ = roc_curve(positive, probabilities[:, k])
            axes.plot(false_rate, true_rate, color=tone, linewidth=1.8, label=f"{short(classes[k])}  {area:.3f}")
            if classes[k] in thresholds:
                called = probabilities[:, k] >= thresholds[classes[k]]
                axes.plot([called[~positive].mean()], [called[positive].mean()], "o", color=tone, markersize=7, mec=INK)
        axes.set(xlabel="1 - specificity", ylabel="sensitivity")
        _legend(axes, "class, AUROC", "lower right")
        dots = " Dots: the operating points." if thresholds else ""
        caption = f"ROC curves: each class against the rest. The dotted line is guessing.{dots}{_omission(classes)}"
        return Figure(svg_uri(figure), "ROC curves, one per class", caption)


def precision_recall_curves(truth: Integers, probabilities: Floats, classes: Sequence[str]) -> Figure:
    """Draw each class's precision against its sensitivity; classes without both signs are left out.

    Args:
        truth: [N] class indices.
        probabilities: [N, C].
        classes: C names.
    """
    with _square() as (figure, axes):
        for tone, k, positive, area in _curved(truth, probabilities, average_precision_score):
            precision, recall, _ = precision_recall_curve(positive, probabilities[:, k])
            label = f"{short(classes[k])}  {area:.3f}"
            axes.plot(recall, precision, drawstyle="steps-post", color=tone, linewidth=1.8, label=label)
            axes.axhline(positive.mean(), color=tone, linestyle=":", linewidth=1)
        axes.set(xlabel="sensitivity (recall)", ylabel="precision")
        _legend(axes, "class, average precision", "lower left")
        caption = "Precision-recall curves. Dotted: guessing, which has the class's share of the cases."
        return Figure(svg_uri(figure), "Precision-recall curves, one per class", caption + _omission(classes))


def reliability(bins: Sequence[ReliabilityBin]) -> Figure:
    """Draw how often the most probable class is the true one, by its probability."""
    with _square() as (figure, axes):
        axes.plot([0, 1], [0, 1], color=GREY, linestyle=":", linewidth=1)
        largest = max(bar.num_cases for bar in bins)
        for bar in bins:
            width, alpha = bar.upper - bar.lower, 0.25 + 0.6 * bar.num_cases / largest
            axes.bar(bar.lower, bar.frequency, width, align="edge", color=colour(0), alpha=alpha, edgecolor="white")
        axes.plot([b.mean_probability for b in bins], [b.frequency for b in bins], "o", color=INK, markersize=5)
        axes.set(xlabel="highest probability", ylabel="share that is correct")
        points = (
            f"probability {b.mean_probability:.2f}, frequency {b.frequency:.2f}, {b.num_cases} cases" for b in bins
        )
        caption = (
            "Reliability diagram. On the dotted line, probabilities equal frequencies; below it, the model is "
            "overconfident. Darker bars have more cases."
        )
        return Figure(svg_uri(figure), "Reliability diagram: " + "; ".join(points), caption)


def image_prediction(path: Path, truth: str, probabilities: Mapping[str, float]) -> Figure:
    """Draw an image next to its class probabilities.

    Args:
        path: The image file.
        truth: Its class.
        probabilities: Class to probability.

    Raises:
        DataError: The file can't be read as an image.
    """
    predicted = max(probabilities, key=lambda name: probabilities[name])
    with styled():
        figure = canvas(7.0, 3.4)
        picture, bars = figure.subplots(1, 2, width_ratios=[1, 1.2])
        picture.imshow(_eight_bits(read_image(path)), cmap="gray")
        picture.set_axis_off()
        picture.set_title(f"truth: {truth}", color=TRUTH, fontweight="bold")
        names = list(probabilities)
        tones = [PREDICTION if name == predicted else "#cccccc" for name in names]
        bars.barh(names, [probabilities[name] for name in names], color=tones)
        bars.invert_yaxis()
        bars.set_xlim(0, 1)
        bars.set_xlabel("probability")
        bars.set_title(f"predicted: {predicted}", color=PREDICTION, fontweight="bold")
        for row, name in enumerate(names):
            bars.annotate(f"{probabilities[name]:.2f}", (min(probabilities[name] + 0.02, 0.88), row), va="center")
        text = f"An image of class {truth}, and its probabilities; predicted: {predicted}"
        return Figure(png_uri(figure), text)


def thumbnail(path: Path, text: str, caption: str) -> Figure:
    """Make a small copy of an image file, 16-bit values stretched to their own range."""
    image = Image.fromarray(_eight_bits(read_image(path)))
    image.thumbnail((THUMBNAIL, THUMBNAIL))
    buffer = io.BytesIO()
    image.convert("RGB").save(buffer, format="JPEG", quality=85)
    return Figure(data_uri(buffer.getvalue(), "jpeg"), text, caption, small=True)


@contextmanager
def _square() -> Iterator[tuple[Any, Axes]]:
    """Make a figure whose plot has both axes from 0 to 1."""
    with plot(4.2, 4.0) as (figure, axes):
        axes.set(aspect="equal", xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), axisbelow=True)
        axes.grid(color=FAINT, linewidth=0.8)
        yield figure, axes


def _curved(truth: Integers, probabilities: Floats, area: Any) -> list[tuple[str, int, NDArray[np.bool_], float]]:
    """Return colour, index, positive cases and area of the classes to draw."""
    curves = []
    for k in range(probabilities.shape[1]):
        positive = truth == k
        if positive.any() and not positive.all():
            curves.append((k, positive, float(area(positive, probabilities[:, k]))))
    if len(curves) > MAX_CURVES:
        curves = sorted(sorted(curves, key=lambda item: item[2])[:MAX_CURVES], key=lambda item: item[0])
        return [(colour(order), *item) for order, item in enumerate(curves)]
    return [(colour(item[0]), *item) for item in curves]


def _legend(axes: Axes, title: str, location: str) -> None:
    if axes.get_legend_handles_labels()[0]:
        axes.legend(title=title, loc=location, framealpha=0.85, edgecolor="none", fontsize=9, title_fontsize=9)


def _omission(classes: Sequence[str]) -> str:
    return "" if len(classes) <= MAX_CURVES else f" Of {len(classes)} classes, the {MAX_CURVES} with the lowest areas."


def _eight_bits(pixels: NDArray[Any]) -> NDArray[np.uint8]:
    if pixels.dtype == np.uint8:
        return pixels
    low, high = int(pixels.min()), int(pixels.max())
    return ((pixels.astype(np.float64) - low) * 255 / max(high - low, 1)).astype(np.uint8)
