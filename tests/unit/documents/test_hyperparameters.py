"""Hyperparameters on the wire: strings that hold JSON."""

from __future__ import annotations

import pytest

from medloop.documents.hyperparameters import ClassificationHyperparameters as Classification
from medloop.documents.hyperparameters import Hyperparameters
from medloop.documents.hyperparameters import SegmentationHyperparameters as Segmentation
from medloop.documents.networks import NETWORKS, network_names
from medloop.errors import SettingError


@pytest.mark.parametrize("settings", [Classification(epochs=3, flips=True), Segmentation(labels=["air", "organ"])])
def test_the_wire_gives_back_what_was_written(settings: Classification | Segmentation) -> None:
    """Steps write every value as JSON; the job reads the same values."""
    wire = settings.to_wire()
    assert all(isinstance(value, str) for value in wire.values())
    assert type(settings).from_wire(wire) == settings


def test_bare_text_stands_for_itself() -> None:
    """A pipeline parameter arrives without quotes."""
    settings = Classification.from_wire({"model_name": "resnet18", "learning_rate": "1e-3"})
    assert (settings.model_name, settings.learning_rate) == ("resnet18", 0.001)


def test_what_the_service_adds_is_ignored() -> None:
    """Tuning adds hyperparameters of its own; they are no reason to fail."""
    wire = {"_tuning_objective_metric": "val_auroc", "sagemaker_job_name": '"x"', "epochs": "2"}
    assert Classification.from_wire(wire).epochs == 2


@pytest.mark.parametrize(
    ("wire", "message"),
    [
        ({"learning_rte": "0.1"}, "hyperparameter learning_rte is unknown; known: .*learning_rate"),
        ({"epochs": '"many"'}, "hyperparameter epochs='many': .*integer"),
        ({"epochs": "0"}, "hyperparameter epochs=0: .*greater than or equal to 1"),
        ({"learning_rate": "NaN"}, "hyperparameter learning_rate=nan"),
        ({"model_name": "resnet19"}, "hyperparameter model_name='resnet19': .*resnet18"),
        ({"model_name": "vit", "image_size": "100"}, "image_size must be a multiple of 16 for vit"),
        ({"channels": "2"}, "hyperparameter channels=2"),
        ({"weight_decay": "Infinity"}, "hyperparameter weight_decay=inf"),
        ({"seed": str(2**64)}, "hyperparameter seed=18446744073709551616"),
        ({"dropout": "1.0"}, "hyperparameter dropout=1.0"),
        ({"image_size": "16"}, "image_size must be at least 32 for densenet121"),
        ({"image_size": "32", "batch_size": "1"}, "batch_size=1 needs image_size of at least 64 for densenet121"),
        (
            {"model_name": "resnet18", "image_size": "32", "batch_size": "1"},
            "batch_size=1 needs image_size of at least 33 for resnet18",
        ),
    ],
)
def test_a_wrong_hyperparameter_is_named(wire: dict[str, str], message: str) -> None:
    """One line: which hyperparameter, its value, and what it may be."""
    with pytest.raises(SettingError, match=message) as caught:
        Classification.from_wire(wire)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("wire", "message"),
    [
        ({"init_filters": "12"}, "hyperparameter init_filters=12: .*multiple of 8"),
        ({"feature_size": "13"}, "hyperparameter feature_size=13: .*multiple of 12"),
        ({"unet_channels": "[0, 8]"}, r"hyperparameter unet_channels\.0=0: "),
        ({"window": "[NaN, 1]"}, r"hyperparameter window\.0=nan: "),
    ],
)
def test_widths_that_no_network_takes_are_named(wire: dict[str, str], message: str) -> None:
    """Refused by the hyperparameter's name before anything is built, not as a fault of a model.json."""
    with pytest.raises(SettingError, match=message):
        Segmentation.from_wire(wire)


@pytest.mark.parametrize(
    ("network", "setting", "value", "takers"),
    [
        ("unet", "feature_size", 24, "swinunetr"),
        ("segresnet", "unet_channels", [8, 16], "unet"),
        ("swinunetr", "init_filters", 8, "segresnet"),
    ],
)
def test_a_setting_of_another_network_is_refused(network: str, setting: str, value: object, takers: str) -> None:
    """The message names the setting, the network that doesn't take it and those that do; in a complete set too."""
    message = f"{setting} is for {takers}, not for {network}: leave it out"
    complete = Segmentation(model_name=network).model_dump()
    for choice in ({"model_name": network, setting: value}, {setting: value, "model_name": network}, complete):
        with pytest.raises(ValueError, match=message):
            Segmentation.model_validate({**choice, setting: value})


def test_a_setting_of_another_network_is_refused_in_a_job_started_by_hand() -> None:
    """It gives the settings that it chooses; a pipeline's job gets all."""
    with pytest.raises(SettingError, match="init_filters is for segresnet, not for unet"):
        Segmentation.from_wire({"model_name": "unet", "init_filters": "8"})


def test_a_network_setting_that_is_declared_before_the_network_is_refused_too() -> None:
    """The rule doesn't depend on the order of the fields."""

    class Reordered(Hyperparameters):
        init_filters: int = 16
        model_name: str = "segresnet"

    assert Reordered(init_filters=8).init_filters == 8
    with pytest.raises(ValueError, match="init_filters is for segresnet, not for unet"):
        Reordered(model_name="unet", init_filters=8)


@pytest.mark.parametrize("network", network_names("segmentation"))
def test_defaults_of_other_networks_settings_are_no_error(network: str) -> None:
    """The wire holds every hyperparameter, those of other networks at their defaults."""
    wire = Segmentation(model_name=network, **NETWORKS[network].smoke).to_wire()
    assert Segmentation.from_wire(wire).model_name == network


@pytest.mark.parametrize("network", network_names("segmentation"))
@pytest.mark.parametrize("other", network_names("segmentation"))
def test_a_pipelines_job_takes_a_replaced_network(network: str, other: str) -> None:
    """A parameter or a trial replaces model_name alone; the settings of the configured network arrive with it."""
    wire = Segmentation(model_name=network, **NETWORKS[network].smoke).to_wire()
    assert Segmentation.from_wire(wire | {"model_name": other}).model_name == other


@pytest.mark.parametrize("network", network_names("classification"))
def test_settings_of_the_data_are_for_every_network(network: str) -> None:
    """image_size and channels prepare the images, also where the builder doesn't take them."""
    assert Classification(model_name=network, image_size=128, channels=3, dropout=0.1).model_name == network
