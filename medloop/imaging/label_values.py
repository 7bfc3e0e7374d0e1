"""Advice on label values that can't be used as they are: masks of 0 and 255, voxels to ignore, probabilities."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

IGNORED = (-1, 255, 65535)
"""Numbers that other tools write for voxels that are not to be learnt."""
_MASK = "a mask that is stored as 0 and 255: write 1 for 255 in all labels"
_IGNORE = (
    "{} is the number of voxels to ignore in other tools, which medloop can't: write the true class of such voxels, or "
    "leave out the subjects; if it marks a structure, renumber that"
)


def advise_gaps(values_of_labels: Iterable[Collection[int]]) -> str:
    """Return the fix of label values that leave gaps.

    Args:
        values_of_labels: The values that occur in each label.
    """
    labels = [set(values) for values in values_of_labels]
    values = set().union(*labels) - {0}
    if values == {255}:
        return _MASK
    rest = values - {255}
    if rest == values or rest != set(range(1, len(rest) + 1)):
        return "renumber them 0, 1, 2, ... in all labels"
    if rest == {1} and not any(label >= {1, 255} for label in labels):
        num = sum(255 in label for label in labels)
        same = f"{num} labels have 255 where others have 1: if it is the same structure, write 1 for 255"
        return f"{same}; if not, {_ignore(255)}"
    return _ignore(255)


def advise_outside(values: NDArray[np.generic], outside: NDArray[np.generic], names: Sequence[str] | None) -> str:
    """Return the fix of label values that have no class, or are no whole numbers.

    Args:
        values: All values of a label, sorted.
        outside: Those that can't be used.
        names: Class names by label value; None if they are not known.
    """
    if outside.size > 1 and values.min() >= 0 and values.max() <= 1:
        return (
            "it is a map of probabilities, or was interpolated: threshold it, or resample labels by the nearest voxel"
        )
    if (outside != np.rint(outside)).any():
        return "resample labels by the nearest voxel, and write whole numbers"
    if set(outside.tolist()) == {255} and set(values.tolist()) <= {0, 255} and (names is None or len(names) == 2):
        return _MASK
    numbers = set(outside.tolist())
    if len(numbers) == 1 and (number := int(outside[0])) in IGNORED:
        return _ignore(number)
    return "renumber the labels"


def _ignore(number: int) -> str:
    return _IGNORE.format(number)
