"""Checked cases, and their contents: read on all cores, or remembered from an earlier check. Torch-free."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

from medloop.imaging.image_facts import ImageFacts
from medloop.imaging.layouts import RawCase
from medloop.imaging.network_grid import VolumeGrid
from medloop.imaging.on_all_cores import on_all_cores
from medloop.imaging.problems import Problem

Content = tuple[str, str, tuple[int, ...], tuple[Problem, ...], ImageFacts | None, VolumeGrid | None, bytes]
"""A case's content: the attributes of `CheckedCase` after the first."""
Value = TypeVar("Value")


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
        thumbnail: See `medloop.imaging.similar_images`; empty in segmentation.
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
        yield from _shared(on_all_cores(read, cases, max_workers))
        return
    known = memory.recall(cases)
    unknown = [case for case, content in zip(cases, known, strict=True) if content is None]
    contents = on_all_cores(read, unknown, max_workers)
    try:
        yield from _shared(_filled(cases, known, contents, memory))
    finally:
        memory.close()


def _filled(
    cases: Sequence[RawCase],
    known: Sequence[Content | None],
    contents: Iterator[Content | Problem],
    memory: Memory,
) -> Iterator[Content | Problem]:
    for case, remembered in zip(cases, known, strict=True):
        if remembered is not None:
            yield remembered
            continue
        content = next(contents)
        memory.keep(case, None if isinstance(content, Problem) else content)
        yield content


def _shared(contents: Iterator[Content | Problem]) -> Iterator[Content | Problem]:
    """The contents, with one object for equal facts: a million images of a scanner have few."""
    shared: dict[ImageFacts, ImageFacts] = {}
    for content in contents:
        if isinstance(content, Problem):
            yield content
        else:
            facts = content[4]
            yield (*content[:4], facts and shared.setdefault(facts, facts), *content[5:])
