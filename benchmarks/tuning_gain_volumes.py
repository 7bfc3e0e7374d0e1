"""Gain of a tuning of 8 trials over the default settings at an equal training budget: segmentation.

    medloop samples brain-tissue brain
    medloop run segmentation --data brain --preset brain-tissue-demo
    python benchmarks/tuning_gain_volumes.py .medloop/s3/medloop-local/executions/segmentation/ID/Split

The network is small and the epochs few, so that it runs on a CPU; the default side uses the pipeline's defaults for
all other hyperparameters, such as the learning rate (1e-4, the workshop's). Three tunings (Bayesian, one job at a time,
seeds 1 to 3) of 8 trials each search learning rate, weight decay and dropout. Against each: the default settings
trained 8 times from other seeds, the best of the 8 kept by the same rule (mean foreground Dice on val). Both sides
have the same budget and choose on val; the chosen models are scored on the test subjects as in the evaluation job.
Prints a table in Markdown.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medloop.container.training import TrainingJob
from medloop.documents.hyperparameters import SegmentationHyperparameters
from medloop.evaluation.evaluate import EvaluateArguments, assess
from medloop.local.tuning.search import Search
from medloop.training.segmentation import train_segmenter

TRIALS, SEEDS = 8, (1, 2, 3)
SMALL = SegmentationHyperparameters(
    model_name="unet", unet_channels=[8, 16, 32], patch_size=(48, 48, 48), patches_per_volume=2, epochs=3,
    overlap=0.0, patience=0, val_interval=3, augment=False,
)  # fmt: skip
RANGES = {
    "ContinuousParameterRanges": [
        {"Name": "learning_rate", "MinValue": "1e-5", "MaxValue": "1e-2", "ScalingType": "Logarithmic"},
        {"Name": "weight_decay", "MinValue": "1e-5", "MaxValue": "0.1", "ScalingType": "Logarithmic"},
        {"Name": "dropout", "MinValue": "0", "MaxValue": "0.4", "ScalingType": "Linear"},
    ]
}


@dataclass(frozen=True)
class Trained:
    """A trained model: its folder, its Dice on val, its settings as text."""

    folder: Path
    val: float
    settings: str


def main() -> None:
    """Run all trainings and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("split", type=Path, help="outputs of a Split step: train, val, test, split")
    split = parser.parse_args().split
    print("| tuning seed | val, tuned | val, default | test, tuned | test, default | best settings |")
    print("|---|---|---|---|---|---|")
    for seed in SEEDS:
        with tempfile.TemporaryDirectory(prefix="medloop-gain-") as scratch:
            default = best([train(split, Path(scratch), {}, 100 * seed + trial) for trial in range(TRIALS)])
            tuned = best(tune(split, Path(scratch), seed))
            scores = [test_score(split, side) for side in (tuned, default)]
        row = (seed, *(f"{value:.3f}" for value in (tuned.val, default.val, *scores)), tuned.settings)
        print("|", " | ".join(str(cell) for cell in row), "|", flush=True)


def best(models: list[Trained]) -> Trained:
    """The model with the highest Dice on val."""
    return max(models, key=lambda model: model.val)


def tune(split: Path, scratch: Path, seed: int) -> list[Trained]:
    """The models of 8 trials."""
    config: dict[str, Any] = {
        "Strategy": "Bayesian",
        "HyperParameterTuningJobObjective": {"Type": "Maximize", "MetricName": "val_dice"},
        "ResourceLimits": {"MaxNumberOfTrainingJobs": TRIALS, "MaxParallelTrainingJobs": 1},
        "ParameterRanges": RANGES,
        "RandomSeed": seed,
    }
    search, models = Search(config, {}, []), []
    for _ in range(TRIALS):
        (trial,) = search.draw(1)
        models.append(train(split, scratch, trial.hyperparameters, 100 * seed))
        search.end_round([trial], [models[-1].val])
    return models


def train(split: Path, scratch: Path, changes: dict[str, str], seed: int) -> Trained:
    """Train once, as the training job does."""
    folder = Path(tempfile.mkdtemp(dir=scratch))
    wire = {**SMALL.to_wire(), **changes, "seed": str(seed)}
    channels = {name: split / name for name in ("train", "val", "split")}
    folders = [folder / name for name in ("model", "output", "checkpoints")]
    for target in folders:
        target.mkdir()
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        result = train_segmenter(TrainingJob(wire, channels, *folders), SegmentationHyperparameters.from_wire(wire))
    text = ", ".join(f"{name} {float(text):.3g}" for name, text in changes.items())
    return Trained(folder / "model", result.best.value, text)


def test_score(split: Path, model: Trained) -> float:
    """Mean foreground Dice on the test subjects, at the original resolution."""
    arguments = EvaluateArguments(task="segmentation")
    assessment = assess(model.folder, split / "test", split / "split", arguments)
    return assessment.evaluation.score.value


if __name__ == "__main__":
    main()
