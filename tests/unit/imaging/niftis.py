"""NIfTI files whose header fields are set one by one, right or wrong."""

from __future__ import annotations

from typing import Any

import nibabel as nib
import numpy as np

VOXELS = np.random.default_rng(0).integers(1, 1000, (7, 6, 5)).astype(np.int16)
AFFINE = np.array([[0, -2.0, 0, 11], [1.5, 0, 0, -3], [0, 0, 4, 7], [0, 0, 0, 1]])
"""Its axes are A, L, S, so that no reader has it by default."""
BASE_AFFINE = np.array([[-1.5, 0, 0, 4.5], [0, 2, 0, -5], [0, 0, 4, -8], [0, 0, 0, 1]])
"""nibabel's affine of a volume without transforms: x to the left, the origin in the centre."""


def make_header(*, sform: bool = True, qform: bool = True, version: int = 1, order: str = "<", **fields: Any) -> Any:
    """A single file's header of VOXELS on AFFINE; `fields` are set last, right or wrong."""
    header = (nib.Nifti1Header if version == 1 else nib.Nifti2Header)(endianness=order)
    header.set_data_dtype(np.int16)
    header.set_data_shape(VOXELS.shape)
    header.set_qform(AFFINE, int(qform))
    header.set_sform(AFFINE, int(sform))
    header.set_data_offset(len(header.binaryblock) + 4)
    header["magic"] = header.single_magic
    for name, value in fields.items():
        header[name] = value
    return header


def make_file(header: Any, gap: bytes = bytes(4), voxels: np.ndarray = VOXELS) -> bytes:
    """The header, what is between, and the voxels in the header's byte order."""
    stored = voxels.astype(voxels.dtype.newbyteorder(header.endianness))
    return bytes(header.binaryblock) + gap + stored.tobytes(order="F")
