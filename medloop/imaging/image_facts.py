"""Facts of decoded images, and the statistics of a set of them: channels, depth, range of values, size. Torch-free.

Range of 16-bit values. Files with 16 bits rarely use all of them: CT and X-ray come in 10, 12 or 14 bits. Outliers
(dead pixels, one image of another kind in a hundred) don't count: an end of the range is the extreme over all images if
it is no farther from the bulk of the values than the bulk is wide, else the end of the bulk. The bulk leaves out a
thousandth of each image's pixels and a fiftieth of the images (one of ten or more), at either end. It is widened to
whole bits (0..1023, 0..4095), so that a brighter image isn't clipped at once; values that are far from zero (an offset
of 32768) keep both ends, with half of the width more on either side.
"""

from __future__ import annotations

import math
import statistics
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from operator import attrgetter
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from medloop.documents.image_statistics import FULL_RANGE, ImageStatistics, range_text
from medloop.imaging.pictures import in_colour

if TYPE_CHECKING:
    from medloop.documents.model import ImagePreprocessing

OUTLYING_PIXELS = 0.001
"""Share of an image's pixels, at either end of its values."""
OUTLYING_IMAGES = 0.02
FEW_IMAGES = 10
"""Of fewer images none is an outlier."""
SAMPLED_PIXELS = 2**14
"""Pixels that an image's bulk is estimated from."""
DIFFERENT_DEPTHS = 3
"""Bits between the depths of two images that are no mere difference in brightness: eight times the values."""
RARE = 0.1
"""Share of the images below which a lower depth is a difference in brightness, or a kind of images is rare."""
FEW_GREY_VALUES = 32
"""Width of 8-bit values below which contrast is lost: augmentation and noise are shares of 0..255."""


@dataclass(frozen=True, slots=True)
class ImageFacts:
    """Facts of one image.

    Attributes:
        shape: Height and width, in pixels.
        bits: 8 or 16, as stored.
        colour: True if its channels differ anywhere.
        extremes: Lowest and highest value.
        bulk: The same without outlying pixels; `extremes` of an 8-bit image.
        gap: The widest interval of the bulk between whose ends no pixel is; empty in an image of 8 bits or two values.
        form: Name of the file's format.
    """

    shape: tuple[int, int]
    bits: int
    colour: bool
    extremes: tuple[int, int]
    bulk: tuple[int, int]
    gap: tuple[int, int] = (0, 0)
    form: str = ""

    def __reduce__(self) -> tuple[type[ImageFacts], tuple[object, ...]]:
        """Be pickled by attributes in order: a dataclass's own way takes four times as long, for each image checked."""
        return ImageFacts, _attributes(self)

    @property
    def edge(self) -> int:
        """The longer edge, in pixels."""
        return max(self.shape)

    @property
    def is_constant(self) -> bool:
        """True if the image has one value everywhere."""
        return not self.colour and self.extremes[0] == self.extremes[1]


_attributes = attrgetter(*(each.name for each in fields(ImageFacts)))
USUAL = 0.9
"""Share of a class's images of one kind, if the kind is rare in the other classes."""
MIN_GIVEN_AWAY = 5
"""Images of a class, and of the others together, from which a kind isn't chance."""
MAX_CLASSES = 5


def measure_image(pixels: NDArray[Any], form: str = "") -> ImageFacts:
    """Measure one image.

    Args:
        pixels: [H, W] or [H, W, 3], uint8 or uint16.
        form: Name of its file's format.
    """
    bits = 8 * pixels.dtype.itemsize
    extremes = (int(pixels.min()), int(pixels.max()))
    shape, colour = (pixels.shape[0], pixels.shape[1]), in_colour(pixels)
    if bits == 8:
        return ImageFacts(shape, bits, colour, extremes, extremes, form=form)
    bulk = _bulk(pixels)
    return ImageFacts(shape, bits, colour, extremes, (int(bulk[0]), int(bulk[-1])), _widest_gap(bulk), form)


def summarise(images: Iterable[ImageFacts], training: Iterable[ImageFacts] = ()) -> ImageStatistics:
    """The statistics of a set of images, at least one; the range is that of the training images if they have one."""
    facts = list(images)
    deep = [image for image in facts if image.bits > 8]
    reference = [image for image in training if image.bits > 8] or deep
    value_range = _value_range(reference) if reference else None
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
        _two_parts(facts),
        _few_grey_values(facts),
        _is_apart(groups, lambda image: image.colour, "colour", "grey") or _gives_away(groups, _colour),
        _is_apart(groups, lambda image: image.bits > 8, "16-bit", "8-bit") or _gives_away(groups, _depth),
        _gives_away(groups, lambda image: image.form),
        _gives_away(groups, lambda image: f"of {image.shape[1]} x {image.shape[0]} pixels"),
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
    deep = [image for image in facts if image.bits > 8 and not image.is_constant]
    if not deep:
        return ""
    depths = [image.bulk[1].bit_length() for image in deep]
    # Outliers that don't set the range cost the others no contrast.
    bound = min(max(depths), int(_value_range(deep)[1]).bit_length()) - DIFFERENT_DEPTHS
    num_low = sum(depth <= bound for depth in depths)
    if not RARE * len(depths) < num_low < len(depths):
        return ""
    return (
        f"has 16-bit images of several depths: {num_low} of {len(depths)} have values up to {2**bound - 1} only, "
        f"others up to {2 ** max(depths) - 1}, and all are scaled by one range; export all with one depth"
    )


