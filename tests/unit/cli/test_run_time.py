"""The estimated time of a run: a stated rule, on the split's counts and the network's measured time."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from medloop.commands.launch.run_time import about, estimate_seconds
from medloop.documents.hyperparameters import (
    AnyHyperparameters,
    ClassificationHyperparameters,
    SegmentationHyperparameters,
)
from medloop.documents.networks import NETWORKS
from medloop.imaging.validation import DatasetReport, check_dataset
from tests.unit.imaging.datasets import write_classes, write_subjects

SMALL_VOLUMES = SegmentationHyperparameters(
    model_name="unet", unet_channels=[16, 32, 64, 128, 256], epochs=80, patches_per_volume=2, val_interval=5,
    patch_size=(64, 64, 64), overlap=0.25,
)  # fmt: skip


def planned(root: Path, task: Any) -> DatasetReport:
    """A report whose cases are in train, except for one in val and one in test."""
    report = check_dataset(root, task)
    report.split_of = {case.path: "train" for case in report.cases}
    report.split_of |= dict(zip(list(report.split_of)[:2], ("val", "test"), strict=True))
    return report


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(3, "10 s"), (44, "40 s"), (89, "90 s"), (91, "2 min"), (1500, "25 min"), (5300, "88 min"), (90000, "25 h")],
)
def test_a_time_is_said_roughly(seconds: float, text: str) -> None:
    """No more digits than an estimate has."""
    assert about(seconds) == text


def test_every_network_was_measured() -> None:
    """A run with any shipped network has an estimate."""
    assert all(network.cpu_seconds > 0 for network in NETWORKS.values())


@pytest.mark.parametrize(
    ("task", "settings", "more"),
    [
        ("classification", ClassificationHyperparameters(epochs=400), {"epochs": 800}),
        ("classification", ClassificationHyperparameters(epochs=900, image_size=64), {"image_size": 256}),
        ("classification", ClassificationHyperparameters(epochs=900, model_name="resnet18"), {"model_name": "vit"}),
        ("segmentation", SegmentationHyperparameters(epochs=90000), {"patches_per_volume": 4}),
        ("segmentation", SegmentationHyperparameters(epochs=90000), {"model_name": "swinunetr"}),
        ("segmentation", SMALL_VOLUMES, {"unet_channels": [64, 128, 256, 512, 1024]}),
        ("segmentation", SegmentationHyperparameters(mode="resize", size=(32, 32, 32)), {"size": (96, 96, 96)}),
    ],
)
def test_more_work_takes_longer(tmp_path: Path, task: Any, settings: AnyHyperparameters, more: dict[str, Any]) -> None:
    """Epochs, sizes, networks and cores count; starting the steps takes its time anyway."""
    report = planned(write_classes(tmp_path) if task == "classification" else write_subjects(tmp_path, 5), task)
    one_core = estimate_seconds(report, settings, 1)
    other = estimate_seconds(report, settings.model_copy(update=more), 1)
    two_cores = estimate_seconds(report, settings, 2)
    assert one_core is not None
    assert other is not None
    assert two_cores is not None
    assert other > one_core > two_cores > 30
    assert one_core - 30 == pytest.approx(2 * (two_cores - 30))


def test_without_a_split_there_is_no_estimate(tmp_path: Path) -> None:
    """Data with problems aren't split, so nothing is known of the run."""
    report = check_dataset(write_classes(tmp_path), "classification")
    assert estimate_seconds(report, ClassificationHyperparameters(), 2) is None


def test_dry_run_estimates_with_its_own_settings(medloop: Any, tmp_path: Path) -> None:
    """The dry run's line names the network and the epochs of the run, a parameter's included; --json has seconds."""
    data = str(write_classes(tmp_path, 6))
    run = ("run", "classification", "--data", data, "--preset", "plane-demo", "--param", "Epochs=3", "--dry-run")
    assert medloop(*run) == 0
    assert "Time of the run: about 30 s" in medloop.out
    assert "(resnet18, 3 epochs)." in medloop.out
    assert "has no patients.csv" in medloop.err
    assert medloop(*run, "--json") == 0
    assert 30 < medloop.json["estimated_seconds"] < 60
    assert medloop("run", "classification", "--data", data, "--dry-run", "--no-check") == 0
    assert "Time of the run" not in medloop.out
