"""Figures of one prediction next to the truth."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from pathlib import Path

from medloop.evaluation.report.figure_style import PREDICTION, TRUTH, canvas, png_uri, styled
from medloop.evaluation.report.page_parts import Figure
from medloop.imaging.formats import read_image


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
        picture.imshow(read_image(path), cmap="gray")
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


def write_png(figure: Figure, path: Path) -> Path:
    """Write a figure as a PNG file; returns its path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(base64.b64decode(figure.source.partition(",")[2]))
    return path
