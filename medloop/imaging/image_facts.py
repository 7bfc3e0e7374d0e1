"""Facts of decoded images, and the statistics of a set of them: channels, depth, range of values, size. Torch-free.

Range of 16-bit values. Files with 16 bits rarely use all of them: CT and X-ray come in 10, 12 or 14 bits. Outliers
(dead pixels, one image of another kind in a hundred) don't count: an end of the range is the extreme over all images if
it is no farther from the bulk of the values than the bulk is wide, else the end of the bulk. The bulk leaves out a
thousandth of each image's pixels and at most a fiftieth of the images, at either end. The range is then widened to
whole bits (0..1023, 0..4095), so that a brighter image isn't clipped at once; values that are far from zero (an offset
of 32768) keep both ends, with half of the width more on either side.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medloop.documents.image_statistics import FULL_RANGE, ImageStatistics, range_text
from medloop.documents.model import ImagePreprocessing
from medloop.imaging.pictures import in_colour

OUTLYING_PIXELS = 0.001
"""Share of an image's pixels, at either end of its values."""
OUTLYING_IMAGES = 0.02
SAMPLED_PIXELS = 2**14
"""Pixels that an image's bulk is estimated from."""
DIFFERENT_DEPTHS = 3
"""Bits between the depths of two images that are no mere difference in brightness: eight times the values."""
RARE = 0.1
"""Share of the images below which another depth is a difference in brightness."""


@dataclass(frozen=True)
class ImageFacts:
    """Facts of one image.

    Attributes:
        edge: The longer edge, in pixels.
        bits: 8 or 16, as stored.
        colour: True if its channels differ anywhere.
        extremes: Lowest and highest value.
        bulk: The same without outlying pixels; `extremes` of an 8-bit image.
    """

    edge: int
    bits: int
    colour: bool
    extremes: tuple[int, int]
    bulk: tuple[int, int]

    @property
    def is_constant(self) -> bool:
        """True if the image has one value everywhere."""
        return not self.colour and self.extremes[0] == self.extremes[1]


def measure_image(pixels: NDArray[Any]) -> ImageFacts:
    """Measure one image.

    Args:
        pixels: [H, W] or [H, W, 3], uint8 or uint16.
    """
    bits = 8 * pixels.dtype.itemsize
    extremes = (int(pixels.min()), int(pixels.max()))
    return ImageFacts(max(pixels.shape[:2]), bits, in_colour(pixels), extremes, _bulk(pixels) if bits > 8 else extremes)


def summarise(images: Iterable[ImageFacts]) -> ImageStatistics:
    """The statistics of a set of images, at least one."""
    facts = list(images)
    deep = [image for image in facts if image.bits > 8]
    value_range = _value_range(deep) if deep else None
    num_colour = sum(image.colour for image in facts)
    return ImageStatistics(
        num_grey=len(facts) - num_colour,
        num_colour=num_colour,
        num_8_bits=len(facts) - len(deep),
        num_16_bits=len(deep),
        edge=int(statistics.median(image.edge for image in facts)),
        value_range=value_range,
        num_outside=sum(is_outside(image.extremes, value_range) for image in deep) if value_range else 0,
    )


def is_outside(extremes: tuple[int, int], value_range: tuple[float, float]) -> bool:
    """True if some of an image's values are outside of the range."""
    return extremes[0] < value_range[0] or extremes[1] > value_range[1]


def unlike_training(image: ImageFacts, rule: ImagePreprocessing) -> list[str]:
    """Describe how an image differs from those that a model was trained on, as a prediction's reader should know."""
    if rule.images is None:
        return []
    messages = []
    if image.bits > 8 and not rule.images.num_16_bits:
        scaled = f"its values are scaled by {range_text(rule.value_range)}"
        messages.append(f"the image has 16 bits, and the training images have 8; {scaled}; send 8 bits as in training")
    elif image.bits > 8 and is_outside(image.extremes, rule.value_range):
        messages.append(f"the image has values outside of the training range {range_text(rule.value_range)}; clipped")
    if image.bits == 8 and not rule.images.num_8_bits:
        messages.append("the image has 8 bits, and the training images have 16; send 16 bits as in training")
    if image.colour and not rule.images.num_colour:
        messages.append("the image is in colour, and the training images are grey")
    elif not image.colour and not rule.images.num_grey:
        messages.append("the image is grey, and the training images are in colour")
    return messages


