"""Problems of one kind are one line with their number; those that name another file or a patient have a line each."""

from __future__ import annotations

import pytest

from medloop.imaging.problems import Problem, group_by_kind

IGNORED = "has label values -1 that are no whole numbers from 0 to 255; write the true class"
SHIFTED = "is up to {:.2f} voxels from its image's grid (origin); correct the label's header"


def of_files(messages: list[str], **attributes: object) -> list[Problem]:
    """A problem for each message, of a file of its own."""
    return [
        Problem(f"s{number}/label.nii.gz", message, **attributes)  # type: ignore[arg-type]
        for number, message in enumerate(messages)
    ]


@pytest.mark.parametrize(
    "messages",
    [
        [IGNORED] * 40,
        [SHIFTED.format(0.1 + number / 100) for number in range(40)],
        ["has one value everywhere; replace or remove it"] * 40,
        [f"has {number} slices of one value (z = {number}); check that no slice was lost" for number in range(40)],
        [f"has values of {number}e-{number + 38} at most; correct their unit" for number in range(40)],
    ],
)
def test_many_of_one_kind_are_one_line(messages: list[str]) -> None:
    """The first with its own numbers, how many are like it, and the first names; also where names are hidden."""
    other = Problem("", "has one class only")
    problem, last = group_by_kind([*of_files(messages), other])
    more = "and 39 more like it (s1/label.nii.gz, s2/label.nii.gz, s3/label.nii.gz, s4/label.nii.gz, ...)"
    assert problem.line == f"s0/label.nii.gz {more}: {messages[0]}"
    assert problem.hide(lambda path: "x") == f"x and 39 more like it (x, x, x, x, ...): {messages[0]}"
    assert last == other


def test_kinds_with_another_fix_are_apart() -> None:
    """Each kind at the place of its first file."""
    messages = [IGNORED, "is missing; add it"] * 5
    assert [(problem.path, len(problem.alike)) for problem in group_by_kind(of_files(messages))] == [
        ("s0/label.nii.gz", 4),
        ("s1/label.nii.gz", 4),
    ]


@pytest.mark.parametrize(
    "problems",
    [
        of_files([IGNORED] * 3),
        [Problem(f"a/{n}.png", "shows the same pixels as {related}", related=f"b/{n}.png") for n in range(9)],
        [Problem("patients.csv", f"row {n}: has no patient; add it") for n in range(9)],
        [Problem("patients.csv", "two rows may be one", for_owner=f"{n} and 0{n} may be one") for n in range(9)],
        [Problem("", f"has {n} problems") for n in range(9)],
    ],
    ids=["few", "pairs", "rows of one file", "patients", "the data set"],
)
def test_what_a_line_says_alone_stays(problems: list[Problem]) -> None:
    """A few files, pairs of files, rows of a table, patients, and the complete data set."""
    assert group_by_kind(problems) == problems
