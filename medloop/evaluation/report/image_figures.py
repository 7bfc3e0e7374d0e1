"""Pictures of a classifier's evaluation."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from sklearn.metrics import roc_auc_score, roc_curve

from medloop.evaluation.report.contents import Figure
from medloop.evaluation.report.drawing import canvas, colour, data_uri, png_uri, styled
from medloop.evaluation.scores import Floats, Integers
from medloop.imaging.formats import read_image

THUMBNAIL = 160
"""Longest edge, in pixels."""
MAX_WRITTEN = 15
"""Classes up to which the matrix's cells hold their counts."""


def confusion_matrix(counts: Integers, classes: Sequence[str]) -> Figure:
    """Draw the confusion matrix, shaded by the share of each true class.

    Args:
        counts: [C, C]; rows are the true class.
        classes: C names.
    """
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    edge = 2.4 + 0.55 * min(len(classes), 20)
    with styled():
        figure = canvas(edge, edge * 0.9)
        axes = figure.add_subplot()
        axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
        axes.set_xticks(range(len(classes)), classes, rotation=35, ha="right")
        axes.set_yticks(range(len(classes)), classes)
        axes.set_xlabel("predicted")
        axes.set_ylabel("true")
        axes.spines[:].set_visible(False)
        axes.tick_params(length=0)
        if len(classes) <= MAX_WRITTEN:
            for (row, column), count in np.ndenumerate(counts):
                tone = "white" if shares[row, column] > 0.55 else "#222222"
                axes.text(column, row, str(count), ha="center", va="center", color=tone, fontsize=11)
        return Figure(
            png_uri(figure),
            f"Confusion matrix: {int(np.trace(counts))} of {int(counts.sum())} cases on the diagonal",
            "Cases by true class (rows) and predicted class (columns); the shade is the share of the row.",
        )


def roc_curves(truth: Integers, probabilities: Floats, classes: Sequence[str]) -> Figure:
    """Draw each class's ROC curve against the rest; classes without both signs are left out."""
    with styled():
        figure = canvas(4.6, 4.2)
        axes = figure.add_subplot()
        axes.plot([0, 1], [0, 1], color="#bbbbbb", linestyle=":", linewidth=1)
        for index, name in enumerate(classes):
            positive = truth == index
            if positive.any() and not positive.all():
                false_rate, true_rate, _ = roc_curve(positive, probabilities[:, index])
                area = roc_auc_score(positive, probabilities[:, index])
                axes.plot(false_rate, true_rate, color=colour(index), linewidth=1.8, label=f"{name}  {area:.3f}")
        axes.set(xlabel="false positive rate", ylabel="true positive rate", aspect="equal")
        axes.set_xlim(-0.02, 1.02)
        axes.set_ylim(-0.02, 1.02)
        if len(axes.lines) > 1:
            axes.legend(title="class, AUROC", loc="lower right", frameon=False)
        return Figure(png_uri(figure), "ROC curves, one per class", "The dotted line is guessing.")


def thumbnail(path: Path, text: str, caption: str) -> Figure:
    """A small copy of an image file, 16-bit grey stretched to its own range."""
    pixels = read_image(path)
    image = Image.fromarray(pixels if pixels.dtype == np.uint8 else _stretched(pixels))
    image.thumbnail((THUMBNAIL, THUMBNAIL))
    buffer = io.BytesIO()
    image.save(buffer, format="PNG")
    return Figure(data_uri(buffer.getvalue()), text, caption, small=True)


def _stretched(pixels: NDArray[Any]) -> NDArray[np.uint8]:
    low, high = int(pixels.min()), int(pixels.max())
    return ((pixels.astype(np.float64) - low) * 255 / max(high - low, 1)).astype(np.uint8)
