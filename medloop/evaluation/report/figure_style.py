"""Matplotlib figures as data URIs, in one style, without pyplot's global state."""

from __future__ import annotations

import base64
import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas
from PIL import Image

DPI = 130
TRUTH, PREDICTION = "#00b7c7", "#ff7f0e"
CLASS_COLOURS = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#f0e442", "#6b6b6b")
"""Okabe and Ito's palette, which colour-blind people can distinguish."""
GREY, FAINT, INK, ALARM = "#6b7682", "#e3e7ec", "#1c2430", "#b91c1c"
STYLE: dict[str, Any] = {
    "font.size": 10,
    "font.family": ["DejaVu Sans"],
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#8a96a3",
    "axes.labelcolor": INK,
    "xtick.color": GREY,
    "ytick.color": GREY,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "text.parse_math": False,
    "svg.hashsalt": "medloop",
    "svg.fonttype": "path",
}
"""Class names are not markup: `text.parse_math` is off. Letters are outlines: the page brings no fonts."""
MAX_POINTS = 1500
"""Points beyond which a cloud is drawn as a bitmap within the drawing."""


def colour(index: int) -> str:
    """Return the colour of a class; classes beyond the palette share colours."""
    return CLASS_COLOURS[index % len(CLASS_COLOURS)]


def canvas(width: float, height: float) -> Canvas:
    """Make an empty figure; inches."""
    return Canvas(figsize=(width, height), dpi=DPI, layout="constrained")


def styled() -> Any:
    """Return the context in which figures are made and saved."""
    return rc_context(STYLE)


@contextmanager
def plot(width: float, height: float) -> Iterator[tuple[Canvas, Axes]]:
    """Make a figure with one plot, in the context in which it is drawn and saved; inches."""
    with styled():
        figure = canvas(width, height)
        yield figure, figure.add_subplot()


def short(name: str) -> str:
    """Return a class's name as an axis or a legend has room for it: 24 characters at most."""
    return name if len(name) <= 24 else name[:23] + "…"


def png_uri(figure: Canvas, colours: int | None = None) -> str:
    """Write the figure as a data URI; the same figure gives the same bytes.

    Args:
        figure: Drawn.
        colours: Maximum number of colours: a palette makes files of a third the size. None keeps all.
    """
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", metadata={"Software": None})
    return data_uri(buffer.getvalue() if colours is None else _with_palette(buffer, colours))


def _with_palette(png: io.BytesIO, colours: int) -> bytes:
    buffer = io.BytesIO()
    Image.open(png).convert("RGB").quantize(colours).save(buffer, format="PNG", optimize=True)
    return buffer.getvalue()


def svg_uri(figure: Canvas) -> str:
    """Write the figure as a vector drawing; the same figure gives the same bytes."""
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    text = re.sub(r"\n\s*", "\n", buffer.getvalue())
    return "data:image/svg+xml;base64," + base64.b64encode(text.encode()).decode("ascii")


def data_uri(content: bytes, kind: str = "png") -> str:
    """Write an image file's bytes (`png`, `jpeg`) as a data URI."""
    return f"data:image/{kind};base64," + base64.b64encode(content).decode("ascii")
