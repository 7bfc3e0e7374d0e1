"""Image files: read with the checks that a stranger's file needs, written without what names a patient. Torch-free."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import nibabel as nib
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


def write_nifti(path: Path, voxels: NDArray[Any], affine: NDArray[np.float64]) -> None:
    """Write a NIfTI-1 volume (`.nii.gz`) with empty text fields; the same volume gives the same bytes.

    Args:
        path: Its folder is made where it is missing.
        voxels: [X, Y, Z], stored in its own type.
        affine: Voxel index to mm, 4x4; written as the sform and, as far as it can be, the qform.
    """
    image = nib.Nifti1Image(voxels, affine)
    image.header.set_xyzt_units("mm")
    _write_gzip(path, image.to_bytes())


def _write_gzip(path: Path, content: bytes) -> None:
    """Compress without a file name or a time in the gzip header."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress(content, compresslevel=6, mtime=0))
