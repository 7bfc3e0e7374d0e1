"""Statistics of a data set's images: what training chooses by if a setting leaves it to the data. Torch-free.

Split writes those of the training split into split.json; training copies them into model.json.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from medloop.documents.reading import Record

Count = Annotated[int, Field(ge=0)]
GreyValue = Annotated[float, Field(ge=0, le=65535, allow_inf_nan=False)]
FULL_RANGE = (0.0, 65535.0)
"""The range of 16-bit values in models of earlier versions."""


class ImageStatistics(Record):
    """Channels, depth, values and size of a set of images."""

    num_grey: Count
    """Images with one channel, or with three that agree everywhere."""
    num_colour: Count
    num_8_bits: Count
    num_16_bits: Count
    edge: Count
    """Median of the images' longer edges, in pixels."""
    value_range: tuple[GreyValue, GreyValue] | None = None
    """The 16-bit values that become 0 and 1; None without 16-bit images. 8-bit values are always scaled by 0..255."""
    num_outside: Count = 0
    """Images with values outside of `value_range`: outliers, which are clipped."""

    @property
    def num_images(self) -> int:
        """Number of the images."""
        return self.num_grey + self.num_colour

    @property
    def text(self) -> str:
        """All of it in one line, such as `60 images in colour; 8 bits; longer edge 64 pixels (median)`."""
        channels = {"in colour": self.num_colour, "in grey": self.num_grey}
        depths = {"8 bits": self.num_8_bits, "16 bits": self.num_16_bits}
        parts = [f"{self.num_images} images {_mixture(channels)}", _mixture(depths)]
        if self.value_range:
            clipped = f" ({self.num_outside} images have values outside, which are clipped)" if self.num_outside else ""
            parts.append(f"16-bit values are scaled by {range_text(self.value_range)}{clipped}")
        return "; ".join([*parts, f"longer edge {self.edge} pixels (median)"])


def range_text(value_range: tuple[float, float]) -> str:
    """A range as text: `0..4095`."""
    return f"{value_range[0]:g}..{value_range[1]:g}"


def _mixture(counts: dict[str, int]) -> str:
    """The only kind that occurs, or `(40 of one kind, 20 of another)`."""
    present = {name: count for name, count in counts.items() if count}
    if len(present) == 1:
        return next(iter(present))
    return f"({', '.join(f'{count} {name}' for name, count in present.items())})"
