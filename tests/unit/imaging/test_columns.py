"""Cases in columns: few bytes each, and the same cases as objects of their own."""

from __future__ import annotations

import hashlib
import tempfile
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from medloop.imaging.checked_cases import ByCase, CheckedCases, Content
from medloop.imaging.content_digests import data_digest, digest_of_images
from medloop.imaging.image_facts import ImageFacts
from medloop.imaging.packed import Digests, Shared
from medloop.imaging.problems import Problem
from medloop.imaging.raw_cases import RawCase, RawCases
from medloop.imaging.thumbnails import Thumbnails


def digest(text: str) -> str:
    """A digest as an image's."""
    return hashlib.sha256(text.encode()).hexdigest()


def content(name: str, *warnings: Problem, bits: int = 8) -> Content:
    """The content of an image."""
    facts = ImageFacts((16, 16), bits, False, (0, 255), (0, 255))
    return digest(name), "", (), warnings, facts, None, bytes(range(256))


def checked(raw: RawCases) -> CheckedCases:
    """All cases, with contents of their own."""
    cases = CheckedCases(raw)
    for row, case in enumerate(raw):
        cases.append(row, content(case.path))
    return cases


@pytest.mark.slow
def test_a_case_takes_few_bytes() -> None:
    """Digest, name, folder and facts of ten thousand images: below 100 bytes each, however long a folder's name is."""
    names = (f"{'a long name ' * 8}{number % 10}/{number:07}.png" for number in range(10_000))
    tracemalloc.start()
    try:
        cases = checked(RawCases(RawCase(name, "a", None) for name in names))
        used, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert used / len(cases) < 100


@pytest.mark.parametrize("path", ["a/b.png", "b.png", "a/\udcff\udc80.png", "ä/ö 漢.png", "a/b/c/"])
def test_a_case_is_the_one_that_was_added(path: str) -> None:
    """Names that are not in UTF-8, in no folder, or empty; patients and their attributes."""
    people = (RawCase(path, "a", "val", "7", "07", {"sex": "m"}), RawCase(path, "a", "val", "7", "7", {"sex": "f"}))
    cases = [RawCase(path, "a", None), RawCase("x/y", "b", "test"), *people, RawCase(path, "a", None)]
    raw = RawCases(cases)
    assert [*raw] == cases == raw[:]
    assert raw[1:4] == cases[1:4]
    assert len(raw.folders) == 3
    assert (raw == RawCases(cases), raw == RawCases(cases[:-1]), raw == cases) == (True, False, False)


def test_selected_cases_keep_what_is_theirs() -> None:
    """Facts, warnings and digests follow their cases; what only others have is gone."""
    raw = RawCases(RawCase(f"{'ab'[number % 2]}/{number}", "ab"[number % 2], None) for number in range(6))
    cases = CheckedCases(raw)
    for row in (0, 1, 3, 4, 5):
        cases.append(row, content(str(row), *[Problem(f"{row}", "odd")] * (row % 3), bits=16 if row == 1 else 8))
    selected = cases.select(np.array([True, False, True, True, False]))
    assert [*selected] == [cases[0], cases[2], cases[3]]
    assert [warning.path for warning in selected.warnings] == ["4"]
    assert {facts.bits for facts in selected.facts()} == {8}
    assert [case.path for case in selected] == [*selected.paths] == ["a/0", "b/3", "a/4"]
    assert cases.select(np.ones(5, np.bool_)) is cases


def test_equal_digests_are_found_by_all_their_bytes() -> None:
    """Not by the first ones alone, and as often as they are there."""
    same = "12" * 8
    digests = Digests()
    for text in (same + "00" * 24, digest("x"), same + "00" * 23 + "01", digest("x"), digest("y"), digest("x")):
        digests.append(text)
    assert digests.repeated().tolist() == [1, 3, 5]
    assert Digests().repeated().tolist() == []


@pytest.mark.parametrize("groups", [["a", "b"], ["a", "a 0"], ["a", "a b", "a-b"], ["b", "a", "\udcff"], [""]])
def test_digests_of_content_are_of_sorted_lines(groups: list[str]) -> None:
    """One class's name may begin with another's: then their lines mix."""
    raw = RawCases(RawCase(f"{group}/{number}", group, None) for group in groups for number in range(20))
    cases = CheckedCases(raw)
    for row in range(len(raw)):
        image, label = f"{row % 7}", digest(f"{row % 5}")
        cases.append(row, (digest(image), label, (0, 1), (), None, None, b""))
    lines = sorted(f"{case.raw.group} {case.image_digest} {case.label_digest}" for case in cases)
    expected = hashlib.sha256("\n".join(lines).encode("utf-8", "surrogateescape")).hexdigest()
    assert data_digest(cases) == expected
    images = sorted(case.image_digest for case in cases[3:9])
    chosen = np.isin(np.arange(len(cases)), range(3, 9))
    assert digest_of_images(cases, chosen) == hashlib.sha256("\n".join(images).encode()).hexdigest()


def test_a_value_by_case_is_a_mapping_in_the_order_of_the_cases() -> None:
    """By path, and in order."""
    cases = checked(RawCases(RawCase(path, "", None) for path in "cab"))
    names = ByCase(cases, np.array([2, 0, 1]), "xyz".__getitem__)
    assert names == {"c": "z", "a": "x", "b": "y"}
    assert ([*names], [*names.values()], names["a"], names.at(2)) == (["c", "a", "b"], ["z", "x", "y"], "x", "y")


@pytest.mark.parametrize("has_disk", [True, False])
def test_thumbnails_are_read_from_disk_or_memory(
    has_disk: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In any order, with rows left out; where the disk takes none, they stay in memory."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path if has_disk else tmp_path / "missing"))
    thumbnails = Thumbnails()
    for row in range(0, 5000, 2):
        thumbnails.put(row, row.to_bytes(2, "big") * 128 if row % 10 else b"")
    rows = np.array([4998, 2, 4096, 1022, 1024, 2, 3004])
    assert thumbnails.take(rows)[:, :2].tolist() == [[*row.to_bytes(2, "big")] for row in rows.tolist()]
    assert thumbnails.has(np.array([1, 2, 10, 4998, 5000, 9999])).tolist() == [False, True, False, True, False, False]


def test_equal_values_are_one() -> None:
    """By their key."""
    shared = Shared[list[int]]()
    for value in ([1], [2], [1]):
        shared.append(value, tuple(value))
    assert (shared.distinct, shared[2] is shared[0]) == ([[1], [2]], True)
    assert [shared.select(np.array([1]))[0], shared.map(len)[1]] == [[2], 1]
