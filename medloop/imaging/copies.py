"""Warnings of test images that look like copies of images of other patients in training or validation. Torch-free."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medloop.documents.split import SPLITS
from medloop.imaging.checked_cases import CheckedCases
from medloop.imaging.problems import Problem
from medloop.imaging.similar_images import MAX_COMPARISONS, ClassImages, Lookalike, find_lookalikes

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
    pairs = [*_find_copies(cases, patients, find_lookalikes(cases.thumbnails, tested, compared))]
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


def _find_copies(
    cases: CheckedCases, patients: NDArray[np.integer[Any]], lookalikes: Iterable[Lookalike]
) -> Iterator[tuple[int, int]]:
    """Positions of the images of different patients that look alike, and more so than others of the class do."""
    rows, groups = cases.rows.astype(np.intp), [folder.group for folder in cases.raw.folders]
    classes: dict[str, tuple[ClassImages, NDArray[np.integer[Any]]]] = {}
    for pair in lookalikes:
        first, second = np.searchsorted(rows, (pair.first, pair.second)).tolist()
        if patients[first] == patients[second] or cases.images[first] == cases.images[second]:
            continue
        group = groups[cases.folder_numbers[second]]
        if group not in classes:
            of_class = np.isin(cases.folder_numbers, [number for number, name in enumerate(groups) if name == group])
            images = ClassImages(cases.thumbnails, rows[of_class & cases.thumbnails.has(rows)])
            classes[group] = images, patients[np.searchsorted(rows, images.rows)]
        images, of_images = classes[group]
        if images.is_closer_than_usual(pair, ~np.isin(of_images, (patients[first], patients[second]))):
            yield first, second
