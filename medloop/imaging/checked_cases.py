"""Checked cases, and their contents: read on all cores, or remembered from an earlier check. Torch-free."""

from __future__ import annotations

from collections.abc import Callable, ItemsView, Iterator, Mapping, Sequence, ValuesView
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from medloop.imaging.image_facts import ImageFacts
from medloop.imaging.network_grid import VolumeGrid
from medloop.imaging.on_all_cores import on_all_cores
from medloop.imaging.packed import Columns, Digests, Shared
from medloop.imaging.problems import Problem
from medloop.imaging.raw_cases import RawCase, RawCases
from medloop.imaging.thumbnails import Thumbnails

Content = tuple[str, str, tuple[int, ...], tuple[Problem, ...], ImageFacts | None, VolumeGrid | None, bytes]
"""A case's content: the attributes of `CheckedCase` after the first."""
Value = TypeVar("Value")
WINDOW = 2**14
"""Cases that are recalled at once: their contents are in memory together."""


@dataclass(frozen=True, slots=True)
class CheckedCase:
    """A case whose files can be used.

    Attributes:
        raw: The case in the data set.
        image_digest: SHA-256 of the decoded pixels or voxels.
        label_digest: SHA-256 of the label volume; "" in classification.
        values: Label values that occur in the volume, sorted; () in classification.
        warnings: What the data's owner should know about its files.
        facts: Channels, depth and size of an image; None in segmentation.
        grid: The volume's grid, in RAS; None in classification.
        thumbnail: See `medloop.imaging.similar_images`; empty in segmentation, and in a case of `CheckedCases`.
    """

    raw: RawCase
    image_digest: str
    label_digest: str = ""
    values: tuple[int, ...] = ()
    warnings: tuple[Problem, ...] = ()
    facts: ImageFacts | None = None
    grid: VolumeGrid | None = None
    thumbnail: bytes = b""

    @property
    def path(self) -> str:
        """Relative to the data set's root, POSIX."""
        return self.raw.path

    @property
    def content(self) -> Content:
        """All attributes except for the case."""
        return self.image_digest, self.label_digest, self.values, self.warnings, self.facts, self.grid, self.thumbnail


class _Kind(NamedTuple):
    """Attributes that many cases have in common."""

    values: tuple[int, ...]
    facts: ImageFacts | None
    grid: VolumeGrid | None


class CheckedCases(Columns[CheckedCase]):
    """Checked cases in columns, some 80 bytes each; a `CheckedCase` is made when it is read.

    Args:
        raw: The data set's cases, of which some may be usable.

    Attributes:
        raw: The same.
        images, labels: Digests.
        thumbnails: Of the images, by their positions in `raw`.
    """

    def __init__(self, raw: RawCases) -> None:
        self.raw, self.images, self.labels, self.thumbnails = raw, Digests(), Digests(), Thumbnails()
        self._rows = np.empty(len(raw), np.uint32)
        self._num = 0
        self._kinds, self._warnings = Shared[_Kind](), dict[int, tuple[Problem, ...]]()

    def append(self, row: int, content: Content) -> None:
        """Add a case.

        Args:
            row: Its position in the data set's cases; positions ascend.
            content: Its content.
        """
        image, label, values, warnings, facts, grid, thumbnail = content
        self._rows[self._num] = row
        self._num += 1
        self.images.append(image)
        self.labels.append(label)
        kind = _Kind(values, facts, grid)
        self._kinds.append(kind, kind)
        self.thumbnails.put(row, thumbnail)
        if warnings:
            self._warnings[row] = warnings

    def select(self, usable: NDArray[np.bool_]) -> CheckedCases:
        """Some of the cases.

        Args:
            usable: [N].
        """
        if usable.all():
            return self
        rows, selected = np.flatnonzero(usable), CheckedCases(self.raw)
        selected.images, selected.labels = self.images.select(rows), self.labels.select(rows)
        selected._rows, selected._num = self.rows[rows], len(rows)
        selected._kinds, selected._warnings = self._kinds.select(rows), self._warnings
        selected.thumbnails = self.thumbnails
        return selected

    def __len__(self) -> int:
        return self._num

    def row(self, index: int) -> CheckedCase:
        """See `Columns`."""
        row, (values, facts, grid) = int(self.rows[index]), self._kinds[index]
        digests = self.images[index], self.labels[index]
        return CheckedCase(self.raw[row], *digests, values, self._warnings.get(row, ()), facts, grid)

    @property
    def rows(self) -> NDArray[np.uint32]:
        """Positions of the cases in `raw` [N]."""
        return self._rows[: self._num]

    def path(self, index: int) -> str:
        """The path of a case."""
        return self.raw.path(int(self._rows[index]))

    @property
    def paths(self) -> Iterator[str]:
        """The paths of the cases."""
        return map(self.raw.path, map(int, self.rows))

    @property
    def folder_numbers(self) -> NDArray[np.uint32]:
        """Position of each case's folder among `raw.folders` [N]."""
        return self.raw.folder_numbers[self.rows]

    @property
    def warnings(self) -> Iterator[Problem]:
        """The warnings of all cases, in their order."""
        present = set(map(int, self.rows)) if self._warnings and len(self) < len(self.raw) else None
        for row in sorted(self._warnings):
            if present is None or row in present:
                yield from self._warnings[row]

    def facts(self, chosen: NDArray[np.bool_] | slice = slice(None)) -> list[ImageFacts]:
        """The facts of the images; none in segmentation.

        Args:
            chosen: [N], those whose facts are listed.
        """
        facts = [kind.facts for kind in self._kinds.distinct]
        return [known for number in self._kinds.numbers[chosen].tolist() if (known := facts[number])]

    @property
    def values(self) -> set[int]:
        """All values of labels."""
        return {value for kind in self._kinds.distinct for value in kind.values}

    def classes(self, names: Sequence[str]) -> tuple[NDArray[np.int64], list[tuple[str, ...]]]:
        """The class of each image, or the names of the labels in each volume.

        Args:
            names: By label value.

        Returns:
            Position of each case's classes [N] in a list of those that occur.
        """
        folders = [(folder.group,) for folder in self.raw.folders]
        kinds = [tuple(names[value] for value in kind.values) for kind in self._kinds.distinct]
        combinations = list(dict.fromkeys([*folders, *kinds]))
        position = {classes: number for number, classes in enumerate(combinations)}
        by_folder, by_kind = (np.array([position[each] for each in group], np.int64) for group in (folders, kinds))
        if not any(kinds):
            return by_folder[self.folder_numbers], combinations
        return by_kind[self._kinds.numbers], combinations


