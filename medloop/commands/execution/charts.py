"""Small charts as inline SVG: lines, points, and axes that are linear, logarithmic or of names. No script, no network.

All text is escaped here; the result can be inserted into a page unchanged.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from html import escape

WIDTH, HEIGHT = 420.0, 250.0
LEFT, RIGHT, TOP, BOTTOM = 64.0, 14.0, 12.0, 44.0
COLOURS = tuple(
    f"var(--line-{number}, {colour})"
    for number, colour in enumerate(("#0b5cad", "#b45309", "#1f7a3d", "#7c3aed", "#b91c1c", "#0e7490"), 1)
)
"""A page may give its own, for a dark ground."""
_DASHES = dict(zip(COLOURS, ("", "7 3", "2 3", "9 3 2 3", "12 4", "4 4"), strict=True))
"""Lines can be distinguished without their colours."""
_DOTS = "0 10"
_SINGLE = ("points", "rings")
_MAX_NAME = 14
_NINES = (0.0, 0.5, 0.8, 0.9, 0.97, 0.99, 0.997, 0.999, 0.9999, 0.99999)
"""The marks of an axis that is logarithmic in 1 - x."""


@dataclass(frozen=True)
class Axis:
    """Numbers from low to high.

    Args:
        title: The axis label.
        low: The smallest value.
        high: The largest value, more than `low`.
        scale: linear, log, or reverse (logarithmic in 1 - x).
        integers: True if only whole numbers are marked.
    """

    title: str
    low: float
    high: float
    scale: str = "linear"
    integers: bool = False

    def position(self, value: float) -> float:
        """Return a value's position: 0 at the start of the axis, 1 at its end."""
        low, high, at = (self._bend(number) for number in (self.low, self.high, value))
        return (at - low) / (high - low)

    def ticks(self) -> list[tuple[float, str]]:
        """Return the positions and texts of the ticks."""
        if self.scale == "log":
            values = _decades(self.low, self.high)
        elif self.scale == "reverse":
            values = [value for value in _NINES if self.low <= value <= self.high]
        else:
            values = _round(self.low, self.high, self.integers)
        return [(self.position(value), f"{value:.6g}") for value in values]

    def _bend(self, value: float) -> float:
        if self.scale == "log":
            return math.log10(value)
        return -math.log10(max(1 - value, 1e-12)) if self.scale == "reverse" else value


@dataclass(frozen=True)
class Names:
    """Names side by side."""

    title: str
    names: tuple[str, ...]

    def position(self, value: float) -> float:
        """Return the position of the name of this index."""
        return (value + 0.5) / len(self.names)

    def ticks(self) -> list[tuple[float, str]]:
        """Return the positions and texts of the ticks; long names are cut."""
        return [(self.position(index), cut(name, _MAX_NAME)) for index, name in enumerate(self.names)]


@dataclass(frozen=True)
class Series:
    """One line, or one set of points.

    Args:
        name: Shown in the legend; empty for none.
        points: x and y.
        colour: The colour of the line and the points.
        style: line, steps, points, or rings (points that stand out).
        faint: Drawn thin and pale.
        notes: A text for each point, shown when it is pointed at.
    """

    name: str
    points: Sequence[tuple[float, float]]
    colour: str = COLOURS[0]
    style: str = "line"
    faint: bool = False
    notes: Sequence[str] = ()


@dataclass(frozen=True)
class Chart:
    """One chart with its caption and legend."""

    title: str
    svg: str
    legend: list[tuple[str, str, str]] = field(default_factory=list)
    """Names, colours, and dashes of lines."""


def draw(title: str, x: Axis | Names, y: Axis, series: Sequence[Series]) -> Chart:
    """Draw a chart."""
    label = escape(_alternative_text(title, x, series))
    parts = [
        f'<svg viewBox="0 0 {WIDTH:.0f} {HEIGHT:.0f}" role="img" aria-label="{label}">',
        *_frame(x, y),
        *(part for item in series for part in _series(item, x, y)),
        "</svg>",
    ]
    legend = [(item.name, item.colour, _DOTS if item.style in _SINGLE else _dash(item)) for item in series if item.name]
    return Chart(title, "".join(parts), legend if len(legend) > 1 else [])


def span(values: Sequence[float], title: str, *, scale: str = "linear", integers: bool = False) -> Axis:
    """Return an axis for all values, with a margin at both ends."""
    low, high = min(values), max(values)
    if integers:
        return Axis(title, low, high if high > low else low + 1, "linear", integers=True)
    if scale == "log" and low > 0:
        room = (high / low) ** 0.06 if high > low else 2.0
        return Axis(title, low / room, high * room, "log")
    if scale == "reverse" and high < 1:
        return Axis(title, 1 - (1 - low) * 1.1, 1 - (1 - high) / 1.1, "reverse")
    room = 0.06 * (high - low) or max(abs(high), 1.0) * 0.05
    return Axis(title, low - room, high + room)


