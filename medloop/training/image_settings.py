"""Settings of images that the user leaves to the data: size and number of channels."""

from __future__ import annotations

import math

from medloop.documents.hyperparameters import ClassificationHyperparameters
from medloop.documents.image_statistics import ImageStatistics
from medloop.documents.model import ImagePreprocessing
from medloop.documents.networks import NETWORKS

MIN_SIZE, MAX_SIZE, SIZE_STEP = 64, 256, 32
"""Image sizes that are chosen; a smaller one leaves networks that halve an image five times a single pixel."""


def choose_settings(
    settings: ClassificationHyperparameters, images: ImageStatistics, pretrained: ImagePreprocessing | None
) -> ClassificationHyperparameters:
    """Replace `auto` of image_size and channels, and print what was chosen.

    Args:
        settings: The job's.
        images: Statistics of the training images.
        pretrained: The preprocessing of the model whose weights training starts from: they suit its choices.
    """
    size, channels = settings.image_size, settings.channels
    if size == "auto":
        size = pretrained.image_size if pretrained else _image_size(settings, images.edge)
    if channels == "auto":
        channels = pretrained.channels if pretrained else 3 if images.num_colour else 1
    print(f"training split: {images.text}; image_size={size}, channels={channels}", flush=True)
    if channels == 1 and images.num_colour:
        note = f"warning: channels=1 reads {images.num_colour} images in colour as grey; set channels=3 to keep colour"
        print(note, flush=True)
    return settings.model_copy(update={"image_size": size, "channels": channels})


def unfitted_rule(settings: ClassificationHyperparameters, images: ImageStatistics) -> ImagePreprocessing:
    """The preprocessing of chosen settings; mean and standard deviation are fitted to prepared images."""
    size, channels = settings.image_size, settings.channels
    assert size != "auto" and channels != "auto"  # noqa: S101, PT018 - `choose_settings` has replaced both
    return ImagePreprocessing(image_size=size, channels=channels, mean=0.0, std=1.0, images=images)


def _image_size(settings: ClassificationHyperparameters, edge: int) -> int:
    """The smallest size that the network takes and that loses no detail of half of the images."""
    network = NETWORKS[settings.model_name]
    step = math.lcm(SIZE_STEP, network.shape_multiple(settings.model_dump()))
    size = step * math.ceil(min(max(edge, MIN_SIZE), MAX_SIZE) / step)
    return max(size, step * math.ceil(max(network.min_edge, network.min_edge_single) / step))