def _two_parts(facts: Sequence[ImageFacts]) -> str:
    """Warn of values far apart: padding or text at the end of the range, negative values stored as unsigned."""
    deep = [image for image in facts if image.bits > 8]
    low, high = _value_range(deep) if deep else FULL_RANGE
    gaps = [image.gap for image in deep if image.gap[1] - image.gap[0] > (high - low) / 2]
    if len(gaps) <= RARE * len(deep):
        return ""
    return (
        f"has 16-bit images with values in two parts: {len(gaps)} of {len(deep)} have none between about "
        f"{gaps[0][0]} and {gaps[0][1]}, and all are scaled by {range_text((low, high))}, which costs contrast; if a "
        "part is padding, text or negative values stored as unsigned, export the images without it"
    )


def _few_grey_values(facts: Sequence[ImageFacts]) -> str:
    shallow = [image for image in facts if image.bits == 8 and not image.is_constant]
    if not shallow:
        return ""
    low, high = _bounds(shallow)
    if high - low >= FEW_GREY_VALUES:
        return ""
    return (
        f"has 8-bit images with values in {low}..{high} only, and 8-bit values are scaled by 0..255, which costs "
        "contrast; scale all images by one factor, so that their values reach 255"
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


def _colour(image: ImageFacts) -> str:
    return "in colour" if image.colour else "grey"


def _depth(image: ImageFacts) -> str:
    return f"with {image.bits} bits"


def _gives_away(groups: Mapping[str, Sequence[ImageFacts]], kind_of: Callable[[ImageFacts], str]) -> str:
    """Warn if a kind of images is usual in a class and rare in the others, which says the class without its content."""
    counts = {name: Counter(map(kind_of, images)) for name, images in groups.items() if images}
    total, num_images = sum(counts.values(), Counter[str]()), sum(map(len, groups.values()))
    texts = []
    for name, kinds in counts.items():
        kind, num = kinds.most_common(1)[0]
        num_in, num_out = kinds.total(), num_images - kinds.total()
        elsewhere = total[kind] - num
        if min(num_in, num_out) >= MIN_GIVEN_AWAY and num >= USUAL * num_in and elsewhere <= RARE * num_out:
            texts.append(f"{name} {kind} ({num} of {num_in}; of other classes {elsewhere} of {num_out})")
    if not texts:
        return ""
    more = f" and {len(texts) - MAX_CLASSES} more" if len(texts) > MAX_CLASSES else ""
    return (
        f"has classes that show in the kind of image: {', '.join(texts[:MAX_CLASSES])}{more}; a model can learn this "
        "difference instead of the classes'; export all images alike, from their sources if you can"
    )


def _bulk(pixels: NDArray[Any]) -> NDArray[Any]:
    """A sample of the values, sorted, without outlying ones."""
    values = pixels.reshape(-1)
    # An odd step doesn't stay in a few columns.
    values = values[:: values.size // SAMPLED_PIXELS | 1]
    values = np.sort(values, kind="stable")  # a radix sort: several times as fast as a partition
    num_outlying = min(math.ceil(OUTLYING_PIXELS * (values.size - 1)), (values.size - 1) // 2)
    return values[num_outlying : values.size - num_outlying]


def _widest_gap(values: NDArray[Any]) -> tuple[int, int]:
    """The widest interval without a value between its ends; empty if there are two values only.

    Args:
        values: [N], sorted, unsigned.
    """
    steps = values[1:] - values[:-1]
    if np.count_nonzero(steps) < 2:
        return 0, 0
    widest = int(steps.argmax())
    return int(values[widest]), int(values[widest + 1])


def _bounds(images: Sequence[ImageFacts]) -> tuple[int, int]:
    """The lowest and the highest value of the images' bulks, without outlying images."""
    num_outlying = max(int(OUTLYING_IMAGES * (len(images) - 1)), int(len(images) >= FEW_IMAGES))
    lows, highs = sorted(image.bulk[0] for image in images), sorted(image.bulk[1] for image in images)
    return lows[num_outlying], highs[-1 - num_outlying]


def _value_range(images: Sequence[ImageFacts]) -> tuple[float, float]:
    """The 16-bit values that become 0 and 1 (see the module's docstring)."""
    low, high = _bounds(images)
    width = high - low
    lowest, highest = min(image.extremes[0] for image in images), max(image.extremes[1] for image in images)
    low, high = lowest if lowest >= low - width else low, highest if highest <= high + width else high
    if low <= high / 2 or low == high:
        return 0.0, float(2 ** max(8, high.bit_length()) - 1)
    margin = (high - low) / 2
    return max(FULL_RANGE[0], low - margin), min(FULL_RANGE[1], high + margin)