def cut(text: str, length: int) -> str:
    """Return a text of this length at most."""
    return text if len(text) <= length else text[: length - 1] + "…"


def _alternative_text(title: str, x: Axis | Names, series: Sequence[Series]) -> str:
    """Return the chart as text for screen readers: the first and last value of each named series."""
    ends = [
        f"{item.name} {item.points[0][1]:.4g} to {item.points[-1][1]:.4g}"
        for item in series
        if item.name and item.points and item.style != "rings"
    ]
    return f"{title} by {x.title}: {'; '.join(ends)}" if ends else title


def _dash(item: Series) -> str:
    return _DASHES.get(item.colour, "") if item.style == "line" else ""


def _frame(x: Axis | Names, y: Axis) -> list[str]:
    right, bottom = WIDTH - RIGHT, HEIGHT - BOTTOM
    parts = []
    for position, text in y.ticks():
        at = _y(position)
        parts.append(f'<line class="grid" x1="{LEFT}" y1="{at:.1f}" x2="{right}" y2="{at:.1f}"/>')
        parts.append(f'<text x="{LEFT - 6}" y="{at + 4:.1f}" text-anchor="end">{escape(text)}</text>')
    parts.append(f'<line class="axis" x1="{LEFT}" y1="{bottom}" x2="{right}" y2="{bottom}"/>')
    for position, text in x.ticks():
        at = _x(position)
        parts.append(f'<line class="axis" x1="{at:.1f}" y1="{bottom}" x2="{at:.1f}" y2="{bottom + 4}"/>')
        parts.append(f'<text x="{at:.1f}" y="{bottom + 17}" text-anchor="middle">{escape(text)}</text>')
    middle = (LEFT + right) / 2
    parts.append(
        f'<text class="title" x="{middle}" y="{HEIGHT - 6}" text-anchor="middle">{escape(x.title)}</text>'
        f'<text class="title" x="12" y="{TOP + (bottom - TOP) / 2}" text-anchor="middle" '
        f'transform="rotate(-90 12 {TOP + (bottom - TOP) / 2})">{escape(y.title)}</text>'
    )
    return parts


def _series(item: Series, x: Axis | Names, y: Axis) -> list[str]:
    at = [(_x(x.position(a)), _y(y.position(b))) for a, b in item.points]
    parts = []
    if item.style in ("line", "steps") and at:
        path = f"M{at[0][0]:.1f} {at[0][1]:.1f}"
        path += "".join(f"H{a:.1f}V{b:.1f}" if item.style == "steps" else f"L{a:.1f} {b:.1f}" for a, b in at[1:])
        look = 'stroke-width="1" opacity=".45"' if item.faint else 'stroke-width="2"'
        if not item.faint and (dash := _dash(item)):
            look += f' stroke-dasharray="{dash}"'
        parts.append(f'<path d="{path}" fill="none" stroke="{item.colour}" {look}/>')
    if item.style != "steps" and not (item.faint and item.style == "line"):
        for index, (a, b) in enumerate(at):
            note = escape(item.notes[index]) if index < len(item.notes) else ""
            radius, fill = (7, "none") if item.style == "rings" else (3.5 if item.style == "points" else 2, item.colour)
            ring = f' stroke="{item.colour}" stroke-width="2"' if item.style == "rings" else ""
            parts.append(
                f'<circle cx="{a:.1f}" cy="{b:.1f}" r="{radius}" fill="{fill}"{ring}><title>{note}</title></circle>'
            )
    return parts


def _x(position: float) -> float:
    return LEFT + position * (WIDTH - LEFT - RIGHT)


def _y(position: float) -> float:
    return HEIGHT - BOTTOM - position * (HEIGHT - BOTTOM - TOP)


def _round(low: float, high: float, integers: bool) -> list[float]:
    """Return four to eight round numbers."""
    rough = (high - low) / 5
    unit = 10.0 ** math.floor(math.log10(rough))
    step = next(unit * factor for factor in (1, 2, 5, 10) if unit * factor >= rough)
    step = max(1.0, round(step)) if integers else step
    first = math.ceil(low / step)
    return [round(number * step, 12) for number in range(first, math.floor(high / step + 1e-9) + 1)]


def _decades(low: float, high: float) -> list[float]:
    """Return powers of ten, with 2 and 5 between them if there are few."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    factors = (1,) if len(powers) > 4 else (1, 2, 5) if len(powers) <= 2 else (1, 3)
    return [value for power in powers for factor in factors if low <= (value := factor * 10.0**power) <= high]
