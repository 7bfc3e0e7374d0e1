"""Image files: read with every check that a stranger's file needs, written without anything that names a patient. Torch-free."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image


def write_png(path: Path, pixels: NDArray[Any]) -> None:
    """Write a PNG that holds pixels and nothing else; the same pixels give the same bytes.

    Args:
        path: Its folder is made where it is missing.
        pixels: [H, W] uint8 or uint16 grey, or [H, W, 3] uint8 RGB.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.ascontiguousarray(pixels)).save(path, format="PNG", compress_level=6)
