"""Copies of images that were saved again or resized look like their originals, and other images don't."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import gaussian_filter

from medloop.documents.split_rule import SplitRule
from medloop.imaging.similar_images import find_lookalikes, make_thumbnail
from medloop.imaging.split_plan import plan_split
from medloop.imaging.validation import check_dataset
from tests.unit.imaging.datasets import write_patients

Pixels = NDArray[np.uint8]


def picture(seed: int, shape: tuple[int, int] = (64, 64)) -> Pixels:
    """A smooth image with some noise, as images from a camera are."""
    rng = np.random.default_rng(seed)
    smooth = gaussian_filter(rng.normal(size=shape), 5)
    noise = rng.normal(scale=3, size=shape)
    return np.clip(128 + 90 * smooth / np.abs(smooth).max() + noise, 0, 255).astype(np.uint8)


def as_jpeg(pixels: Pixels, quality: int = 75) -> Pixels:
    """The pixels after JPEG."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=quality)
    return np.asarray(Image.open(buffer))


def resized(pixels: Pixels, edge: int) -> Pixels:
    """A square of another size."""
    return np.asarray(Image.fromarray(pixels).resize((edge, edge), Image.Resampling.BICUBIC))


COPIES = {
    "JPEG": as_jpeg,
    "a poor JPEG": lambda pixels: as_jpeg(pixels, 40),
    "half the size": lambda pixels: resized(pixels, 32),
    "larger": lambda pixels: resized(pixels, 224),
    "larger, and JPEG": lambda pixels: as_jpeg(resized(pixels, 224)),
    "16 bits": lambda pixels: pixels.astype(np.uint16) * 257,
    "darker": lambda pixels: (pixels * 0.6).astype(np.uint8),
    "RGB": lambda pixels: np.dstack([pixels] * 3),
}


@pytest.mark.parametrize("name", COPIES)
def test_copies_look_alike(name: str) -> None:
    """Each copy is like its original, and like no other image."""
    originals = [picture(seed) for seed in range(20)]
    pairs = find_lookalikes(
        [make_thumbnail(COPIES[name](pixels)) for pixels in originals[5:9]], [make_thumbnail(p) for p in originals]
    )
    assert [(pair.first, pair.second) for pair in pairs] == [(0, 5), (1, 6), (2, 7), (3, 8)]


def test_images_with_little_in_them_are_not_compared() -> None:
    """Blank images, and the last slice of a head: they are all alike."""
    blank, dot = np.zeros((32, 32), np.uint8), np.zeros((32, 32), np.uint8)
    dot[10:13, 10:13] = 200
    for pixels in (blank, dot):
        assert list(find_lookalikes([make_thumbnail(pixels)], [make_thumbnail(pixels)])) == []
    assert list(find_lookalikes([], [make_thumbnail(picture(0))])) == []


def write(path: Path, pixels: Pixels) -> None:
    """A PNG, or by its suffix a JPEG."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


def test_a_copy_of_a_training_image_in_test_is_named(tmp_path: Path) -> None:
    """Check and Split warn and never refuse; copies of one patient, and in one split, are no matter."""
    for split, seeds in {"train": range(6), "val": range(10, 16), "test": range(20, 26)}.items():
        for seed in seeds:
            write(tmp_path / split / "ab"[seed % 2] / f"{seed}.png", picture(seed))
    write(tmp_path / "test" / "a" / "copy.jpg", picture(2))
    write(tmp_path / "test" / "a" / "of the patient.jpg", picture(4))
    write(tmp_path / "train" / "a" / "in train.jpg", picture(0))
    rows = [f"{path.relative_to(tmp_path)},{path.stem}" for path in sorted(tmp_path.rglob("*.*g"))]
    write_patients(tmp_path, [row.replace("of the patient", "4") if row.endswith("patient") else row for row in rows])
    names = (tmp_path / "patients.csv").read_text().replace("test/a/4.jpg", "test/a/of the patient.jpg")
    (tmp_path / "patients.csv").write_text(names)

    report = check_dataset(tmp_path, "classification")
    plan = plan_split(report, SplitRule(), report.patients)
    assert (report.problems, plan.problems) == ([], [])
    [line] = [warning.line for warning in plan.warnings if "looks like" in warning.line]
    assert line == (
        "test/a/copy.jpg: is in test and looks like train/a/2.png of train, of another patient; if one is a copy of "
        "the other (saved again, resized), remove it, or give both one patient in patients.csv"
    )
    hidden = [warning.hide(lambda path: "x") for warning in plan.warnings if "looks like" in warning.line]
    assert hidden[0].startswith("x: is in test and looks like x of train, of another patient;")
