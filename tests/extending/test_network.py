"""docs/extending.md, "A network": a builder, a row and, where it has one of its own, a setting."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.extending.checkout import Checkout
from tests.programs import Programs
from tests.unit.imaging.datasets import write_classes

BUILDER = '''"""A network of two convolutions."""

from __future__ import annotations

from torch import nn


def tinynet(channels: int, classes: int, width: int) -> nn.Module:
    """Two convolutions, the mean over the image, and a linear layer."""
    return nn.Sequential(
        nn.Conv2d(channels, width, 3, stride=2), nn.ReLU(), nn.Conv2d(width, width, 3, stride=2), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, classes),
    )
'''
ROW = """    NetworkSpec(
        name="tinynet",
        task="classification",
        module="medloop.imaging.tinynet",
        arguments=("channels", "classes", "width"),
        head="6.",
        traits=Traits(("Conv2d",)),
        multiple=8,
    ),
"""
SETTING = '''    width: int = Field(default=16, ge=1)
    """tinynet's width."""
'''
SPLITS = ("train", "val", "test", "split")


def split(checkout: Checkout, folder: Path) -> Path:
    """Split 24 images of two classes; the folder with the channels."""
    write_classes(folder / "data", 12)
    outputs = [word for name in SPLITS for word in (f"--output-{name}", str(folder / "split" / name))]
    main = "containers/split/main.py"
    done = checkout.python(main, "--task", "classification", "--input-data", str(folder / "data"), *outputs)
    assert done == 0, checkout.err
    return folder / "split"


@pytest.mark.slow
def test_a_network_is_a_builder_a_row_and_a_setting(programs: Programs, checkout: Checkout, tmp_path: Path) -> None:
    """The training container trains it; what it doesn't take, and its setting with another network, are refused."""
    checkout.add("medloop/imaging/tinynet.py", BUILDER)
    checkout.replace("medloop/documents/networks.py", "_ROWS = (\n", f"_ROWS = (\n{ROW}")
    checkout.insert("medloop/documents/hyperparameters.py", SETTING, before="    label_smoothing:")
    assert len(checkout.touched) == 3

    channels = split(checkout, tmp_path)
    main, train = "containers/classify/main.py", ["train"]
    for name in ("train", "val", "split"):
        train += [f"--channel-{name}", str(channels / name)]
    for name in ("model", "output", "checkpoint"):
        train += [f"--{name}-dir", str(tmp_path / name)]
    train += ["--image_size", "16", "--epochs", "1", "--batch_size", "4"]
    done = programs.run(main, *train, "--model_name", "tinynet", "--width", "4", code=checkout.root)
    assert done.returncode == 0, done.stdout
    network = json.loads((tmp_path / "model" / "model.json").read_text())["network"]
    assert network == {"name": "tinynet", "arguments": {"channels": 1, "classes": 2, "width": 4}}

    assert checkout.python(main, *train, "--model_name", "tinynet", "--dropout", "0.1") == 2
    assert "dropout is for densenet121 and vit and resnet18 and resnet50, not for tinynet" in checkout.err
    assert checkout.python(main, *train, "--model_name", "resnet18", "--width", "4") == 2
    assert "width is for tinynet, not for resnet18" in checkout.err


@pytest.mark.slow
def test_the_pipeline_takes_its_name_and_its_rules(checkout: Checkout) -> None:
    """Settings refuse a shape that it doesn't take, and the definition holds it."""
    checkout.replace("medloop/documents/networks.py", "_ROWS = (\n", f"_ROWS = (\n{ROW}")
    chosen = ("--set", "train.hyperparameters.model_name=tinynet")
    size = "train.hyperparameters.image_size=100"
    assert checkout.medloop("pipelines", "definition", "classification", *chosen, "--set", size) == 2
    assert "image_size must be a multiple of 8 for tinynet" in checkout.err
    assert checkout.medloop("pipelines", "definition", "classification", *chosen) == 0, checkout.err
    parameters = {item["Name"]: item for item in json.loads(checkout.out)["Parameters"]}
    assert parameters["ModelName"]["DefaultValue"] == "tinynet"
