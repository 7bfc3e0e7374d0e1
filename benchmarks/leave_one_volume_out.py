"""Leave-one-out scores of the demo's classifier: each of plane's volumes is left out in turn.

    medloop samples plane plane
    python benchmarks/leave_one_volume_out.py plane

The next volume in the table is the validation split, which chooses the epoch; the others train. The settings are those
of the preset plane-demo. Prints a table in Markdown: macro AUROC and accuracy on the volume left out.
"""

from __future__ import annotations

import argparse
import csv
import tempfile
import time
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml

from medloop.documents.hyperparameters import ClassificationHyperparameters
from medloop.documents.model import ImagePreprocessing
from medloop.imaging.classify_dataset import LabelledImages, fit_rule
from medloop.imaging.images import load_images
from medloop.imaging.networks import build, describe
from medloop.training.classification_task import ClassificationTask
from medloop.training.compute import seed_everything
from medloop.training.trainer import Trainer

PRESET = Path(__file__).parent.parent / "pipelines" / "presets" / "plane-demo.yaml"
CPU = torch.device("cpu")


def main() -> None:
    """Train once for each volume left out, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="folder created by `medloop samples plane`")
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="another hyperparameter")
    args = parser.parse_args()
    settings = read_settings(args.set)
    volumes = read_volumes(args.data, settings)
    names = sorted(volumes)
    classes = sorted({path.name for path in args.data.glob("train/*") if path.is_dir()})
    print("| left out | images | macro AUROC | accuracy | epoch | seconds |\n|---|---|---|---|---|---|")
    scores = []
    for index, left_out in enumerate(names):
        val = names[(index + 1) % len(names)]
        train = [name for name in names if name not in (left_out, val)]
        row = run(volumes, train, val, left_out, classes, settings)
        scores.append((row["auroc"], row["accuracy"]))
        print(
            f"| {left_out} | {len(volumes[left_out])} | {row['auroc']:.3f} | {row['accuracy']:.3f} "
            f"| {row['epoch']:.0f} | {row['seconds']:.0f} |",
            flush=True,
        )
    auroc, accuracy = np.mean(scores, axis=0)
    print(f"| mean | | {auroc:.3f} | {accuracy:.3f} | | |")


def read_settings(overrides: list[str]) -> ClassificationHyperparameters:
    """Read the preset's hyperparameters, and override some."""
    preset: dict[str, Any] = yaml.safe_load(PRESET.read_text(encoding="utf-8"))
    values = {"channels": 1} | dict(preset["settings"]["train"]["hyperparameters"])
    values |= {name: yaml.safe_load(text) for name, _, text in (item.partition("=") for item in overrides)}
    return ClassificationHyperparameters.model_validate(values)


def read_volumes(folder: Path, settings: ClassificationHyperparameters) -> dict[str, LabelledImages]:
    """Read the slices of every volume, by the volume's name in patients.csv."""
    with (folder / "patients.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    classes = sorted({Path(row["path"]).parts[-2] for row in rows})
    volumes = {}
    for name in sorted({row["patient"] for row in rows}):
        paths = [folder / row["path"] for row in rows if row["patient"] == name]
        images = load_images(paths, settings.image_size, settings.channels)
        volumes[name] = LabelledImages(images, torch.tensor([classes.index(path.parts[-2]) for path in paths]))
    return volumes


def run(
    volumes: dict[str, LabelledImages],
    train: list[str],
    val: str,
    test: str,
    classes: list[str],
    settings: ClassificationHyperparameters,
) -> dict[str, float]:
    """Train on some volumes, choose the epoch on another, score a third."""
    seed_everything(settings.seed)
    model = build(describe(settings, len(classes)))
    together = LabelledImages(
        [shard for name in train for shard in volumes[name].shards],
        torch.cat([volumes[name].labels for name in train]),
    )
    rule = fit_rule(together, ImagePreprocessing(image_size=settings.image_size, channels=1, mean=0, std=1))
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as scratch, redirect_stdout(StringIO()):
        task = ClassificationTask(together, volumes[val], classes, rule, settings, CPU)
        result = Trainer(model, task, settings, device=CPU, checkpoint_dir=Path(scratch)).fit()
    seconds = time.monotonic() - started
    with torch.inference_mode():
        scores = ClassificationTask(together, volumes[test], classes, rule, settings, CPU).validate(model)
    final = {"auroc": scores["val_auroc"], "accuracy": scores["val_accuracy"]}
    return final | {"val_auroc": result.best.value, "epoch": result.best.epoch, "seconds": seconds}


if __name__ == "__main__":
    main()
