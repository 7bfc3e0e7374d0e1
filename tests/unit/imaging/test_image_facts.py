"""Facts of images, and what follows from those of a data set: the range of 16-bit values, and warnings."""

from __future__ import annotations

import pickle
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from medloop.documents.image_statistics import ImageStatistics
from medloop.documents.model import ImagePreprocessing
from medloop.documents.split import SplitRecord
from medloop.imaging.image_facts import ImageFacts, find_differences, measure_image, summarise, unlike_training
from medloop.imaging.pictures import write_png
from medloop.imaging.split_job import SplitOutputs, SplitSettings, split_dataset
from medloop.imaging.validation import check_dataset
from tests.unit.imaging.datasets import write_image

Images = list[NDArray[np.uint16]]


def images(low: int, high: int, num: int = 30) -> Images:
    """Images with values from `low` to `high`."""
    rng = np.random.default_rng(low + high)
    return [rng.integers(low, high + 1, (32, 32)).astype(np.uint16) for _ in range(num)]


def statistics(pixels: Sequence[NDArray[np.generic]]) -> ImageStatistics:
    """Statistics of images."""
    return summarise(measure_image(image) for image in pixels)


def with_outlier(value: int, num_pixels: int = 1, num_images: int = 30) -> Images:
    """Images of 12 bits; some of them have pixels of another value."""
    changed = images(0, 4095)
    for image in changed[:num_images]:
        image.flat[:num_pixels] = value
    return changed


def test_pickled_facts_are_whole() -> None:
    """All attributes come through: processes that check images return them so."""
    facts = ImageFacts((2, 3), 16, True, (4, 5), (6, 7), (8, 9), "TIFF")
    assert pickle.loads(pickle.dumps(facts)) == facts  # noqa: S301
    usual = [each.default for each in fields(facts)]
    assert all(getattr(facts, each.name) != default for each, default in zip(fields(facts), usual, strict=True))


# Images, and the range that their values are scaled by.
RANGES = {
    "8 bits in 16": (images(0, 255), (0, 255)),
    "10 bits": (images(0, 1023), (0, 1023)),
    "12 bits": (images(3, 4095), (0, 4095)),
    "part of 12 bits": (images(1100, 2400), (0, 4095)),
    "14 bits": (images(0, 12_000), (0, 16_383)),
    "16 bits": (images(0, 65_535), (0, 65_535)),
    "an offset of 32768": (images(32_768 - 1024, 32_768 + 3071), (29_696.5, 37_886.5)),
    "an offset near the end": (images(60_000, 65_535), (57_232.5, 65_535)),
    "one value": ([np.full((8, 8), 5000, np.uint16)] * 4, (0, 8191)),
    "zero": ([np.zeros((8, 8), np.uint16)] * 4, (0, 255)),
    "a dead pixel in each": (with_outlier(65_535), (0, 4095)),
    "a dead pixel in one": (with_outlier(65_535, num_images=1), (0, 4095)),
    "two images of another exposure": (images(0, 1000, 28) + images(0, 1800, 2), (0, 2047)),
    "one of 12 at the end": (images(0, 4095, 11) + images(65_533, 65_535, 1), (0, 4095)),
    "one of 40 with 16 bits": (images(0, 4095, 39) + images(0, 65_535, 1), (0, 4095)),
    "one of 40 is black": (images(32_768, 36_863, 39) + images(0, 0, 1), (30_725, 38_909)),
    "two pixels": ([np.array([[5, 900]], np.uint16)], (0, 1023)),
    "two images": (images(0, 1000, 1) + images(0, 4000, 1), (0, 4095)),
    "a bright structure": (with_outlier(6000, num_pixels=20), (0, 8191)),
}


@pytest.mark.parametrize(("pixels", "expected"), RANGES.values(), ids=RANGES.keys())
def test_range_of_values(pixels: Images, expected: tuple[float, float]) -> None:
    """The data's own range in whole bits; offsets keep both ends; dead pixels don't count, structures do."""
    assert statistics(pixels).value_range == pytest.approx(expected, abs=2)


def test_one_image_of_another_kind_in_a_hundred_does_not_set_the_range() -> None:
    """Its values are clipped, and counted."""
    summary = statistics(images(0, 4095, 99) + images(0, 65_535, 1))
    assert summary.value_range == (0, 4095)
    assert summary.num_outside == 1
    assert "1 images have values outside, which are clipped" in summary.text


