"""Images of different splits that look like copies: saved again as JPEG, or at another size. Torch-free.

An image's thumbnail has 16 x 16 grey values. Two images look alike if the correlation of their thumbnails is at least
1 - MAX_DISTANCE (docs/measurements.md: slices of different patients stay below 0.976, copies as JPEG of quality 75 are
above in 99 of 100). Thumbnails with little in them, such as the last slice of a head, are not compared. Images of one
class may look alike by themselves, as one test pattern with noise does: in such a class, a copy is what is much closer
to an image than the others are.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from medloop.imaging.thumbnails import EDGE, Thumbnails

MAX_DISTANCE = 0.005
"""Largest distance, 1 minus the correlation, of images that look alike."""
MAX_SHARE = 0.5
"""Largest distance of a copy, as a share of the usual one in its class: two images with independent noise are not so
close, and what a JPEG changes is a tenth of that."""
USUAL = 0.75
"""Share of a class's images that are at most at its usual distance: some of them may be copies, too."""
MIN_USUAL = 2
"""Images from which a distance is usual."""
_ROUNDING = 2e-5
"""Distance of thumbnails of one image, whose values are rounded."""
MIN_CONTENT = 0.25
"""Share of a thumbnail's values that differ from its median."""
CONTENT_STEP = 13
"""Smallest such difference, of 255."""
MAX_COMPARISONS = 2 * 10**9
"""Pairs from which a search takes minutes."""
_ROWS, _COLUMNS = 256, 4096
"""Images of the two groups that are compared at once."""
_FEW_COMPARISONS = 2**22
"""Pairs that are compared sooner than arranged."""
_AXES = 8
_SAMPLE = 1024
"""Thumbnails that the axes, or a class's usual distances, are found from."""
_REACH = math.sqrt(2 * MAX_DISTANCE) + 1e-3
"""How far apart images that look alike are at most: thumbnails have length 1. The rest is for rounding."""
_MAX_EDGE = 128
"""Edge from which pixels are averaged first, without the threads that a product of larger matrices starts."""
_MAX_WIDTH = 1024
"""Width up to which the product of EDGE rows starts none."""


@dataclass(frozen=True)
class Lookalike:
    """Rows of two images that look alike."""

    first: int
    second: int


def make_thumbnail(pixels: NDArray[Any]) -> bytes:
    """The mean grey values of an image's parts, scaled to 0..255; empty if they are all the same.

    Args:
        pixels: [H, W] or [H, W, 3], uint8 or uint16.
    """
    grey = pixels if pixels.ndim == 2 else pixels[..., 1]
    if max(grey.shape) > _MAX_EDGE:
        grey = _reduced(grey)
    height, width = grey.shape
    values = _means(height) @ grey.astype(np.float32) @ _means(width).T
    values -= np.minimum.reduce(values, axis=None)  # half the time of values.min()
    high = float(np.maximum.reduce(values, axis=None))
    # Less than half a step is rounding, of the means or of a copy.
    return b"" if high < 0.5 else (values * (255 / high) + 0.5).astype(np.uint8).tobytes()


@lru_cache(maxsize=256)
def _means(size: int) -> NDArray[np.float32]:
    """The weights of a row's pixels in the means of its EDGE equal parts [EDGE, size]."""
    bounds, pixels = np.arange(EDGE + 1) * (size / EDGE), np.arange(size)
    overlap = np.minimum(bounds[1:, None], pixels + 1) - np.maximum(bounds[:-1, None], pixels)
    weights: NDArray[np.float32] = (overlap.clip(0) * (EDGE / size)).astype(np.float32)
    return weights


