"""Copies of images that were saved again or resized look like their originals, and other images don't."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import gaussian_filter

from medloop.documents.split_rule import SplitRule
from medloop.imaging.similar_images import MAX_DISTANCE, find_lookalikes, make_thumbnail
from medloop.imaging.split_plan import plan_split
from medloop.imaging.thumbnails import Thumbnails
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


def find_pairs(first: Sequence[bytes], second: Sequence[bytes]) -> list[tuple[int, int]]:
    """Positions of thumbnails of two groups that look alike; empty ones are in no group."""
    thumbnails, num = Thumbnails([*first, *second]), len(first)
    rows = np.arange(num + len(second))
    groups = (group[thumbnails.has(group)] for group in (rows[:num], rows[num:]))
    return [(pair.first, pair.second - num) for pair in find_lookalikes(thumbnails, *groups)]


@pytest.mark.parametrize("name", COPIES)
def test_copies_look_alike(name: str) -> None:
    """Each copy is like its original, and like no other image."""
    originals = [picture(seed) for seed in range(20)]
    pairs = find_pairs(
        [make_thumbnail(COPIES[name](pixels)) for pixels in originals[5:9]], [make_thumbnail(p) for p in originals]
    )
    assert pairs == [(0, 5), (1, 6), (2, 7), (3, 8)]


def radiograph(rng: np.random.Generator, edge: int = 48) -> Pixels:
    """A chest: its outline, lungs, heart and spine have a person's sizes and places, and all people's order."""
    y, x = np.mgrid[:edge, :edge] / (edge - 1) * 2 - 1

    def inside(across: float, down: float, width: float, height: float) -> NDArray[np.float64]:
        sizes = np.array([width, height]) * np.exp(rng.normal(0, 0.08, 2))
        centre = rng.normal([across, down], 0.04)
        inside_ellipse: NDArray[np.float64] = 1 / (
            1 + np.exp((np.hypot((x - centre[0]) / sizes[0], (y - centre[1]) / sizes[1]) - 1) / 0.05)
        )
        return inside_ellipse

    absorbed = inside(0, 0.25, 0.95, 1.35) + 0.4 * inside(0.14, 0.3, 0.3, 0.3) + 0.3 * inside(0, 0, 0.1, 2)
    absorbed -= 0.6 * (inside(-0.42, -0.05, 0.36, 0.62) + inside(0.42, -0.05, 0.36, 0.62))
    values = (absorbed - absorbed.min()) / np.ptp(absorbed) + rng.normal(0, 0.01, x.shape)
    return (255 * values.clip(0, 1) ** np.exp(rng.normal(0, 0.15))).astype(np.uint8)


def test_radiographs_of_different_people_do_not_look_alike() -> None:
    """All are in one position; a copy of one is still found."""
    rng = np.random.default_rng(0)
    people = [radiograph(rng) for _ in range(200)]
    thumbnails = [make_thumbnail(person) for person in people]
    assert find_pairs(thumbnails[:100], thumbnails[100:]) == []
    copies = [make_thumbnail(as_jpeg(person, 50)) for person in people[:20]]
    assert find_pairs(copies, thumbnails) == [(n, n) for n in range(20)]


def test_images_with_little_in_them_are_not_compared() -> None:
    """Blank images, and the last slice of a head: they are all alike."""
    blank, dot = np.zeros((32, 32), np.uint8), np.zeros((32, 32), np.uint8)
    dot[10:13, 10:13] = 200
    for pixels in (blank, dot):
        assert find_pairs([make_thumbnail(pixels)], [make_thumbnail(pixels)]) == []
    assert find_pairs([], [make_thumbnail(picture(0))]) == []


@pytest.mark.parametrize("pixels", [np.full((1, 1), 7, np.uint8), np.full((100, 37), 200, np.uint8)])
@pytest.mark.parametrize("change", [lambda p: p, lambda p: np.kron(p, np.ones((5, 9), np.uint16) * 301)])
def test_one_value_has_no_thumbnail(pixels: Pixels, change: Callable[[Pixels], Pixels]) -> None:
    """At any size and depth: rounding is no content."""
    assert make_thumbnail(change(pixels)) == make_thumbnail(np.dstack([change(pixels)] * 3)) == b""


@pytest.mark.parametrize(("height", "width"), [(1, 1), (5, 3), (16, 8), (40, 24)])
def test_thumbnail_has_the_means_of_the_parts(height: int, width: int) -> None:
    """Each value is that of its part, however large the image is."""
    parts = np.random.default_rng(0).permutation(256).reshape(16, 16).astype(np.uint8)
    assert make_thumbnail(np.kron(parts, np.ones((height, width), np.uint8))) == parts.tobytes()


@pytest.mark.parametrize(("height", "width"), [(9, 9), (13, 2), (37, 11), (61, 100)])
def test_large_images_are_like_small_ones(height: int, width: int) -> None:
    """Squares of pixels that are averaged first may be in two parts, which changes little."""
    parts = picture(3, (16, 16))
    large = np.kron(parts, np.ones((height, width), np.uint8))
    assert find_pairs([make_thumbnail(large)], [make_thumbnail(parts)]) == [(0, 0)]


def test_pixels_between_parts_count_in_both() -> None:
    """Of 24 columns, each second one belongs half to either part."""
    thirds = np.tile(np.array([0, 90, 180], np.uint8), (16, 8))
    values = np.frombuffer(make_thumbnail(thirds), np.uint8).reshape(16, 16)
    assert values[0, :4].tolist() == [0, 255, 0, 255]  # (0 + 45) / 1.5 = 30 and (45 + 180) / 1.5 = 150, scaled


def test_many_images_have_the_pairs_of_few() -> None:
    """Where most pairs needn't be compared, none is lost: random mixtures of four patterns, and noise."""
    rng = np.random.default_rng(0)
    mixtures = rng.normal(size=(4200, 4)) @ rng.normal(size=(4, 256)) + rng.normal(scale=0.1, size=(4200, 256))
    mixtures[:40] = rng.normal(size=(40, 256))
    mixtures[4000:4020] = mixtures[:20]
    values = np.clip(128 + 25 * mixtures, 0, 255).astype(np.uint8)
    standard = values - values.mean(axis=1, keepdims=True)
    standard /= np.linalg.norm(standard, axis=1, keepdims=True)
    likeness = standard[:2100] @ standard[2100:].T
    thumbnails = [row.tobytes() for row in values]
    pairs = find_pairs(thumbnails[:2100], thumbnails[2100:])
    expected = [row for row in range(2100) if likeness[row].max() >= 1 - MAX_DISTANCE]
    assert [first for first, _ in pairs] == expected
    assert 30 < len(expected) < 2000
    assert all(likeness[first, second] > likeness[first].max() - 1e-6 for first, second in pairs)


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