def test_8_bits_need_no_range() -> None:
    """8-bit values are scaled by 0..255, also if none is above 20; the text says what the images are."""
    grey = [np.full((40, 30), k, np.uint8) for k in range(20)]
    colour = [np.dstack([image, image, image + 1]) for image in grey]
    stored_as_colour = [np.dstack([image] * 3) for image in grey]
    assert statistics(grey).value_range is None
    assert statistics(grey).text == "20 images in grey; 8 bits; longer edge 40 pixels (median)"
    assert statistics(stored_as_colour).text == statistics(grey).text
    assert statistics(colour).text == "20 images in colour; 8 bits; longer edge 40 pixels (median)"
    mixed = [*colour, *images(0, 4095, 10)]
    assert statistics(mixed).text == (
        "30 images (20 in colour, 10 in grey); (20 8 bits, 10 16 bits); 16-bit values are scaled by 0..4095; "
        "longer edge 40 pixels (median)"
    )


DARK = np.arange(64, dtype=np.uint8).reshape(8, 8) // 4
GREY, COLOUR = np.zeros((8, 8), np.uint8), np.arange(192, dtype=np.uint8).reshape(8, 8, 3)


@pytest.mark.parametrize(
    ("groups", "messages"),
    [
        ({"a": [GREY], "b": [GREY]}, []),
        ({"a": [GREY, COLOUR], "b": [GREY, COLOUR]}, []),
        ({"a": images(0, 4095), "b": images(0, 2000)}, []),
        ({"a": images(0, 4095), "b": [*images(0, 2000), np.zeros((8, 8), np.uint16)]}, []),
        (
            {"a": [GREY], "b": [COLOUR], "c": [GREY]},
            ["has colour images in class b only, and grey images in the others"],
        ),
        ({"a": images(0, 1000), "b": images(0, 65_000)}, ["has 16-bit images of several depths: 30 of 60"]),
        ({"a": images(0, 4095, 18), "b": images(0, 65_535, 2)}, ["has 16-bit images of several depths: 18 of 20"]),
        ({"a": images(0, 4095, 39), "b": images(0, 65_535, 1)}, []),
        (
            {"a": with_outlier(65_535, num_pixels=30)},
            ["has 16-bit images with values in two parts: 30 of 30 have none between about 40"],
        ),
        (
            {"a": [image - np.uint16(1000) for image in images(0, 2000)]},
            ["has 16-bit images with values in two parts: 30 of 30 have none between about "],
        ),
        ({"a": [np.uint16(60_000) * (image > 2000) for image in images(0, 4095)]}, []),
        ({"a": with_outlier(65_535), "b": images(0, 4095)}, []),
        ({"a": [GREY, DARK], "b": [DARK]}, ["has 8-bit images with values in 0..15 only, and 8-bit values are scaled"]),
        ({"a": [GREY, DARK + np.uint8(100)], "b": [DARK]}, []),
        (
            {"a": images(0, 4000, 5), "b": [GREY]},
            ["has 1 images with 8 bits, scaled by 0..255, and 5 with 16", "has 16-bit images in class a only"],
        ),
        ({"a": [*images(0, 4000, 5), GREY], "b": images(0, 4000, 5)}, ["has 1 images with 8 bits"]),
    ],
)
def test_differences_between_images(groups: dict[str, list[NDArray[np.generic]]], messages: list[str]) -> None:
    """Several depths, and kinds of images that tell the classes apart, are reported; mere brightness isn't."""
    lines = find_differences({name: [measure_image(image) for image in pixels] for name, pixels in groups.items()})
    assert len(lines) == len(messages)
    assert all(line.startswith(message) for line, message in zip(lines, messages, strict=True))


def test_check_names_constant_images_and_keeps_them(tmp_path: Path) -> None:
    """An all-black image is a warning with its name, in 8 and in 16 bits, in grey and in colour; not a problem."""
    for k in range(4):
        write_image(tmp_path / "a" / f"{k}.png", k)
        write_image(tmp_path / "b" / f"{k}.png", 10 + k)
    black = {"a/black.png": (8, 8), "b/deep.png": (8, 9), "b/colour.png": (8, 8, 3)}
    for k, (name, shape) in enumerate(black.items()):
        write_png(tmp_path / name, np.full(shape, k, np.uint16 if "deep" in name else np.uint8))
    write_png(tmp_path / "a" / "red.png", np.full((8, 8, 3), (200, 0, 0), np.uint8))
    report = check_dataset(tmp_path, "classification")
    assert [problem.line for problem in report.problems] == []
    assert len(report.cases) == 12
    constant = [line.path for line in report.warnings if "has one value everywhere" in line.message]
    assert constant == sorted(black)
    assert report.images is not None
    assert (report.images.num_colour, report.images.num_16_bits) == (1, 1)


