"""Images of different splits that look like copies: saved again as JPEG, or at another size. Torch-free.

An image's thumbnail has 16 x 16 grey values. Two images look alike if the correlation of their thumbnails is at least
1 - MAX_DISTANCE (docs/measurements.md: slices of different patients stay below 0.976, copies as JPEG of quality 75 are
above in 99 of 100). Thumbnails with little in them, such as the last slice of a head, are not compared.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

EDGE = 16
"""Edge of a thumbnail."""
MAX_DISTANCE = 0.005
"""Largest distance, 1 minus the correlation, of images that look alike."""
MIN_CONTENT = 0.25
"""Share of a thumbnail's values that differ from its median."""
CONTENT_STEP = 13
"""Smallest such difference, of 255."""
MAX_COMPARISONS = 2 * 10**9
"""Pairs from which a search takes minutes."""
_ROWS = 1024


@dataclass(frozen=True)
class Lookalike:
    """Indices of two images that look alike."""

    first: int
    second: int


def make_thumbnail(pixels: NDArray[Any]) -> bytes:
    """The mean grey values of an image's parts, scaled to 0..255; empty if they are all the same.

    Args:
        pixels: [H, W] or [H, W, 3], uint8 or uint16.
    """
    grey = pixels if pixels.ndim == 2 else pixels[..., 1]
    picture = Image.fromarray(np.ascontiguousarray(grey, dtype=grey.dtype if grey.itemsize == 1 else np.float32))
    values = np.asarray(picture.resize((EDGE, EDGE), Image.Resampling.BOX), dtype=np.float32)
    low, high = float(values.min()), float(values.max())
    return b"" if low == high else np.rint((values - low) * (255 / (high - low))).astype(np.uint8).tobytes()


def find_lookalikes(first: Sequence[bytes], second: Sequence[bytes]) -> Iterator[Lookalike]:
    """Find pairs of images that look alike, one of each group; the first image that each of the first group is like.

    Args:
        first: Thumbnails.
        second: Thumbnails of the other group.
    """
    (rows, indices), (compared, other_indices) = _standardise(first), _standardise(second)
    if not len(rows) or not len(compared):
        return
    for start in range(0, len(rows), _ROWS):
        likeness = rows[start : start + _ROWS] @ compared.T
        best = likeness.argmax(axis=1)
        for row in np.flatnonzero(likeness[np.arange(len(best)), best] >= 1 - MAX_DISTANCE).tolist():
            yield Lookalike(int(indices[start + row]), int(other_indices[best[row]]))


def _standardise(thumbnails: Sequence[bytes]) -> tuple[NDArray[np.float32], NDArray[np.intp]]:
    """Thumbnails with something in them, with mean 0 and length 1 [N, 256], and their indices."""
    indices = np.array([index for index, thumbnail in enumerate(thumbnails) if thumbnail], dtype=np.intp)
    joined = b"".join(thumbnails)
    values = np.frombuffer(joined, dtype=np.uint8).reshape(-1, EDGE * EDGE).astype(np.float32)
    content = np.abs(values - np.median(values, axis=1, keepdims=True)) >= CONTENT_STEP
    kept_rows = content.mean(axis=1) >= MIN_CONTENT
    values, indices = values[kept_rows], indices[kept_rows]
    values = values - values.mean(axis=1, keepdims=True)
    return values / np.linalg.norm(values, axis=1, keepdims=True), indices
