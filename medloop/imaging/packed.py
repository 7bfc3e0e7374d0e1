"""Columns of many values in few bytes: a data set may have a million files, and an object for each takes 60 or more."""

from __future__ import annotations

from abc import abstractmethod
from array import array
from collections.abc import Callable, Hashable, Iterator, Sequence
from typing import Generic, TypeVar, overload

import numpy as np
from numpy.typing import NDArray

Value = TypeVar("Value")
Other = TypeVar("Other")
_DIGEST_BYTES = 32
"""SHA-256."""


class Columns(Sequence[Value]):
    """A sequence whose values are kept in columns: each is made when it is read."""

    @abstractmethod
    def row(self, index: int) -> Value:
        """Make the value at an index, which is not negative."""

    @overload
    def __getitem__(self, index: int) -> Value: ...

    @overload
    def __getitem__(self, index: slice) -> list[Value]: ...

    def __getitem__(self, index: int | slice) -> Value | list[Value]:
        indices = range(len(self))[index]
        return self.row(indices) if isinstance(indices, int) else [self.row(number) for number in indices]

    def __iter__(self) -> Iterator[Value]:
        return map(self.row, range(len(self)))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, type(self)) and list(self) == list(other)

    __hash__ = None  # type: ignore[assignment]


class Texts:
    """Texts in one buffer: a short name takes 20 bytes where an object takes 72."""

    def __init__(self) -> None:
        self._buffer, self._ends = bytearray(), array("Q")

    def __len__(self) -> int:
        return len(self._ends)

    def append(self, text: str) -> None:
        """Add a text; a name that is not in UTF-8 too."""
        self._buffer += text.encode("utf-8", "surrogatepass")
        self._ends.append(len(self._buffer))

    def __getitem__(self, index: int) -> str:
        start = self._ends[index - 1] if index else 0
        return self._buffer[start : self._ends[index]].decode("utf-8", "surrogatepass")


class Shared(Generic[Value]):
    """Values of which many are equal: four bytes each, and one object for equal ones.

    Attributes:
        distinct: The distinct values, in the order in which they came.
        numbers: Position of each value among the distinct ones.
    """

    def __init__(self) -> None:
        self.distinct: list[Value] = []
        self._known: dict[Hashable, int] = {}
        self._numbers = array("I")

    def append(self, value: Value, key: Hashable) -> None:
        """Add a value.

        Args:
            value: The value.
            key: Is equal for equal values.
        """
        number = self._known.setdefault(key, len(self.distinct))
        if number == len(self.distinct):
            self.distinct.append(value)
        self._numbers.append(number)

    def __getitem__(self, index: int) -> Value:
        return self.distinct[self._numbers[index]]

    @property
    def numbers(self) -> NDArray[np.uint32]:
        """[N]."""
        return np.frombuffer(self._numbers, np.uint32) if self._numbers else np.empty(0, np.uint32)

    def map(self, function: Callable[[Value], Other]) -> Shared[Other]:
        """A function of each value; none is added."""
        mapped = Shared[Other]()
        mapped.distinct, mapped._numbers = [function(value) for value in self.distinct], self._numbers
        return mapped

    def select(self, rows: NDArray[np.intp]) -> Shared[Value]:
        """The values in some rows, to which none is added."""
        selected, (used, numbers) = Shared[Value](), np.unique(self.numbers[rows], return_inverse=True)
        selected.distinct = [self.distinct[number] for number in used.tolist()]
        selected._numbers = array("I", numbers.astype(np.uint32).tobytes())
        return selected


class Digests:
    """SHA-256 digests, 32 bytes each where a text of hexadecimal digits takes 113."""

    def __init__(self, content: bytes | bytearray = b"") -> None:
        self._buffer = bytearray(content)

    def append(self, digest: str) -> None:
        """Add a digest in hexadecimal digits, or "" if no case has one."""
        self._buffer += bytes.fromhex(digest)

    def __getitem__(self, index: int) -> str:
        return self._buffer[_DIGEST_BYTES * index : _DIGEST_BYTES * (index + 1)].hex()

    @property
    def values(self) -> NDArray[np.bytes_]:
        """[N], ordered as the digests' texts are."""
        dtype = np.dtype(f"S{_DIGEST_BYTES}")
        return np.frombuffer(self._buffer, dtype) if self._buffer else np.empty(0, dtype)

    def select(self, rows: NDArray[np.intp]) -> Digests:
        """The digests in some rows."""
        return Digests(self.values[rows].tobytes() if self._buffer else b"")

    def repeated(self) -> NDArray[np.intp]:
        """Rows of digests that occur more than once, ascending."""
        starts = self.values.view(np.uint64)[:: _DIGEST_BYTES // 8]
        order = np.argsort(starts, kind="stable")
        is_equal = starts[order[1:]] == starts[order[:-1]]  # the first 64 bits: equal digests are among them
        candidates = order[np.append(is_equal, False) | np.insert(is_equal, 0, False)] if len(order) > 1 else order[:0]
        _, numbers, counts = np.unique(self.values[candidates], return_inverse=True, return_counts=True)
        rows: NDArray[np.intp] = np.sort(candidates[counts[numbers] > 1])
        return rows
