"""Pictures for trackers: a few validation cases with truth and prediction. No name of a patient or a file is in them.

All results are RGB, uint8 [H, W, 3].
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from medloop.training.tracking.base import Picture

NUM_CASES: Final = 3
"""Volumes of the validation split that are drawn."""
NUM_SAMPLES: Final = 12
"""Images of the validation split that are drawn."""
_EDGE: Final = 192
"""Height of a slice, about, in pixels."""
_THUMBNAIL: Final = 112
_CELL: Final = 44
_MARGIN: Final = 6
"""Voxels around the structures."""
_MAX_CLASSES: Final = 20
"""Up to which a confusion matrix can be read."""
_COLOURS: Final = np.array(
    [(230, 159, 0), (86, 180, 233), (0, 158, 115), (240, 228, 66), (0, 114, 178), (213, 94, 0), (204, 121, 167)]
)
"""Okabe and Ito's palette, for readers with colour vision deficiency."""
_RIGHT, _WRONG = (0, 158, 115), (213, 94, 0)


def busiest_slice(truth: NDArray[Any], prediction: NDArray[Any]) -> int:
    """Find the axial slice with most of the true structures, or of the predicted ones where there is none.

    Args:
        truth: [x, y, z] labels.
        prediction: [x, y, z] labels.
    """
    mask = truth > 0 if (truth > 0).any() else prediction > 0
    return int(mask.sum(axis=(0, 1)).argmax()) if mask.any() else truth.shape[2] // 2


def slice_panel(image: NDArray[Any], truth: NDArray[Any], prediction: NDArray[Any]) -> Picture:
    """Image, image with truth, image with prediction, side by side, cropped to the structures, as radiologists look.

    One slice alone, cropped: no face can be put together from it.

    Args:
        image: [x, y] of any scale, in RAS order.
        truth: [x, y] labels; 0 is the background.
        prediction: [x, y, z] labels.
    """
    box = _around((truth > 0) | (prediction > 0))
    image, truth, prediction = (_facing(part[box]) for part in (image, truth, prediction))
    low, high = np.percentile(image.astype(np.float64), (1, 99))
    grey = ((image - low) / max(float(high - low), 1e-6)).clip(0, 1) * 255
    base = np.repeat(grey[..., None], 3, axis=2)
    scale = max(1, round(_EDGE / image.shape[0]))
    parts = [_enlarged(part, scale) for part in (base, _tinted(base, truth), _tinted(base, prediction))]
    gap = np.full((parts[0].shape[0], 4, 3), 255, np.uint8)
    return np.concatenate([parts[0], gap, parts[1], gap, parts[2]], axis=1)


def sample_indices(num: int) -> list[int]:
    """Choose the images to draw: NUM_SAMPLES, evenly spread."""
    return sorted({int(k) for k in np.linspace(0, num - 1, min(num, NUM_SAMPLES))})


def samples_panel(
    images: Sequence[NDArray[Any]], truth: Sequence[int], prediction: Sequence[int], classes: Sequence[str]
) -> Picture:
    """Images in rows of six, each with its class and, where that is wrong, the predicted one.

    Args:
        images: Each [channels, S, S], 0..1.
        truth: Class indices.
        prediction: [x, y, z] labels.
        classes: Names by index.
    """
    columns = min(6, len(images))
    cell, height = _THUMBNAIL + 8, _THUMBNAIL + 36
    canvas = Image.new("RGB", (columns * cell, -(-len(images) // columns) * height), "white")
    draw, font = ImageDraw.Draw(canvas), ImageFont.load_default(11)
    for k, (image, true, predicted) in enumerate(zip(images, truth, prediction, strict=True)):
        x, y = (k % columns) * cell + 4, (k // columns) * height + 4
        pixels = (np.asarray(image, np.float64).clip(0, 1) * 255).astype(np.uint8).transpose(1, 2, 0)
        picture = Image.fromarray(np.repeat(pixels, 3, axis=2) if pixels.shape[2] == 1 else pixels)
        canvas.paste(picture.resize((_THUMBNAIL, _THUMBNAIL)), (x, y))
        colour = _RIGHT if true == predicted else _WRONG
        draw.rectangle((x - 2, y - 2, x + _THUMBNAIL + 1, y + _THUMBNAIL + 1), outline=colour, width=2)
        draw.text((x, y + _THUMBNAIL + 3), f"is {_short(classes[true])}", fill="black", font=font)
        if true != predicted:
            draw.text((x, y + _THUMBNAIL + 16), f"not {_short(classes[predicted])}", fill=_WRONG, font=font)
    return np.asarray(canvas)


def confusion_panel(truth: NDArray[Any], prediction: NDArray[Any], classes: Sequence[str]) -> Picture | None:
    """Counts by true class (rows) and predicted class (columns); None for more classes than can be read.

    Args:
        truth: [N] class indices.
        prediction: [x, y, z] labels.
        classes: Names by index.
    """
    num = len(classes)
    if num > _MAX_CLASSES:
        return None
    counts = np.bincount(truth * num + prediction, minlength=num * num).reshape(num, num)
    left, top = 110, 40
    canvas = Image.new("RGB", (left + num * _CELL + 8, top + num * _CELL + 8), "white")
    draw, font = ImageDraw.Draw(canvas), ImageFont.load_default(12)
    draw.text((4, 4), "row: true class; column: predicted", fill="black", font=font)
    for row in range(num):
        draw.text((4, top + row * _CELL + 14), f"{row} {_short(classes[row])}", fill="black", font=font)
        draw.text((left + row * _CELL + 16, top - 18), str(row), fill="black", font=font)
        for column in range(num):
            share = counts[row, column] / max(1, counts[row].sum())
            x, y = left + column * _CELL, top + row * _CELL
            shade = tuple(int(255 - share * (255 - c)) for c in (8, 81, 156))
            draw.rectangle((x, y, x + _CELL - 2, y + _CELL - 2), fill=shade)
            tone = "white" if share > 0.5 else "black"
            draw.text((x + 8, y + 14), str(counts[row, column]), fill=tone, font=font)
    return np.asarray(canvas)


def _around(mask: NDArray[np.bool_]) -> tuple[slice, slice]:
    if not mask.any():
        return slice(None), slice(None)
    spans = (np.flatnonzero(mask.any(axis=1 - axis)) for axis in (0, 1))
    x, y = (slice(max(0, int(s[0]) - _MARGIN), int(s[-1]) + _MARGIN + 1) for s in spans)
    return x, y


def _facing(plane: NDArray[Any]) -> NDArray[Any]:
    """[x, y] in RAS order as rows: the patient's right at the left, the front on top."""
    return plane.T[::-1, ::-1]


def _tinted(base: NDArray[Any], labels: NDArray[Any]) -> NDArray[Any]:
    tint = _COLOURS[(labels.astype(int) - 1) % len(_COLOURS)]
    return np.where((labels > 0)[..., None], 0.5 * base + 0.5 * tint, base)


def _enlarged(pixels: NDArray[Any], scale: int) -> Picture:
    return pixels.astype(np.uint8).repeat(scale, axis=0).repeat(scale, axis=1)


def _short(name: str) -> str:
    return name if len(name) <= 14 else name[:13] + "…"
