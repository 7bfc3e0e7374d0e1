"""The graph of a pipeline as inline SVG: steps in layers, from left to right on wide pages, downward on narrow ones."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from html import escape

from medloop.commands.execution.charts import cut
from medloop.definition.draw import direct_needs
from medloop.definition.read import Definition

BOX = (150.0, 46.0)
GAP = (34.0, 16.0)
"""Between layers, and between the boxes of one."""
MARGIN = 4.0


@dataclass(frozen=True)
class Look:
    """The content of a step's box.

    Args:
        state: Its status, or `not reached`.
        below: The second line: time, or outcome.
        anchor: The anchor of the step's details; empty for none.
    """

    state: str
    below: str
    anchor: str = ""


def draw_graph(definition: Definition, looks: Mapping[str, Look], *, upright: bool) -> str:
    """Draw the graph.

    Args:
        definition: The executed definition.
        looks: Content of the boxes by step name; a step without one was not reached.
        upright: Layers from top to bottom instead of from left to right.

    Raises:
        SettingError: Steps wait for each other.
    """
    layers = _layers(definition)
    widest = max(len(layer) for layer in layers)
    along, across = (BOX[1], BOX[0]) if upright else BOX
    gap = 24.0 if upright else GAP[0]
    length = len(layers) * along + (len(layers) - 1) * gap
    breadth = widest * across + (widest - 1) * GAP[1]
    corners: dict[str, tuple[float, float]] = {}
    for depth, layer in enumerate(layers):
        begin = (breadth - len(layer) * across - (len(layer) - 1) * GAP[1]) / 2
        for index, name in enumerate(layer):
            at = (depth * (along + gap), begin + index * (across + GAP[1]))
            corners[name] = (at[1] + MARGIN, at[0] + MARGIN) if upright else (at[0] + MARGIN, at[1] + MARGIN)
    width, height = (breadth, length) if upright else (length, breadth)
    edges = [
        _edge(
            corners[need], corners[step.name], step.branch[1] if step.branch and step.branch[0] == need else "", upright
        )
        for step in definition.steps
        for need in direct_needs(step, definition)
        if need in corners
    ]
    boxes = [_box(name, corners[name], looks.get(name), upright) for layer in layers for name in layer]
    width, height = width + 2 * MARGIN, height + 2 * MARGIN
    size = f'viewBox="0 0 {width:.0f} {height:.0f}" style="max-width:{width:.0f}px"'
    head = f'<svg {size} role="group" aria-label="graph of the steps">'
    return "".join([head, *edges, *boxes, "</svg>"])


def _layers(definition: Definition) -> list[list[str]]:
    """Return the steps by depth in the graph, in the definition's order."""
    depth: dict[str, int] = {}
    for step in definition.in_order():
        depth[step.name] = 1 + max((depth[need] for need in step.needs if need in depth), default=-1)
    layers: list[list[str]] = [[] for _ in range(max(depth.values(), default=0) + 1)]
    for step in definition.steps:
        layers[depth[step.name]].append(step.name)
    return layers


def _box(name: str, corner: tuple[float, float], look: Look | None, upright: bool) -> str:
    x, y = corner
    state = look.state if look else "not reached"
    kind = escape(state.lower().replace(" ", "-"))
    below = look.below if look else "not reached"
    box = (
        f'<g class="step {kind}"><title>{escape(name)}: {escape(state)}</title>'
        f'<rect x="{x:.1f}" y="{y:.1f}" width="{BOX[0]:.0f}" height="{BOX[1]:.0f}" rx="8"/>'
        f'<text class="name" x="{x + 12:.1f}" y="{y + 20:.1f}">{escape(cut(name, 19))}</text>'
        f'<text class="below" x="{x + 12:.1f}" y="{y + 36:.1f}">{escape(cut(below, 22))}</text></g>'
    )
    if look is None or not look.anchor:
        return box
    anchor = escape(look.anchor)
    return f'<a id="{"tall" if upright else "wide"}-{anchor}" href="#{anchor}">{box}</a>'


def _edge(begin: tuple[float, float], end: tuple[float, float], outcome: str, upright: bool) -> str:
    if upright:
        (x1, y1), (x2, y2) = (begin[0] + BOX[0] / 2, begin[1] + BOX[1]), (end[0] + BOX[0] / 2, end[1])
        path = f"M{x1:.1f} {y1:.1f}C{x1:.1f} {(y1 + y2) / 2:.1f} {x2:.1f} {(y1 + y2) / 2:.1f} {x2:.1f} {y2:.1f}"
    else:
        (x1, y1), (x2, y2) = (begin[0] + BOX[0], begin[1] + BOX[1] / 2), (end[0], end[1] + BOX[1] / 2)
        path = f"M{x1:.1f} {y1:.1f}C{(x1 + x2) / 2:.1f} {y1:.1f} {(x1 + x2) / 2:.1f} {y2:.1f} {x2:.1f} {y2:.1f}"
    text = f'<text class="outcome" x="{(x1 + x2) / 2:.1f}" y="{(y1 + y2) / 2 - 3:.1f}">{escape(outcome)}</text>'
    return f'<path class="edge" d="{path}"/>{text if outcome else ""}'
