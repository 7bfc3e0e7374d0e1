"""Size and channels of images, chosen by the training images where the settings leave them to the data."""

from __future__ import annotations

import pytest

from medloop.documents.hyperparameters import ClassificationHyperparameters
from medloop.documents.image_statistics import ImageStatistics
from medloop.documents.model import ImagePreprocessing
from medloop.documents.networks import network_names
from medloop.training.image_settings import choose_settings, unfitted_rule


def images(edge: int = 300, num_colour: int = 0) -> ImageStatistics:
    """Statistics of 60 images."""
    return ImageStatistics(num_grey=60 - num_colour, num_colour=num_colour, num_8_bits=60, num_16_bits=0, edge=edge)


@pytest.mark.parametrize(
    ("edge", "size"), [(1, 64), (28, 64), (32, 64), (64, 64), (65, 96), (100, 128), (224, 224), (256, 256), (3000, 256)]
)
@pytest.mark.parametrize("network", network_names("classification"))
def test_small_images_are_not_blown_up(network: str, edge: int, size: int) -> None:
    """The size follows the images up to 256 pixels, in steps that every network takes, also with batch_size=1."""
    settings = ClassificationHyperparameters(model_name=network, batch_size=1)
    chosen = choose_settings(settings, images(edge), None)
    assert chosen.image_size == size
    assert ClassificationHyperparameters.model_validate(chosen.model_dump()) == chosen


@pytest.mark.parametrize(("num_colour", "channels"), [(0, 1), (1, 3), (60, 3)])
def test_channels_follow_the_data(num_colour: int, channels: int, capsys: pytest.CaptureFixture[str]) -> None:
    """One image in colour is enough for three channels; the log has the choice and its reason."""
    chosen = choose_settings(ClassificationHyperparameters(), images(64, num_colour), None)
    assert chosen.channels == channels
    log = capsys.readouterr().out
    assert log.startswith("training split: 60 images ")
    assert f"image_size=64, channels={channels}\n" in log
    assert "warning" not in log
    assert unfitted_rule(chosen, images()).channels == channels


def test_what_the_user_sets_is_kept(capsys: pytest.CaptureFixture[str]) -> None:
    """Colour that is read as grey by the user's setting is reported."""
    settings = ClassificationHyperparameters(image_size=512, channels=1)
    assert choose_settings(settings, images(28, 60), None) == settings
    assert (
        "warning: channels=1 reads 60 images in colour as grey; set channels=3 to keep colour"
        in capsys.readouterr().out
    )
    colour = ClassificationHyperparameters(image_size=32, channels=3)
    assert choose_settings(colour, images(), None) == colour


@pytest.mark.parametrize("channels", [1, 3])
def test_fine_tuning_follows_the_weights(channels: int) -> None:
    """Size and channels are those that the weights were trained with, as other ones can't be loaded or fit badly."""
    weights = ImagePreprocessing(image_size=128, channels=channels, mean=0, std=1)  # type: ignore[arg-type]
    chosen = choose_settings(ClassificationHyperparameters(model_name="vit"), images(28, 60 * (channels == 1)), weights)
    assert (chosen.image_size, chosen.channels) == (128, channels)


def test_auto_on_the_wire_and_what_older_pipelines_send() -> None:
    """Hyperparameters are strings of JSON: the word has quotes; numbers are read as before."""
    wire = ClassificationHyperparameters().to_wire()
    assert (wire["image_size"], wire["channels"]) == ('"auto"', '"auto"')
    assert ClassificationHyperparameters.from_wire(wire) == ClassificationHyperparameters()
    older = ClassificationHyperparameters.from_wire(wire | {"image_size": "256", "channels": "1"})
    assert (older.image_size, older.channels) == (256, 1)
    by_hand = ClassificationHyperparameters.from_wire({"image_size": "auto", "channels": "3"})
    assert (by_hand.image_size, by_hand.channels) == ("auto", 3)
