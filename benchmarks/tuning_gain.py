"""Gain of a tuning of 8 trials over the default settings at an equal training budget.

    medloop samples plane plane
    python benchmarks/tuning_gain.py plane

Three tunings (Bayesian, one job at a time, seeds 1 to 3) of 8 trials each, with the local backend's search, over
learning rate, weight decay, batch size and label smoothing. Against each: the default settings trained 8 times from
other seeds, for as many epochs, the best of the 8 kept by the same rule (macro AUROC on val). Both sides have the
same budget, and both choose on val; the score on the unseen test volumes is reported too. Splits are by
volume. Prints a table in Markdown.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import torch
from leave_one_volume_out import read_volumes, run

from medloop.documents.hyperparameters import ClassificationHyperparameters
from medloop.imaging.classify_dataset import LabelledImages
from medloop.local.tuning.search import Search

TRIALS = 8
SEEDS = (1, 2, 3)
RANGES = {
    "ContinuousParameterRanges": [
        {"Name": "learning_rate", "MinValue": "1e-5", "MaxValue": "1e-2", "ScalingType": "Logarithmic"},
        {"Name": "weight_decay", "MinValue": "1e-5", "MaxValue": "0.3", "ScalingType": "Logarithmic"},
        {"Name": "label_smoothing", "MinValue": "0", "MaxValue": "0.2", "ScalingType": "Linear"},
    ],
    "CategoricalParameterRanges": [{"Name": "batch_size", "Values": ["8", "16", "32"]}],
}


def main() -> None:
    """Run all trainings and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="folder created by `medloop samples plane`")
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--size", type=int, default=32, help="edge of the images, in pixels")
    parser.add_argument("--every", type=int, default=3, help="take every N-th image of the training volumes")
    args = parser.parse_args()
    base = ClassificationHyperparameters(
        model_name="resnet18", image_size=args.size, channels=1, epochs=args.epochs, patience=0
    )
    volumes, classes = read_parts(args.data, base, args.every), class_names(args.data)
    print("| tuning seed | val, tuned | val, default | test, tuned | test, default | best settings |")
    print("|---|---|---|---|---|---|")
    for seed in SEEDS:
        repeated = [train(volumes, classes, base, {}, 100 * seed + trial) for trial in range(TRIALS)]
        tuned, settings = tune(volumes, classes, base, seed)
        default = max(repeated, key=lambda scores: scores["val_auroc"])
        print(
            f"| {seed} | {tuned['val_auroc']:.3f} | {default['val_auroc']:.3f} "
            f"| {tuned['auroc']:.3f} | {default['auroc']:.3f} | {settings} |",
            flush=True,
        )


def tune(
    volumes: dict[str, LabelledImages], classes: list[str], base: ClassificationHyperparameters, seed: int
) -> tuple[dict[str, float], str]:
    """The scores and the settings of the best of 8 trials."""
    config: dict[str, Any] = {
        "Strategy": "Bayesian",
        "HyperParameterTuningJobObjective": {"Type": "Maximize", "MetricName": "val_auroc"},
        "ResourceLimits": {"MaxNumberOfTrainingJobs": TRIALS, "MaxParallelTrainingJobs": 1},
        "ParameterRanges": RANGES,
        "RandomSeed": seed,
    }
    search = Search(config, {}, [])
    trials: list[tuple[dict[str, float], str]] = []
    for _ in range(TRIALS):
        (trial,) = search.draw(1)
        scores = train(volumes, classes, base, trial.hyperparameters, 100 * seed)
        search.end_round([trial], [scores["val_auroc"]])
        hyperparameters = {name: f"{float(text):.3g}" for name, text in trial.hyperparameters.items()}
        trials.append((scores, ", ".join(f"{name} {text}" for name, text in hyperparameters.items())))
    return max(trials, key=lambda item: item[0]["val_auroc"])


def train(
    volumes: dict[str, LabelledImages],
    classes: list[str],
    base: ClassificationHyperparameters,
    changes: dict[str, str],
    seed: int,
) -> dict[str, float]:
    """Train once; returns the macro AUROC on test (`auroc`) and that on val of the epoch kept (`val_auroc`)."""
    wire = {**base.to_wire(), **changes, "seed": str(seed)}
    return run(volumes, ["train"], "val", "test", classes, ClassificationHyperparameters.from_wire(wire))


def read_parts(folder: Path, settings: ClassificationHyperparameters, every: int) -> dict[str, LabelledImages]:
    """Assign volumes to train, val and test, one in four each to the last two."""
    volumes = read_volumes(folder, settings)
    names = sorted(volumes)
    parts = {"val": names[1::4], "test": names[3::4], "train": names[0::4] + names[2::4]}
    joined = {}
    for part, members in parts.items():
        images = torch.cat([shard for name in members for shard in volumes[name].shards])
        labels = torch.cat([volumes[name].labels for name in members])
        step = every if part == "train" else 1
        joined[part] = LabelledImages(images[::step], labels[::step])
    return joined


def class_names(folder: Path) -> list[str]:
    """The classes, sorted."""
    return sorted(path.name for path in folder.glob("train/*") if path.is_dir())


if __name__ == "__main__":
    main()
