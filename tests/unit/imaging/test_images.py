"""2D images: one preprocessing, and augmentation in batches."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch

from medloop.documents.model import ImagePreprocessing
from medloop.errors import DataError
from medloop.imaging.draws import Draws
from medloop.imaging.images import ImageAugmentation, fit_moments, load_images, moments, prepare, standardise
from medloop.imaging.pictures import write_png

GREY = np.arange(256, dtype=np.uint8).reshape(16, 16)


def augment(
    images: torch.Tensor, seed: int = 0, flips: bool = False, samples: Sequence[int] | None = None
) -> torch.Tensor:
    """Augment a batch of the first samples, or of those."""
    return ImageAugmentation(flips)(images, Draws(seed, 1, range(len(images)) if samples is None else samples))


def test_the_types_own_range_becomes_0_to_1() -> None:
    """The same brightness in 8 and in 16 bits gives the same tensor."""
    eight, sixteen = prepare(GREY, 16, 1), prepare(GREY.astype(np.uint16) * 257, 16, 1)
    assert (eight.shape, eight.dtype) == ((1, 16, 16), torch.float16)
    assert float(eight.min()) == 0
    assert float(eight.max()) == 1
    assert torch.equal(eight, sixteen)


@pytest.mark.slow
def test_16_bits_are_scaled_by_the_datas_range() -> None:
    """The same picture in 8 bits, in 12 of 16 bits and with an offset gives the same tensor, also in colour."""
    fine = GREY.astype(np.uint16) * 16
    offset = (fine + 32_768).astype(np.uint16)
    for channels in (1, 3):
        eight = prepare(GREY, 16, channels)
        assert torch.equal(prepare(fine, 16, channels, (0, 255 * 16)), eight)
        assert torch.equal(prepare(offset, 16, channels, (32_768, 32_768 + 255 * 16)), eight)
    colour = np.dstack([fine, fine // 2, fine])
    eight_bits = np.dstack([GREY, GREY // 2, GREY]).astype(np.float64)
    eight_bits[..., 1] = colour[..., 1] / 16
    torch.testing.assert_close(prepare(colour, 16, 3, (0, 4080)), prepare(eight_bits / 255, 16, 3))


def test_the_range_of_16_bits_leaves_8_bits_alone() -> None:
    """A data set may contain both."""
    assert torch.equal(prepare(GREY, 16, 1, (0, 1023)), prepare(GREY, 16, 1))


def test_an_outlier_is_clipped_before_it_spreads() -> None:
    """A dead pixel of 65535 in an image of 12 bits is as bright as the range's end, and so are its neighbours."""
    image = np.full((32, 32), 1000, np.uint16)
    image[7, 7] = 65_535
    clipped = image.clip(0, 4095).astype(np.uint16)
    assert torch.equal(prepare(image, 16, 1, (0, 4095)), prepare(clipped, 16, 1, (0, 4095)))


def test_grey_and_colour_become_each_other() -> None:
    """Grey repeats into three channels; colour becomes its luma, which for equal channels is the grey itself."""
    colour = np.stack([GREY] * 3, axis=-1)
    assert torch.equal(prepare(GREY, 16, 3), prepare(colour, 16, 3))
    assert torch.allclose(prepare(colour, 16, 1).float(), prepare(GREY, 16, 1).float(), atol=1e-3)
    red = np.zeros((8, 8, 3), dtype=np.uint8)
    red[..., 0] = 255
    assert float(prepare(red, 8, 1).mean()) == pytest.approx(0.299, abs=1e-3)


