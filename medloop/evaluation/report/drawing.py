"""Matplotlib figures as data URIs, in one style, without pyplot's global state."""

from __future__ import annotations

import base64
import io
from typing import Any

from matplotlib import rc_context
from matplotlib.figure import Figure as Canvas

DPI = 110
TRUTH, PREDICTION = "#00b7c7", "#ff7f0e"
CLASS_COLOURS = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#f0e442", "#6b6b6b")
"""Okabe and Ito's palette, which the colour-blind can tell apart."""
STYLE: dict[str, Any] = {
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#888888",
    "text.parse_math": False,
    "svg.hashsalt": "medloop",
}
"""Class names are not markup: `text.parse_math` is off."""


def colour(index: int) -> str:
    """The colour of a class; classes beyond the palette share colours."""
    return CLASS_COLOURS[index % len(CLASS_COLOURS)]


def canvas(width: float, height: float) -> Canvas:
    """An empty figure; inches."""
    return Canvas(figsize=(width, height), dpi=DPI, layout="constrained")


def styled() -> Any:
    """The context in which figures are made and saved."""
    return rc_context(STYLE)


def png_uri(figure: Canvas) -> str:
    """The figure as a data URI; the same figure gives the same bytes."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", metadata={"Software": None})
    return data_uri(buffer.getvalue())


def data_uri(png: bytes) -> str:
    """A PNG as a data URI."""
    return "data:image/png;base64," + base64.b64encode(png).decode("ascii")
