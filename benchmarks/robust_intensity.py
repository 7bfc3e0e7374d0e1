"""Z-score normalisation with statistics of all voxels, of clipped voxels, and of the volume's body: quality.

    python benchmarks/robust_intensity.py VOLUMES [--epochs 40] [--threads 1]

VOLUMES is a folder for `medloop data check` with one structure. Its subjects are three folds; each fold is scored
once with the model of the two others (three subjects of these choose the epoch). Every rule trains with the same seed
and number of steps, on the files as they are and on copies with extreme voxels in every second subject, in training
and test alike:

bright   5 voxels of 50 times the volume's maximum, and a ball of 33 voxels of 10 times the maximum
fill     an eighth of the volume is -2000, as outside a field of view
garbage  5 voxels of a million times the maximum

all      mean and standard deviation of all voxels (`zscore_percentiles=null`)
clipped  the same, after the voxels themselves were clipped to the 0.5 and 99.5 percentiles
body     `zscore_percentiles=[0.5, 99.5]`

Prints a table in Markdown: mean Dice over all subjects at the original resolution, and the mean of the paired
differences from `all` with its standard error.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import torch
from numpy.typing import NDArray

from medloop.container.training import TrainingJob
from medloop.documents.hyperparameters import SegmentationHyperparameters
from medloop.imaging.formats import read_volume
from medloop.imaging.segment_predictor import VolumePredictor
from medloop.imaging.split_job import SplitOutputs, SplitSettings, split_dataset
from medloop.training.segmentation import train_segmenter

Voxels = NDArray[np.float32]
FOLDS = 3
SETTINGS = SegmentationHyperparameters(
    model_name="unet", unet_channels=[16, 32, 64, 128], mode="resize", size=(32, 32, 32), learning_rate=2e-3,
    weight_decay=0.01, patience=0, val_interval=5,
)  # fmt: skip


def bright(voxels: Voxels) -> Voxels:
    """Hot voxels, and a ball as of metal."""
    generator = np.random.default_rng(0)
    largest = voxels.max()
    grid = np.indices(voxels.shape) - (np.array(voxels.shape) // 4).reshape(3, 1, 1, 1)
    voxels[(grid**2).sum(axis=0) <= 4] = 10 * largest
    voxels[tuple(generator.integers(0, voxels.shape, (5, 3)).T)] = 50 * largest
    return voxels


def garbage(voxels: Voxels) -> Voxels:
    """Voxels that no scanner measured."""
    indices = np.random.default_rng(0).integers(0, voxels.shape, (5, 3))
    voxels[tuple(indices.T)] = 1e6 * voxels.max()
    return voxels


def fill(voxels: Voxels) -> Voxels:
    """No measurement in an eighth of the volume."""
    voxels[: voxels.shape[0] // 8] = -2000
    return voxels


def clip(voxels: Voxels) -> Voxels:
    """Clip to the percentiles."""
    return np.clip(voxels, *np.percentile(voxels, (0.5, 99.5)))


SPOILERS: dict[str, Callable[[Voxels], Voxels]] = {
    "none": lambda voxels: voxels,
    "bright": bright,
    "fill": fill,
    "garbage": garbage,
}
RULES: dict[str, tuple[Callable[[Voxels], Voxels], list[float] | None]] = {
    "all": (lambda voxels: voxels, None),
    "clipped": (clip, None),
    "body": (lambda voxels: voxels, [0.5, 99.5]),
}


def main() -> None:
    """Run every rule on every kind of data, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--epochs", type=int, default=40)
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    print("| extreme voxels | statistics | mean Dice | difference | standard error | worst subject | CPU time |")
    print("|---|---|---|---|---|---|---|")
    for spoiler in SPOILERS:
        reference: list[float] = []
        for rule in RULES:
            start = time.process_time()
            scores = cross_validate(args.data, spoiler, rule, args.epochs)
            reference = reference or scores
            apart = np.subtract(scores, reference)
            error = apart.std(ddof=1) / np.sqrt(len(apart))
            numbers = (np.mean(scores), apart.mean(), error, min(scores))
            cells = " | ".join(f"{number:.3f}" for number in numbers)
            print(f"| {spoiler} | {rule} | {cells} | {time.process_time() - start:.0f} s |", flush=True)


def cross_validate(data: Path, spoiler: str, rule: str, epochs: int) -> list[float]:
    """Dice of each subject, by a model that hasn't seen it."""
    folders = sorted(path for path in data.iterdir() if path.is_dir())
    scores = {}
    for fold in range(FOLDS):
        with tempfile.TemporaryDirectory(prefix="medloop-intensity-") as scratch:
            root = Path(scratch)
            training = [k for k in range(len(folders)) if k % FOLDS != fold]
            for k, folder in enumerate(folders):
                split = "test" if k % FOLDS == fold else "val" if k in training[:: len(training) // 3][:3] else "train"
                write_subject(folder, root / "data" / split / f"s{k}", rule, spoiler if (k // FOLDS) % 2 else "none")
            predictor = train(root, rule, epochs)
            for folder in (root / "data" / "test").iterdir():
                scores[int(folder.name[1:])] = dice(predictor, folder)
    return [scores[k] for k in sorted(scores)]


def write_subject(source: Path, target: Path, rule: str, spoiler: str) -> None:
    """Copy a subject with extreme voxels."""
    target.mkdir(parents=True)
    for stem in ("img", "label"):
        volume = read_volume(source / f"{stem}.nii.gz")
        voxels = volume.voxels.astype(np.float32)
        if stem == "img":
            voxels = RULES[rule][0](SPOILERS[spoiler](voxels))
        nib.save(nib.Nifti1Image(voxels, volume.affine), target / f"{stem}.nii.gz")


def train(root: Path, rule: str, epochs: int) -> VolumePredictor:
    """Split and train as the jobs do."""
    outputs = SplitOutputs(*(root / name for name in ("train", "val", "test", "split")))
    split_dataset(root / "data", b"benchmarks", SplitSettings(task="segmentation"), outputs)
    changes: dict[str, Any] = {"epochs": epochs, "zscore_percentiles": RULES[rule][1]}
    settings = SETTINGS.model_copy(update=changes)
    wire = {name: json.dumps(value) for name, value in settings.model_dump(mode="json").items()}
    folders = [root / name for name in ("model", "output", "checkpoints")]
    for folder in folders:
        folder.mkdir()
    channels = {name: root / name for name in ("train", "val", "split")}
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        train_segmenter(TrainingJob(wire, channels, *folders), SegmentationHyperparameters.from_wire(wire))
    return VolumePredictor.load(root / "model", "cpu")


def dice(predictor: VolumePredictor, folder: Path) -> float:
    """Dice of the first structure at the original resolution."""
    truth = read_volume(folder / "label.nii.gz").voxels == 1
    predicted = predictor.segment(folder / "img.nii.gz").labels == 1
    return float(2 * (truth & predicted).sum() / (truth.sum() + predicted.sum()))


if __name__ == "__main__":
    main()
