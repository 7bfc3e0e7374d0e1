"""Settings of images that the user leaves to the data: size and number of channels."""

from __future__ import annotations

from medloop.documents.hyperparameters import ClassificationHyperparameters
from medloop.documents.image_statistics import ImageStatistics
from medloop.documents.model import ImagePreprocessing


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
        size = pretrained.image_size if pretrained else settings.image_size_for(images.edge)
    if channels == "auto":
        channels = pretrained.channels if pretrained else 3 if images.num_colour else 1
    print(f"training split: {images.text}; image_size={size}, channels={channels}", flush=True)
    if channels == 1 and images.num_colour:
        fix = "give weights with channels=3" if pretrained else "set channels=3"
        print(
            f"warning: channels=1 reads {images.num_colour} images in colour as grey; {fix} to keep colour", flush=True
        )
    return settings.model_copy(update={"image_size": size, "channels": channels})


def unfitted_rule(settings: ClassificationHyperparameters, images: ImageStatistics) -> ImagePreprocessing:
    """The preprocessing of chosen settings; mean and standard deviation are fitted to prepared images."""
    size, channels = settings.image_size, settings.channels
    assert size != "auto" and channels != "auto"  # noqa: S101, PT018 - `choose_settings` has replaced both
    return ImagePreprocessing(image_size=size, channels=channels, mean=0.0, std=1.0, images=images)
