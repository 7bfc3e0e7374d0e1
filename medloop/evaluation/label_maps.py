"""Volumes of test cases on their own grids."""

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
from medloop.imaging.formats import read_volume_header
from medloop.imaging.layouts import LABEL
from medloop.imaging.validation import Subject, read_subject, require_volume


@dataclass(frozen=True)
class Packed:
    """A label map, compressed: a test set's predictions stay in memory until it is known which are drawn."""

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


def is_millimetres(case: HeldOut) -> bool:
    """Whether the label's header tells its lengths' unit: what is read is in millimetres then.

    Raises:
        DataError: The header can't be read.
    """
    try:
        return read_volume_header(require_volume(case.path, LABEL)).unit != UNKNOWN
    except DataError as error:
        raise DataError(f"test/{case.name}/{error}") from None


def read_case(case: HeldOut, classes: Sequence[str] | None = None) -> Subject:
    """A case's image and label map, as they are on disk.

    Args:
        case: A subject's folder.
        classes: The model's, by label value, the background first; None takes any label values.

    Raises:
        DataError: A file can't be used, image and label are on different grids, or a label value names no class.
    """
    try:
        return read_subject(case.path, classes)
    except DataError as error:
        raise DataError(f"test/{case.name}/{error}") from None
