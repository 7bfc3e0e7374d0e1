"""Synthetic data sets of the measured sizes, generated from a seed, in the layout of Split's outputs.

Volumes contain a few ellipsoids in a body and noise, in CT-like values; images a texture per class. A network can
learn them, but the score has no meaning.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from medloop.container.training import TrainingJob
from medloop.documents.leakage import Leakage
from medloop.documents.split import Case, Patient, Split, SplitCounts, SplitRecord
from workshop.models import NUM_CLASSES
from workshop.sizes import Shape, Sizes, Task

LABELS = ["background", "structure"]
CLASSES = [f"class-{number}" for number in range(NUM_CLASSES)]
VAL_VOLUMES = 2
VAL_IMAGES = 2 * NUM_CLASSES
NUM_STRUCTURES = 3


def make(folder: Path, task: Task, sizes: Sizes, processes: int = 1) -> Path:
    """Write a data set if it doesn't exist: `train`, `val`, and `split/split.json`.

    Args:
        folder: A folder for this data set alone.
        task: Volumes or images.
        sizes: How many, how large.
        processes: That write files at once.
    """
    done = folder / "done.json"
    description = json.dumps({"task": task, "sizes": repr(sizes)})
    if done.exists() and done.read_text(encoding="utf-8") == description:
        return folder
    for name in ("train", "val", "split"):  # of other sizes
        shutil.rmtree(folder / name, ignore_errors=True)
    names = _volume_names(sizes) if task == "segmentation" else _image_names(sizes)
    write: Callable[[Path, str], None] = (
        partial(_write_volume, shape=sizes.stored) if task == "segmentation" else partial(_write_image, sizes=sizes)
    )
    files = [(folder / split / name, f"{split}/{name}") for split, members in names.items() for name in members]
    for path in {path.parent for path, _ in files}:
        path.mkdir(parents=True, exist_ok=True)
    if processes == 1:
        for path, name in files:
            write(path, name)
    else:
        with ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as pool:
            list(pool.map(write, *zip(*files, strict=True)))
    write_split(folder / "split", task, LABELS if task == "segmentation" else CLASSES, names)
    done.write_text(description, encoding="utf-8")
    return folder


def job(data: Path, scratch: Path) -> TrainingJob:
    """Make a training job on a split's folders that writes below `scratch`."""
    folders = [scratch / name for name in ("model", "output", "checkpoints")]
    for path in folders:
        path.mkdir(parents=True, exist_ok=True)
    return TrainingJob({}, {name: data / name for name in ("train", "val", "split")}, *folders)


def write_split(folder: Path, task: Task, classes: list[str], names: dict[Split, list[str]]) -> None:
    """Write split.json with one patient per case.

    Args:
        folder: Of split.json.
        task: Its task.
        classes: By index.
        names: The cases of each split, as split.json has their paths.
    """
    patients = {
        f"{split}-{number}": Patient(
            stratum="",
            cases=[Case(path=name, split=split, classes=classes if task == "segmentation" else [name.split("/")[0]])],
        )
        for split, members in names.items()
        for number, name in enumerate(members)
    }
    counts = {
        split: SplitCounts(num_patients=len(members), num_cases=len(members), classes={})
        for split, members in names.items()
    }
    record = SplitRecord(
        task=task, seed=0, classes=classes, presplit=True, identifiers="none", patients=patients, counts=counts,
        leakage=Leakage(status="unknown", num_patients=None, note="made for a benchmark"), data_digest="0" * 64,
    )  # fmt: skip
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "split.json").write_text(record.model_dump_json(), encoding="utf-8")


def _volume_names(sizes: Sizes) -> dict[Split, list[str]]:
    return {
        "train": [f"case-{number:03d}" for number in range(sizes.volumes)],
        "val": [f"case-{number:03d}" for number in range(sizes.volumes, sizes.volumes + VAL_VOLUMES)],
    }


def _image_names(sizes: Sizes) -> dict[Split, list[str]]:
    total = {"train": sizes.images, "val": VAL_IMAGES}
    return {
        split: [f"{CLASSES[number % NUM_CLASSES]}/{split}-{number:04d}.png" for number in range(total[split])]
        for split in ("train", "val")
    }


def _write_volume(folder: Path, name: str, shape: Shape) -> None:
    import nibabel as nib

    folder.mkdir(exist_ok=True)
    image, label = volume(name, shape)
    affine = np.diag([1.0, 1.0, 2.0, 1.0])
    nib.save(nib.Nifti1Image(image, affine), folder / "img.nii.gz")
    nib.save(nib.Nifti1Image(label, affine), folder / "label.nii.gz")


def volume(name: str, shape: Shape) -> tuple[NDArray[np.int16], NDArray[np.uint8]]:
    """Generate image and label of a case: structures of 180 in a body of 40 and air of -1000, with noise."""
    rng = np.random.default_rng(list(name.encode()))
    axes = [np.linspace(-1, 1, edge, dtype=np.float32) for edge in shape]
    image = np.where(_ellipsoid(axes, np.zeros(3), np.array([0.9, 0.8, 1.2])), 40, -1000).astype(np.float32)
    label = np.zeros(shape, np.uint8)
    for _ in range(NUM_STRUCTURES):
        label |= _ellipsoid(axes, rng.uniform(-0.4, 0.4, 3), rng.uniform(0.12, 0.35, 3)).astype(np.uint8)
    image += 140 * label
    image += rng.standard_normal(shape, np.float32) * 60
    return image.astype(np.int16), label


def _ellipsoid(
    axes: list[NDArray[np.float32]], centre: NDArray[np.float64], radii: NDArray[np.float64]
) -> NDArray[np.bool_]:
    x, y, z = (((axis - c) / r) ** 2 for axis, c, r in zip(axes, centre, radii, strict=True))
    inside: NDArray[np.bool_] = x[:, None, None] + y[None, :, None] + z[None, None, :] < 1
    return inside


def _write_image(path: Path, name: str, sizes: Sizes) -> None:
    Image.fromarray(image(name, sizes.image_stored)).save(path)


def image(name: str, edge: int) -> NDArray[np.uint8]:
    """Generate a grating with the class as its direction, at a random phase and width, with noise."""
    number = CLASSES.index(name.split("/")[1])
    rng = np.random.default_rng(list(name.encode()))
    angle, width = np.pi * number / NUM_CLASSES, rng.uniform(6, 10)
    x, y = np.meshgrid(*[np.linspace(0, 1, edge, dtype=np.float32)] * 2)
    wave = np.sin(2 * np.pi * (width * (x * np.cos(angle) + y * np.sin(angle)) + rng.uniform()))
    noisy = 128 + 40 * wave + 40 * rng.standard_normal((edge, edge), np.float32)
    pixels: NDArray[np.uint8] = noisy.clip(0, 255).astype(np.uint8)
    return pixels