def count_classes(
    cases: CheckedCases, names: Sequence[str], chosen: NDArray[np.bool_] | slice = slice(None)
) -> dict[str, int]:
    """Number of cases of each class; in segmentation, of those in which it occurs.

    Args:
        cases: The cases.
        names: The classes.
        chosen: [N], those that count.
    """
    numbers, combinations = cases.classes(names)
    counts = dict.fromkeys(names, 0)
    for classes, count in zip(combinations, np.bincount(numbers[chosen], minlength=len(combinations)), strict=False):
        for name in classes if count else ():
            counts[name] += int(count)
    return counts


class ByCase(Mapping[str, Value]):
    """A value of each case by its path; values are in the order of the cases.

    Args:
        cases: The cases.
        numbers: [N], a number of each case.
        value_of: The value that a number stands for.
    """

    def __init__(
        self, cases: CheckedCases, numbers: NDArray[np.integer[Any]], value_of: Callable[[int], Value]
    ) -> None:
        self.cases, self.numbers, self.value_of = cases, numbers, value_of

    def __len__(self) -> int:
        return len(self.cases)

    def __iter__(self) -> Iterator[str]:
        return self.cases.paths

    def __getitem__(self, path: str) -> Value:
        return self.value_of(int(self.numbers[self._positions[path]]))

    @cached_property
    def _positions(self) -> dict[str, int]:
        return {path: position for position, path in enumerate(self)}

    def at(self, position: int) -> Value:
        """The value of the case at a position."""
        return self.value_of(int(self.numbers[position]))

    def values(self) -> ValuesView[Value]:
        """The values, in the order of the cases."""
        return _Values(self)

    def items(self) -> ItemsView[str, Value]:
        """Paths and values, in the order of the cases."""
        return _Items(self)


class _Values(ValuesView[Value]):
    _mapping: ByCase[Value]

    def __iter__(self) -> Iterator[Value]:
        return map(self._mapping.value_of, map(int, self._mapping.numbers))


class _Items(ItemsView[str, Value]):
    _mapping: ByCase[Value]

    def __iter__(self) -> Iterator[tuple[str, Value]]:
        return zip(self._mapping, self._mapping.values(), strict=True)


class Memory(Protocol):
    """Contents that earlier checks read, of files that are unchanged."""

    def recall(self, cases: Sequence[RawCase]) -> list[Content | None]:
        """The content of each case; None if it is to be read."""

    def keep(self, case: RawCase, content: Content | None) -> None:
        """Remember the content of the next case that `recall` didn't know; None if it can't be used."""

    def close(self) -> None:
        """Write what was kept."""


def read_contents(
    cases: Sequence[RawCase],
    read: Callable[[RawCase], Content | Problem],
    memory: Memory | None = None,
    max_workers: Callable[[], int] | None = None,
) -> Iterator[Content | Problem]:
    """Read the content of cases, or what is wrong with them, in order.

    Args:
        cases: The cases.
        read: Reads one.
        memory: Knows cases that needn't be read.
        max_workers: The number of processes that read, if one is too slow; one a core by default.
    """
    if memory is None:
        yield from on_all_cores(read, cases, max_workers)
        return
    try:
        for start in range(0, len(cases), WINDOW):
            yield from _read_window(cases[start : start + WINDOW], read, memory, max_workers)
    finally:
        memory.close()


def _read_window(
    cases: Sequence[RawCase],
    read: Callable[[RawCase], Content | Problem],
    memory: Memory,
    max_workers: Callable[[], int] | None,
) -> Iterator[Content | Problem]:
    known = memory.recall(cases)
    unknown = [case for case, content in zip(cases, known, strict=True) if content is None]
    contents = on_all_cores(read, unknown, max_workers)
    for case, remembered in zip(cases, known, strict=True):
        if remembered is not None:
            yield remembered
            continue
        content = next(contents)
        memory.keep(case, None if isinstance(content, Problem) else content)
        yield content