def write_classes(root: Path, make: Callable[[int, np.random.Generator], NDArray[np.generic]], num: int = 24) -> None:
    """Two classes of images that a test pattern is drawn in, with noise of their own; already split."""
    rng = np.random.default_rng(0)
    for number in range(num):
        split = ("train", "val", "test")[number % 3]
        write(root / split / "ab"[number // 3 % 2] / f"{number}.png", make(number // 3 % 2, rng))


def waves(kind: int, rng: np.random.Generator) -> Pixels:
    """Stripes or checks, and noise."""
    y, x = np.mgrid[:40, :40]
    pattern = np.sin(x / 3) * (np.sin(y / 3) if kind else 1)
    return np.clip(120 + 60 * pattern + rng.normal(0, 6, x.shape), 0, 255).astype(np.uint8)


def ramps(kind: int, rng: np.random.Generator) -> NDArray[np.uint16]:
    """A ramp across or down with noise in the last bits only."""
    y, x = np.mgrid[:64, :64]
    return (64 * (y if kind else x) + rng.integers(0, 8, x.shape)).astype(np.uint16)


def phantoms(kind: int, rng: np.random.Generator) -> Pixels:
    """A disc of one of two sizes, always at one place, and noise."""
    y, x = np.mgrid[:48, :48]
    disc = np.hypot(x - 24, y - 24) < (16 if kind else 20)
    return np.clip(70 + 110 * disc + rng.normal(0, 8, x.shape), 0, 255).astype(np.uint8)


def find_copies(root: Path) -> list[str]:
    """The test images that a check names as copies."""
    report = check_dataset(root, "classification")
    plan = plan_split(report, SplitRule(), report.patients)
    return [warning.path for warning in plan.warnings if "looks like" in warning.line]


@pytest.mark.parametrize("make", [waves, ramps, phantoms])
def test_images_of_one_pattern_are_no_copies(
    make: Callable[[int, np.random.Generator], NDArray[np.generic]], tmp_path: Path
) -> None:
    """All images of a class look alike, and none is a copy of another."""
    write_classes(tmp_path, make)
    assert find_copies(tmp_path) == []


@pytest.mark.parametrize("make", [waves, phantoms])
@pytest.mark.parametrize("name", ["JPEG", "a poor JPEG", "half the size", "larger, and JPEG", "16 bits", "darker"])
def test_a_copy_is_named_among_images_of_one_pattern(
    make: Callable[[int, np.random.Generator], Pixels], name: str, tmp_path: Path
) -> None:
    """A copy has the noise of its original."""
    write_classes(tmp_path, make)
    original = np.asarray(Image.open(tmp_path / "train" / "a" / "0.png"))
    write(tmp_path / "test" / "a" / "copy.png", COPIES[name](original))
    assert find_copies(tmp_path) == ["test/a/copy.png"]
