"""Label maps and images of test cases on their own grids."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medloop.errors import DataError
from medloop.evaluation.cases import HeldOut
from medloop.imaging.files import UNKNOWN
from medloop.imaging.nifti_header import MILLIMETRES
from medloop.imaging.validation import Subject, read_subject, units_of


@dataclass(frozen=True)
class Packed:
    """A label map, compressed: a test set's predictions stay in memory until the cases to draw are chosen."""

    data: bytes
    shape: tuple[int, ...]
    dtype: str

    @classmethod
    def pack(cls, labels: NDArray[Any]) -> Packed:
        """Compress."""
        return cls(zlib.compress(np.ascontiguousarray(labels).tobytes(), level=1), labels.shape, labels.dtype.str)

    def unpack(self) -> NDArray[Any]:
        """Decompress."""
        return np.frombuffer(zlib.decompress(self.data), dtype=self.dtype).reshape(self.shape)


def millimetres_per_length(case: HeldOut, unit: str | None = None) -> float | None:
    """Return the millimetres in one length of the label, as it is read; None if its unit is unknown.

    Reading converts the unit that the label's header states to millimetres. A label without a unit has its image's.

    Args:
        case: A subject's folder.
        unit: Unit of lengths if neither header states one, a key of `nifti_header.MILLIMETRES`; None: unknown.

    Raises:
        DataError: The header can't be read.
    """
    try:
        label_unit, unit_that_counts = units_of(case.path)
    except DataError as error:
        raise DataError(f"test/{case.name}/{error}") from None
    if label_unit != UNKNOWN:
        return 1.0
    unit = unit if unit_that_counts == UNKNOWN else unit_that_counts
    return None if unit is None else MILLIMETRES[unit]


def read_case(case: HeldOut, classes: Sequence[str] | None = None) -> Subject:
    """Read a case's image and label map on their own grid.

    Args:
        case: A subject's folder.
        classes: The model's, by label value, the background first; None takes any label values.

    Raises:
        DataError: A file can't be used, image and label are on different grids, or a label value has no class.
    """
    try:
        return read_subject(case.path, classes)
    except DataError as error:
        raise DataError(f"test/{case.name}/{error}") from None