def test_shrinking_averages() -> None:
    """Stripes finer than the new pixels become their mean, not other stripes: the resize is antialiased."""
    columns = (np.arange(256) // 3 % 2 * 255).astype(np.uint8)
    assert float((prepare(np.tile(columns, (256, 1)), 32, 1).float() - 0.5).abs().max()) < 0.2


def test_standardising_gives_mean_0_and_std_1(tmp_path: Path) -> None:
    """The rule comes from the training set's pixels."""
    rng = np.random.default_rng(0)
    paths = [tmp_path / f"{k}.png" for k in range(5)]
    for path in paths:
        write_png(path, rng.integers(50, 90, (20, 30), dtype=np.uint8))
    images = load_images(paths, 24, 1)
    values = standardise(images, fit(images, 24, 1))
    assert float(values.mean()) == pytest.approx(0, abs=1e-4)
    assert float(values.std()) == pytest.approx(1, abs=1e-3)


def fit(images: torch.Tensor, image_size: int, channels: int) -> ImagePreprocessing:
    """The rule of a training set."""
    rule = ImagePreprocessing(image_size=image_size, channels=channels, mean=0, std=1)  # type: ignore[arg-type]
    return fit_moments(rule, torch.stack([moments(image) for image in images]))


def test_a_constant_training_set_is_not_divided_by_zero() -> None:
    """Black images stay finite."""
    images = torch.zeros((2, 1, 8, 8), dtype=torch.float16)
    assert bool(standardise(images, fit(images, 8, 1)).isfinite().all())


def test_images_keep_their_order(tmp_path: Path) -> None:
    """Threads decode them, but row k is file k."""
    paths = [tmp_path / f"{k}.png" for k in range(20)]
    for k, path in enumerate(paths):
        write_png(path, np.full((4, 4), 10 * k, dtype=np.uint8))
    means = load_images(paths, 4, 1, num_workers=4).float().mean(dim=(1, 2, 3)) * 255
    assert means.tolist() == pytest.approx([10 * k for k in range(20)], abs=0.2)


def test_a_text_file_named_png_is_named(tmp_path: Path) -> None:
    """The message names the file, whichever thread met it."""
    path = tmp_path / "né w.png"
    path.write_text("hello")
    with pytest.raises(DataError, match=r"né w\.png"):
        load_images([path], 8, 1)


def test_augmentation_repeats_with_its_seed() -> None:
    """The same seed gives the same images, another seed others; each image of a batch is changed differently."""
    images = torch.rand(1, 1, 16, 16).repeat(4, 1, 1, 1)
    assert torch.equal(augment(images), augment(images))
    assert not torch.equal(augment(images), augment(images, seed=1))
    first, second = augment(images)[:2]
    assert not torch.equal(first, second)


def test_an_image_depends_on_nothing_but_itself() -> None:
    """The same result with any other images in the batch, to a reduction's rounding."""
    images = torch.rand(9, 3, 12, 12, generator=torch.Generator().manual_seed(0))
    together = augment(images, flips=True)
    for samples in ([3], [7, 3], [8, 0, 2]):
        alone = augment(images[samples], flips=True, samples=samples)
        torch.testing.assert_close(alone, together[samples], atol=1e-5, rtol=1e-5)


def test_float64_stays_and_half_becomes_float32() -> None:
    """The same images come out, to rounding; a network's input is float32 unless it computes in float64."""
    images = torch.rand(4, 1, 12, 12, generator=torch.Generator().manual_seed(0)).half()
    near, exact = augment(images), augment(images.double())
    assert (near.dtype, exact.dtype) == (torch.float32, torch.float64)
    torch.testing.assert_close(near.double(), exact, atol=1e-5, rtol=1e-4)
    rule = fit(images, 12, 1)
    assert (standardise(near, rule).dtype, standardise(exact, rule).dtype) == (torch.float32, torch.float64)


def test_without_flips_sides_stay() -> None:
    """A bright left half stays left in every draw; with flips it doesn't."""
    images = torch.zeros(64, 1, 32, 32)
    images[..., :16] = 1

    def left_is_brighter(batch: torch.Tensor) -> torch.Tensor:
        return batch[..., :16].mean(dim=(1, 2, 3)) > batch[..., 16:].mean(dim=(1, 2, 3))

    assert bool(left_is_brighter(augment(images)).all())
    assert 10 < int(left_is_brighter(augment(images, flips=True)).sum()) < 54


def test_augmentation_changes_little() -> None:
    """An augmented picture is nearer to its original than to another one: the class survives."""
    y, x = torch.meshgrid(torch.linspace(-1, 1, 32), torch.linspace(-1, 1, 32), indexing="ij")
    disc, bar = (x**2 + y**2 < 0.3).float(), (x.abs() < 0.2).float()
    batch = augment(disc.expand(50, 1, 32, 32))

    def similarity(to: torch.Tensor) -> torch.Tensor:
        pairs = [torch.corrcoef(torch.stack([image.flatten(), to.flatten()]))[0, 1] for image in batch]
        return torch.stack(pairs)

    assert bool((similarity(disc) > similarity(bar)).all())
