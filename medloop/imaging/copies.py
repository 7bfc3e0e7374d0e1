"""Warnings of test images that look like copies of images of other patients in training or validation. Torch-free."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from medloop.documents.split import Split
from medloop.imaging.checked_cases import CheckedCase
from medloop.imaging.problems import Problem
from medloop.imaging.similar_images import MAX_COMPARISONS, find_lookalikes

MAX_LISTED = 5
"""Pairs that are named."""


def describe_lookalikes(
    cases: Sequence[CheckedCase], split_of: Mapping[str, Split], names: Mapping[str, str]
) -> Iterator[Problem]:
    """Name pairs of a test image and an image of train or val that looks like it, of different patients.

    Images with the same pixels are no such pair: they are found by their digest.

    Args:
        cases: The usable cases.
        split_of: Split by case path.
        names: Patient by case path.
    """
    tested = [case for case in cases if case.thumbnail and split_of[case.path] == "test"]
    compared = [case for case in cases if case.thumbnail and split_of[case.path] != "test"]
    if len(tested) * len(compared) > MAX_COMPARISONS:
        yield Problem(
            "",
            f"has too many images to compare {len(tested)} test images with {len(compared)} others: copies "
            "that were saved again as JPEG or at another size are not looked for",
        )
        return
    pairs = [
        (tested[pair.first], compared[pair.second])
        for pair in find_lookalikes([case.thumbnail for case in tested], [case.thumbnail for case in compared])
    ]
    pairs = [
        (case, other)
        for case, other in pairs
        if names[case.path] != names[other.path] and case.image_digest != other.image_digest
    ]
    for case, other in pairs[:MAX_LISTED]:
        message = (
            f"is in test and looks like {{related}} of {split_of[other.path]}, of another patient; if one is a copy of "
            "the other (saved again, resized), remove it, or give both one patient in patients.csv"
        )
        yield Problem(case.path, message, related=other.path)
    if len(pairs) > MAX_LISTED:
        yield Problem(
            "", f"{len(pairs)} test images look like images of train or val of other patients; {MAX_LISTED} are named"
        )