def _reduced(grey: NDArray[Any]) -> NDArray[Any]:
    """The means of a thumbnail's rows if they have whole ones; else of squares, neither edge above _MAX_EDGE."""
    height, width = grey.shape
    if height % EDGE == 0 and width <= _MAX_WIDTH:  # a quarter of the time
        sums: NDArray[Any] = np.add.reduce(grey.reshape(EDGE, -1, width), axis=1, dtype=np.uint32)
        return sums * np.float32(EDGE / height)
    picture = Image.fromarray(np.ascontiguousarray(grey, dtype=grey.dtype if grey.itemsize == 1 else np.float32))
    height, width = (-(-size // _MAX_EDGE) for size in grey.shape)
    return np.asarray(picture.reduce((width, height)))


def find_lookalikes(thumbnails: Thumbnails, first: NDArray[np.intp], second: NDArray[np.intp]) -> Iterator[Lookalike]:
    """Find pairs of images that look alike, one of each group; the most similar one for each of the first group.

    Args:
        thumbnails: Of all images.
        first: Rows of a group, ascending.
        second: Rows of the other group, ascending.
    """
    tested, compared = _Group(thumbnails, first), _Group(thumbnails, second)
    best, likeness = np.full(len(tested), -1), np.full(len(tested), np.float32(1 - MAX_DISTANCE))
    for rows, columns in _close_groups(tested, compared):
        values = tested.standardised(rows)
        for start in range(0, len(columns), _COLUMNS):
            block = columns[start : start + _COLUMNS]
            products = values @ compared.standardised(block).T
            nearest = products.argmax(axis=1)
            highest = products[np.arange(len(rows)), nearest]
            is_better = (highest > likeness[rows]) | ((highest == likeness[rows]) & (best[rows] < 0))
            best[rows[is_better]], likeness[rows[is_better]] = block[nearest[is_better]], highest[is_better]
    for row in np.flatnonzero(best >= 0).tolist():
        yield Lookalike(int(tested.rows[row]), int(compared.rows[best[row]]))


class ClassImages:
    """Images of a class, by which it is known how close to one another they usually are.

    Args:
        thumbnails: Of all images.
        rows: The class's, ascending.

    Attributes:
        rows: Those of a sample.
    """

    def __init__(self, thumbnails: Thumbnails, rows: NDArray[np.intp]) -> None:
        self.thumbnails = thumbnails
        sample = _Group(thumbnails, rows[:: -(-len(rows) // _SAMPLE) or 1])
        self.rows, self._values = sample.rows, sample.standardised(slice(None))

    def is_closer_than_usual(self, pair: Lookalike, of_others: NDArray[np.bool_]) -> bool:
        """True if a pair is much closer than its first image and the others are.

        Args:
            pair: Images that look alike.
            of_others: [N], those of `rows` that are no images of the pair's patients.
        """
        if np.count_nonzero(of_others) < MIN_USUAL:
            return True
        first, second = _Group(self.thumbnails, np.array([pair.first, pair.second])).standardised(slice(None))
        usual = 1 - np.quantile(self._values[of_others] @ first, 1 - USUAL)
        return bool(max(1 - first @ second, _ROUNDING) <= MAX_SHARE * usual)


class _Group:
    """The thumbnails of a group with something in them.

    Args:
        thumbnails: Of all images.
        rows: The group's.
    """

    def __init__(self, thumbnails: Thumbnails, rows: NDArray[np.intp]) -> None:
        self.thumbnails = thumbnails
        blocks = (rows[start : start + _COLUMNS] for start in range(0, len(rows), _COLUMNS))
        self.rows = np.concatenate([rows[:0], *(block[_has_content(thumbnails.take(block))] for block in blocks)])

    def __len__(self) -> int:
        return len(self.rows)

    def standardised(self, positions: NDArray[np.intp] | slice) -> NDArray[np.float32]:
        """Thumbnails with mean 0 and length 1 [N, 256], by their positions in the group."""
        values: NDArray[np.float32] = self.thumbnails.take(self.rows[positions]).astype(np.float32)
        values -= values.mean(axis=1, keepdims=True)
        values /= np.sqrt(np.einsum("ij,ij->i", values, values))[:, None]
        return values

    def coordinates(self, axes: NDArray[np.float32]) -> NDArray[np.float32]:
        """Coordinates of all thumbnails on axes [256, K]: [K, N]."""
        blocks = (slice(start, start + _COLUMNS) for start in range(0, len(self), _COLUMNS))
        return np.concatenate([axes.T @ self.standardised(block).T for block in blocks], axis=1)


def _has_content(values: NDArray[np.uint8]) -> NDArray[np.bool_]:
    ranked, middle = np.sort(values, axis=1, kind="stable"), EDGE * EDGE // 2
    median = (ranked[:, middle - 1].astype(np.float32) + ranked[:, middle]) / 2
    share_is_enough: NDArray[np.bool_] = (np.abs(values - median[:, None]) >= CONTENT_STEP).mean(axis=1) >= MIN_CONTENT
    return share_is_enough


def _close_groups(tested: _Group, compared: _Group) -> Iterator[tuple[NDArray[np.intp], NDArray[np.intp]]]:
    """Divide the tested ones into groups, each with the compared ones that may look like one of them.

    What looks alike has nearly the same coordinates on any axis; so most pairs of many images needn't be compared.
    """
    rows, columns = np.arange(len(tested)), np.arange(len(compared))
    if len(rows) * len(columns) <= _FEW_COMPARISONS:
        if len(rows) and len(columns):
            yield rows, columns
        return
    axes = _main_axes(compared.standardised(slice(None, None, max(1, len(compared) // _SAMPLE))))
    coordinates, other_coordinates = tested.coordinates(axes), compared.coordinates(axes)
    for group in _boxes(coordinates, rows):
        close = columns
        for tested_on_axis, others_on_axis in zip(coordinates[:, group], other_coordinates, strict=True):
            position = others_on_axis[close]
            close = close[(position >= tested_on_axis.min() - _REACH) & (position <= tested_on_axis.max() + _REACH)]
        if len(close):
            yield group, close


def _main_axes(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """Orthogonal directions in which thumbnails [N, 256] differ most [256, K], the first the most."""
    centred = values - values.mean(axis=0)
    axes: NDArray[np.float32] = np.linalg.eigh(centred.T @ centred)[1][:, : -_AXES - 1 : -1]
    return axes


def _boxes(coordinates: NDArray[np.float32], rows: NDArray[np.intp]) -> Iterator[NDArray[np.intp]]:
    """Divide rows into groups of neighbours, by halves along the axis in which they differ most."""
    if len(rows) <= _ROWS:
        yield rows
        return
    axis = np.ptp(coordinates[:, rows], axis=1).argmax()
    rows = rows[np.argsort(coordinates[axis, rows], kind="stable")]
    for half in np.array_split(rows, 2):
        yield from _boxes(coordinates, half)