@pytest.mark.parametrize("layout", ["copy", "manifest"])
def test_a_split_records_its_training_images_alone(tmp_path: Path, layout: str) -> None:
    """Neither range nor channels nor size come from val or test: here these are brighter, larger and in colour."""
    rng = np.random.default_rng(0)
    for split, high, shape in (("train", 1000, (20, 20)), ("val", 9000, (80, 80)), ("test", 60_000, (80, 80, 3))):
        for k in range(8):
            path = tmp_path / "data" / split / "ab"[k % 2] / f"{k}.png"
            write_png(path, rng.integers(0, high, shape, dtype=np.uint16))
    outputs = SplitOutputs(*(tmp_path / layout / name for name in ("train", "val", "test", "split")))
    rule = SplitSettings(task="classification", layout=layout, data_uri="s3://bucket/raw")  # type: ignore[arg-type]
    record = split_dataset(tmp_path / "data", b"k" * 32, rule, outputs)
    assert record.images == ImageStatistics(
        num_grey=8, num_colour=0, num_8_bits=0, num_16_bits=8, edge=20, value_range=(0, 1023)
    )
    assert SplitRecord.read(outputs.split) == record


def trained_on(*pixels: NDArray[np.generic]) -> ImagePreprocessing:
    """The rule of a model that was trained on these images."""
    return ImagePreprocessing(image_size=16, channels=1, mean=0, std=1, images=statistics(pixels))


@pytest.mark.parametrize(
    ("rule", "image", "message"),
    [
        (trained_on(GREY), GREY, None),
        (trained_on(COLOUR), COLOUR, None),
        (trained_on(GREY, COLOUR), GREY, None),
        (trained_on(*images(0, 4095)), images(0, 4095)[0], None),
        (trained_on(*images(0, 4095)), images(0, 5000)[0], "values outside of the training range 0..4095; clipped"),
        (trained_on(GREY), images(0, 4095)[0], "has 16 bits, and the training images have 8; its values are scaled by"),
        (trained_on(*images(0, 4095)), GREY, "the image has 8 bits, and the training images have 16"),
        (trained_on(GREY), COLOUR, "the image is in colour, and the training images are grey"),
        (trained_on(COLOUR), GREY, "the image is grey, and the training images are in colour"),
        (ImagePreprocessing(image_size=16, channels=1, mean=0, std=1), images(0, 4095)[0], None),
    ],
)
def test_an_image_unlike_the_training_images(
    rule: ImagePreprocessing, image: NDArray[np.generic], message: str | None
) -> None:
    """Depth, range and colour that training didn't have are reported; models of earlier versions don't know them."""
    messages = unlike_training(measure_image(image), rule)
    assert len(messages) == (message is not None)
    assert all(message in line for line in messages if message)


def kinds(first: Images, second: Images, forms: tuple[str, str] = ("PNG", "PNG")) -> list[str]:
    """The differences of two classes, images of which are in these formats."""
    groups = dict(zip(("benign", "malignant"), (first, second), strict=True))
    return find_differences(
        {
            name: [measure_image(pixels, form) for pixels in group]
            for (name, group), form in zip(groups.items(), forms, strict=True)
        }
    )


def noise(num: int, shape: tuple[int, ...] = (16, 16), seed: int = 0) -> Images:
    """Images of noise."""
    return list(np.random.default_rng(seed).integers(0, 256, (num, *shape), dtype=np.uint8))


def test_kinds_of_images_that_give_the_class_away() -> None:
    """Format, size, colour and depth that are usual in a class and rare in the others, with the counts."""
    [line] = kinds(noise(8), noise(8), ("PNG", "JPEG"))
    assert line == (
        "has classes that show in the kind of image: benign PNG (8 of 8; of other classes 0 of 8), malignant JPEG (8 "
        "of 8; of other classes 0 of 8); a model can learn this difference instead of the classes'; export all images "
        "alike, from their sources if you can"
    )
    [line] = kinds(noise(10), noise(9, (32, 16)) + noise(1))
    assert (
        "benign of 16 x 16 pixels (10 of 10; of other classes 1 of 10), malignant of 16 x 32 pixels (9 of 10; of"
        in line
    )
    sizes = [pixels for edge in range(20, 32) for pixels in noise(1, (edge, edge))]
    [line] = kinds(noise(10), sizes)
    assert "benign of 16 x 16 pixels (10 of 10; of other classes 0 of 12)" in line
    assert "malignant" not in line
    [line] = kinds(noise(19) + noise(1, (16, 16, 3)), noise(20, (16, 16, 3)))
    assert "benign grey (19 of 20; of other classes 0 of 20), malignant in colour (20 of 20; of other classes 1" in line


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (noise(8), noise(8)),
        (noise(8) + noise(4, (32, 32)), noise(8) + noise(4, (32, 32))),
        (noise(3), noise(3, (32, 32))),  # too few
        (noise(20) + noise(5, (32, 32)), noise(12) + noise(8, (32, 32))),
        ([pixels for edge in range(20, 32) for pixels in noise(1, (edge, edge))],) * 2,
    ],
)
def test_kinds_of_images_in_all_classes_are_no_matter(first: Images, second: Images) -> None:
    """Sites and cameras mix in any class; three images are chance."""
    assert kinds(first, second) == []