def find_differences(groups: Mapping[str, Sequence[ImageFacts]]) -> list[str]:
    """Describe differences between images that cost contrast, or that a model may take for its classes'.

    Args:
        groups: Images by class.

    Returns:
        Messages about the complete set; classes are the only names.
    """
    facts = [image for images in groups.values() for image in images]
    messages = (
        _several_bits(facts),
        _several_depths(facts),
        _is_apart(groups, lambda image: image.colour, "colour", "grey"),
        _is_apart(groups, lambda image: image.bits > 8, "16-bit", "8-bit"),
    )
    return [message for message in messages if message]


def _several_bits(facts: Sequence[ImageFacts]) -> str:
    deep = [image for image in facts if image.bits > 8]
    if not deep or len(deep) == len(facts):
        return ""
    return (
        f"has {len(facts) - len(deep)} images with 8 bits, scaled by 0..255, and {len(deep)} with 16 bits, scaled by "
        f"{range_text(_value_range(deep))}; export all with one depth if their grey values are to be comparable"
    )


def _several_depths(facts: Sequence[ImageFacts]) -> str:
    depths = [image.bulk[1].bit_length() for image in facts if image.bits > 8 and not image.is_constant]
    bound = max(depths, default=0) - DIFFERENT_DEPTHS
    num_low = sum(depth <= bound for depth in depths)
    if not RARE < num_low / max(1, len(depths)) < 1 - RARE:
        return ""
    return (
        f"has 16-bit images of several depths: {num_low} of {len(depths)} have values up to {2**bound - 1} only, "
        f"others up to {2 ** max(depths) - 1}, and all are scaled by one range; export all with one depth"
    )


def _is_apart(
    groups: Mapping[str, Sequence[ImageFacts]], is_first: Callable[[ImageFacts], bool], first: str, second: str
) -> str:
    """Warn if there are two kinds of images, and each class has one kind only."""
    kinds = {name: {is_first(image) for image in images} for name, images in groups.items() if images}
    if any(len(kind) > 1 for kind in kinds.values()) or len({kind.pop() for kind in map(set, kinds.values())}) < 2:
        return ""
    with_first = ", ".join(name for name, kind in kinds.items() if True in kind)
    return (
        f"has {first} images in class {with_first} only, and {second} images in the others: a model can learn this "
        f"difference instead of the classes'; export all images alike"
    )


def _bulk(pixels: NDArray[Any]) -> tuple[int, int]:
    values = pixels.reshape(-1)
    # An odd step doesn't stay in a few columns.
    values = values[:: values.size // SAMPLED_PIXELS | 1]
    values = np.sort(values, kind="stable")  # a radix sort: several times as fast as a partition
    num_outlying = math.ceil(OUTLYING_PIXELS * (values.size - 1))
    return int(values[num_outlying]), int(values[-1 - num_outlying])


def _value_range(images: Sequence[ImageFacts]) -> tuple[float, float]:
    """The 16-bit values that become 0 and 1 (see the module's docstring)."""
    low = int(np.quantile([image.bulk[0] for image in images], OUTLYING_IMAGES, method="lower"))
    high = int(np.quantile([image.bulk[1] for image in images], 1 - OUTLYING_IMAGES, method="higher"))
    width = high - low
    lowest, highest = min(image.extremes[0] for image in images), max(image.extremes[1] for image in images)
    low, high = lowest if lowest >= low - width else low, highest if highest <= high + width else high
    if low <= high / 2 or low == high:
        return 0.0, float(2 ** max(8, high.bit_length()) - 1)
    margin = (high - low) / 2
    return max(FULL_RANGE[0], low - margin), min(FULL_RANGE[1], high + margin)
