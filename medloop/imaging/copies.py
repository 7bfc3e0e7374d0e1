"""Warnings of test images that look like copies of images of other patients in training or validation. Torch-free."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medloop.documents.split import SPLITS
from medloop.imaging.checked_cases import CheckedCases
from medloop.imaging.problems import Problem
from medloop.imaging.similar_images import MAX_COMPARISONS, find_lookalikes

MAX_LISTED = 5
"""Pairs that are named."""


def describe_lookalikes(
    cases: CheckedCases, splits: NDArray[np.int8], patients: NDArray[np.integer[Any]]
) -> Iterator[Problem]:
    """Name pairs of a test image and an image of train or val that looks like it, of different patients.

    Images with the same pixels are no such pair: they are found by their digest.

    Args:
        cases: The usable cases.
        splits: Position of each case's split in SPLITS [N].
        patients: A number of each case's patient [N].
    """
    rows = cases.rows.astype(np.intp)
    is_tested, has_thumbnail = splits == SPLITS.index("test"), cases.thumbnails.has(rows)
    tested, compared = rows[is_tested & has_thumbnail], rows[~is_tested & has_thumbnail]
    if len(tested) * len(compared) > MAX_COMPARISONS:
        yield Problem(
            "",
            f"has too many images to compare {len(tested)} test images with {len(compared)} others: copies "
            "that were saved again as JPEG or at another size are not looked for",
        )
        return
    lookalikes = find_lookalikes(cases.thumbnails, tested, compared)
    pairs = [tuple(np.searchsorted(rows, (pair.first, pair.second)).tolist()) for pair in lookalikes]
    pairs = [
        (first, second)
        for first, second in pairs
        if patients[first] != patients[second] and cases.images[first] != cases.images[second]
    ]
    for first, second in pairs[:MAX_LISTED]:
        message = (
            f"is in test and looks like {{related}} of {SPLITS[splits[second]]}, of another patient; if one is a copy "
            "of the other (saved again, resized), remove it, or give both one patient in patients.csv"
        )
        yield Problem(cases.path(first), message, related=cases.path(second))
    if len(pairs) > MAX_LISTED:
        yield Problem(
            "", f"{len(pairs)} test images look like images of train or val of other patients; {MAX_LISTED} are named"
        )
