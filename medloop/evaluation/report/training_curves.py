"""Training curves: history.csv of the model, drawn."""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from medloop.documents.archive import MODEL_LIMITS, ArchiveError, open_archive
from medloop.documents.csv_text import read_csv
from medloop.documents.file_names import ARCHIVE_FILE, HISTORY_FILE
from medloop.documents.model import Best
from medloop.evaluation.report.figure_style import FAINT, GREY, colour, plot, svg_uri
from medloop.evaluation.report.page_parts import Figure

MAX_BYTES = 4 * 2**20
"""Maximum size of a history: a hundred thousand epochs."""
History = Sequence[Mapping[str, float]]
"""One row an epoch: column to number; what was not measured in an epoch is absent."""


def read_history(folder: Path) -> History:
    """Read history.csv of a model folder, packed or not; empty if there is none or it can't be read.

    An evaluation does not fail for want of curves.
    """
    try:
        header, *cells = list(read_csv(_text(folder).decode("utf-8"))) or [[]]
        rows = [_row(dict(zip(header, row, strict=False))) for row in cells]
    except (OSError, ArchiveError, UnicodeDecodeError, csv.Error):
        return []
    return [row for row in rows if "epoch" in row]


def training_curves(history: History, best: Best) -> list[Figure]:
    """Draw the losses, and each score on the validation split; nothing for fewer than two epochs."""
    if len(history) < 2:
        return []
    names = list(dict.fromkeys(name for row in history for name in row))
    losses = [name for name in names if name.endswith("loss")]
    scores = [name for name in names if name.startswith("val_") and name not in losses]
    plots = [("loss", losses), ("score on the validation split", scores)]
    return [_plot(history, title, shown, best) for title, shown in plots if shown]


def _text(folder: Path) -> bytes:
    path = folder / HISTORY_FILE
    if path.is_file():
        with path.open("rb") as file:
            return file.read(MAX_BYTES)
    with open_archive(folder / ARCHIVE_FILE, MODEL_LIMITS) as archive:
        for member in archive.members():  # the history is packed first: the weights are not read
            if member.isfile() and member.name.removeprefix("./") == HISTORY_FILE:
                return archive.read(member, MAX_BYTES)
    return b""


def _row(cells: Mapping[str, str]) -> dict[str, float]:
    row = {}
    for name, text in cells.items():
        try:
            value = float(text)
        except ValueError:
            continue
        if name and math.isfinite(value):
            row[name] = value
    return row


def _plot(history: History, title: str, names: Sequence[str], best: Best) -> Figure:
    last = []
    with plot(4.6, 3.0) as (figure, axes):
        for order, name in enumerate(names):
            points = [(row["epoch"], row[name]) for row in history if name in row]
            last.append(f"{name} {points[-1][1]:.3f}")
            marker = "o" if len(points) <= 40 else None
            axes.plot(*zip(*points, strict=True), color=colour(order), linewidth=1.6, marker=marker, ms=3.5, label=name)
        axes.axvline(best.epoch, color=GREY, linestyle=":", linewidth=1.2)
        axes.set_xlabel("epoch")
        axes.grid(axis="y", color=FAINT, linewidth=0.8)
        axes.legend(frameon=True, framealpha=0.85, edgecolor="none", fontsize=9)
        text = f"Training curves, {title}, over {len(history)} epochs; last: {', '.join(last)}"
        caption = f"{title.capitalize()}; the dotted line marks the epoch whose weights were kept."
        return Figure(svg_uri(figure), text, caption)
