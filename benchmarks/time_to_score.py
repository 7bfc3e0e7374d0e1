"""Time to the same validation score, and the score after the same number of epochs: the workshop's loop and ours.

    medloop samples plane plane
    python benchmarks/time_to_score.py plane --network resnet18 --epochs 8 \
        --set image_size=48 --set batch_size=32 --set learning_rate=3e-4
    python benchmarks/time_to_score.py VOLUMES --network unet --epochs 40 --set val_interval=5 \
        --set 'size=[64,64,64]' --set 'unet_channels=[16,32,64,128,256]' --set learning_rate=2e-3

The data is a folder for `medloop data check`, split by the split job's code (three fifths train, one fifth
validates), or the outputs of a split with split/split.json. Without a folder it is synthetic.

Both sides have the same network, initial seed, batch, learning rate, number of epochs and resizing, and are scored
alike: macro AUROC, or the mean Dice at the original resolution. What differs is what the loops are: the workshop's
reads and resizes every file each epoch, flips and shifts volumes and leaves images as they are, computes in float32
with Adam at a constant rate and DiceLoss; ours keeps prepared data, augments more, and has AdamW with warm-up and
cosine and its own default loss. One structure only: the workshop's loss knows no more.

For each seed: the score after the last epoch, the best one, and the seconds to the score that every run reaches (or
--score), reading, preparation and validations included. Then means over seeds, and the difference with its standard
error.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml
from workshop import data, report
from workshop.scored import Point, run_ours, run_workshop, warm_imports
from workshop.sizes import CLASSIFIERS, SEGMENTERS, Sizes, pick, task_of

from medloop.documents.hyperparameters import (
    ClassificationHyperparameters,
    Hyperparameters,
    SegmentationHyperparameters,
)
from medloop.documents.split import SplitRecord
from medloop.imaging.device import pick_device
from medloop.imaging.split_job import SplitOutputs, SplitSettings, split_dataset

COLUMNS = ["seed", "loop", "last score", "best score", "epoch of the best", "seconds in all", "seconds to the score"]
SIDES = {"workshop": "workshop's loop", "ours": "ours"}
Runs = dict[str, list[list[Point]]]


def main(argv: Sequence[str] | None = None) -> None:
    """Train both sides with every seed, and print the tables."""
    args = _arguments(argv)
    sizes = pick(args.size)
    warm_imports()
    with tempfile.TemporaryDirectory(prefix="medloop-benchmark-") as scratch:
        folder = _split(args, sizes, Path(scratch))
        classes = SplitRecord.read(folder / "split").classes
        base = _settings(args, sizes)
        note = f"{args.data.name if args.data else 'Synthetic data'}, {args.network}, {base.epochs} epochs, {args.set}."
        print(report.header("time to the same score", [note]), flush=True)
        runs = _run(args, folder, base, classes, sizes)
    goal = args.score or min(max(p.score for p in points) for side in runs.values() for points in side)
    print(f"Score to reach: {goal:.3f}\n")
    report.print_table(COLUMNS, _rows(args.seeds, runs, goal))
    _summarise(runs, goal)


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, nargs="?", help="a data set; default: a synthetic one")
    parser.add_argument("--network", default="unet", choices=[*SEGMENTERS, *CLASSIFIERS])
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument(
        "--set", action="append", default=[], metavar="NAME=VALUE", help="a hyperparameter of both sides"
    )
    parser.add_argument(
        "--ours", action="append", default=[], metavar="NAME=VALUE", help="a hyperparameter of ours only"
    )
    parser.add_argument("--score", type=float, help="the score to reach; default: the score that every run reaches")
    parser.add_argument("--workers", type=int, help="DataLoader processes of the workshop's loop")
    parser.add_argument("--size", choices=["auto", "tiny", "small", "full"], default="auto")
    return parser.parse_args(argv)


def _split(args: argparse.Namespace, sizes: Sizes, scratch: Path) -> Path:
    task = task_of(args.network)
    if args.data is None:
        return data.make(scratch / "made", task, sizes, len(os.sched_getaffinity(0)) if sizes.name == "full" else 1)
    if (args.data / "split" / "split.json").exists():
        return Path(args.data)
    outputs = SplitOutputs(*(scratch / name for name in ("train", "val", "test", "split")))
    settings = SplitSettings.model_validate({"task": task, "train": 0.6, "val": 0.2, "test": 0.2})
    split_dataset(args.data, b"benchmarks", settings, outputs)
    return scratch


def _settings(args: argparse.Namespace, sizes: Sizes) -> Hyperparameters:
    common: dict[str, Any] = {"model_name": args.network, "epochs": args.epochs, "patience": 0}
    if task_of(args.network) == "classification":
        common |= {"image_size": sizes.image_size, "channels": 1}  # the workshop's loop chooses neither from the data
    else:
        common |= {"mode": "resize", "size": list(sizes.resized), **sizes.widths[args.network]}
    return _validated(common | _pairs(args.set))


def _validated(values: dict[str, Any]) -> Hyperparameters:
    classifies = task_of(values["model_name"]) == "classification"
    return (ClassificationHyperparameters if classifies else SegmentationHyperparameters).model_validate(values)


def _pairs(texts: Sequence[str]) -> dict[str, Any]:
    return {name: yaml.safe_load(value) for name, value in (text.split("=", 1) for text in texts)}


def _run(args: argparse.Namespace, folder: Path, base: Hyperparameters, classes: list[str], sizes: Sizes) -> Runs:
    workers = sizes.workshop[task_of(args.network)].workers if args.workers is None else args.workers
    runs: Runs = {side: [] for side in SIDES}
    for seed in args.seeds:
        settings = base.model_copy(update={"seed": seed})
        runs["workshop"].append(run_workshop(folder, settings, classes, workers, pick_device()))
        runs["ours"].append(run_ours(folder, _validated(settings.model_dump() | _pairs(args.ours))))
    return runs


def _rows(seeds: Sequence[int], runs: Runs, goal: float) -> Iterator[list[object]]:
    for number, seed in enumerate(seeds):
        for side, title in SIDES.items():
            points = runs[side][number]
            best = max(points, key=lambda point: point.score)
            yield [
                seed, title, points[-1].score, best.score, best.epoch, points[-1].seconds, time_to(points, goal)
            ]  # fmt: skip


def time_to(points: Sequence[Point], goal: float) -> float | None:
    """Seconds until a validation reached the score; None if none did."""
    return next((point.seconds for point in points if point.score >= goal), None)


def _summarise(runs: Runs, goal: float) -> None:
    """Means over seeds with their standard deviation; ours minus the workshop's with its standard error."""
    columns = ["", *SIDES.values(), "ours minus workshop's", "standard error"]
    measures: dict[str, Callable[[list[Point]], float]] = {
        "last score": lambda points: points[-1].score,
        "best score": lambda points: max(point.score for point in points),
    }
    rows: list[list[object]] = []
    for name, measure in measures.items():
        values = {side: [measure(points) for points in run] for side, run in runs.items()}
        means = {side: statistics.fmean(numbers) for side, numbers in values.items()}
        spreads = {side: statistics.stdev(numbers) if len(numbers) > 1 else 0.0 for side, numbers in values.items()}
        error = (sum(spread**2 for spread in spreads.values()) / len(values["ours"])) ** 0.5
        cells = [f"{means[side]:.3f} +- {spreads[side]:.3f}" for side in SIDES]
        rows.append([name, *cells, f"{means['ours'] - means['workshop']:+.3f}", f"{error:.3f}"])
    times = {side: [time_to(points, goal) for points in run] for side, run in runs.items()}
    reached = {side: [value for value in reached_at if value is not None] for side, reached_at in times.items()}
    if all(reached.values()):
        seconds = {side: statistics.fmean(numbers) for side, numbers in reached.items()}
        gain = seconds["workshop"] / seconds["ours"]
        rows.append(["seconds to the score", *(seconds[side] for side in SIDES), f"{gain:.3g} times faster", ""])
    report.print_table(columns, rows)


if __name__ == "__main__":
    main()
