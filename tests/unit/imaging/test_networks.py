"""Networks: the workshop's sizes, their heads, and how a wrong model.json is refused."""

from __future__ import annotations

import pytest
import torch

from medloop.documents.hyperparameters import (
    AnyHyperparameters,
    ClassificationHyperparameters,
    SegmentationHyperparameters,
)
from medloop.documents.model import Network
from medloop.documents.networks import NETWORKS, network_names
from medloop.errors import DataError
from medloop.imaging.networks import build, describe, shape_multiple

CLASSIFIERS, SEGMENTERS = network_names("classification"), network_names("segmentation")


def settings_of(name: str, **more: object) -> AnyHyperparameters:
    """Default hyperparameters of the task that the network belongs to."""
    model = ClassificationHyperparameters if name in CLASSIFIERS else SegmentationHyperparameters
    of_the_data = {"image_size": 256, "channels": 1} if name in CLASSIFIERS else {}
    return model.model_validate({"model_name": name, **of_the_data, **more})


def num_weights(network: torch.nn.Module) -> int:
    """Values in all of a network's weights."""
    return sum(weight.numel() for weight in network.parameters())


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "num_classes", "millions"),
    [
        ("densenet121", 8, 6.96),
        ("vit", 8, 85.4),
        ("resnet18", 8, 11.17),
        ("resnet50", 8, 23.5),
        ("segresnet", 1, 4.70),
        ("unet", 1, 31.6),
    ],
)
def test_sizes_are_the_workshops(name: str, num_classes: int, millions: float) -> None:
    """Counted on the meta device: nothing is allocated."""
    with torch.device("meta"):
        network = build(describe(settings_of(name), num_classes))
    assert num_weights(network) / 1e6 == pytest.approx(millions, rel=2e-3)


@pytest.mark.slow
def test_swinunetr_has_the_size_that_the_workshop_advertises() -> None:
    """Its constructor reads values, which the meta device doesn't have: it is built for real."""
    assert num_weights(build(describe(settings_of("swinunetr"), 2))) / 1e6 == pytest.approx(62.2, rel=2e-3)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "edge"), [*((name, 64) for name in CLASSIFIERS), ("segresnet", 16), ("swinunetr", 64)]
)
def test_every_trained_weight_takes_part(name: str, edge: int) -> None:
    """DDP waits for each one's gradient, and a checkpoint holds each one's optimiser state."""
    sizes = {"vit": {"image_size": edge}, "swinunetr": {"feature_size": 12}}
    network = build(describe(settings_of(name, **sizes.get(name, {})), 2))
    images = torch.randn(2, 1, edge, edge) if name in CLASSIFIERS else torch.randn(1, 1, edge, edge, edge)
    network(images).sum().backward()
    assert not [key for key, weight in network.named_parameters() if weight.requires_grad and weight.grad is None]


@pytest.mark.slow
@pytest.mark.parametrize("name", [*CLASSIFIERS, "segresnet", "unet"])
def test_only_the_head_depends_on_the_classes(name: str) -> None:
    """Fine-tuning replaces what begins with the row's `head`, and nothing else has another shape."""
    with torch.device("meta"):
        two, five = (build(describe(settings_of(name), n)).state_dict() for n in (2, 5))
    assert two.keys() == five.keys()
    differing = {key for key in two if two[key].shape != five[key].shape}
    assert differing
    assert differing == {key for key in two if key.startswith(NETWORKS[name].head) and two[key].ndim}


@pytest.mark.slow
@pytest.mark.parametrize("name", ["densenet121", "vit", "resnet18", "resnet50"])
@pytest.mark.parametrize("channels", [1, 3])
def test_classifiers_return_logits(name: str, channels: int) -> None:
    """[N, channels, S, S] to [N, classes], grey or colour."""
    with torch.device("meta"):
        network = build(describe(settings_of(name, channels=channels, image_size=64), 4))
        assert network(torch.rand(2, channels, 64, 64)).shape == (2, 4)


@pytest.mark.slow
@pytest.mark.parametrize("name", SEGMENTERS)
def test_segmenters_keep_shapes_of_the_multiple(name: str) -> None:
    """[1, 1, x, y, z] to [1, classes, x, y, z] for the smallest edges but one; small widths keep it quick."""
    network = describe(settings_of(name, **NETWORKS[name].smoke), 3)
    edges = (2 * shape_multiple(network),) * 3
    with torch.inference_mode():
        assert build(network).eval()(torch.rand(1, 1, *edges)).shape == (1, 3, *edges)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("network", "message"),
    [
        (Network(name="lenet", arguments={}), "network lenet is unknown; known: densenet121"),
        (Network(name="resnet18", arguments={"classes": 2}), "network resnet18 can't be built: .*channels"),
        (Network(name="resnet18", arguments={"channels": 1, "classes": -2, "dropout": 0}), "can't be built"),
    ],
)
def test_a_network_that_can_not_be_built_is_refused(network: Network, message: str) -> None:
    """model.json from a stranger: the network and the reason are named."""
    with pytest.raises(DataError, match=rf"model\.json: {message}" if "unknown" in message else message):
        build(network)
