"""Metrics in the log, as `name=value;`, which the step's metric definitions match."""

from __future__ import annotations

from medloop.errors import printable


def report(**metrics: float) -> None:
    """Print a line of metrics, such as `epoch=3; train_loss=0.4213; val_dice=0.8124;`."""
    print(" ".join(f"{name}={_text(value)};" for name, value in metrics.items()), flush=True)


def name_in_log(name: str) -> str:
    """A name from outside as the log may have it: in one line, and no metric, as a class `val_dice=1;` would be."""
    return printable(name, allowed="").replace("=", "= ")


def _text(value: float) -> str:
    return str(value) if isinstance(value, int) else f"{value:.6g}"
