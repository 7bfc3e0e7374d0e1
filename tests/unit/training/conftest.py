"""Tiny data sets of the shape that the split job writes."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from medloop.container.training import TrainingJob
from medloop.documents.leakage import Leakage
from medloop.documents.split import Case, Patient, SplitCounts, SplitRecord
from medloop.imaging.pictures import write_png

MakeJob = Callable[..., TrainingJob]
STRIPES = ("across", "down")


def stripes(name: str, seed: int, edge: int = 32) -> np.ndarray:
    """[edge, edge] uint8: noisy stripes that run across, run down, or (any other name) a plain field."""
    rng = np.random.default_rng(seed)
    wave = 80 * np.sign(np.sin(np.arange(edge) * 2 * np.pi / 8 + rng.uniform(0, 6)))
    field = {"across": wave[:, None], "down": wave[None, :]}.get(name, np.zeros((1, 1)))
    return (128 + field + rng.normal(0, 10, (edge, edge))).clip(0, 255).astype(np.uint8)


def write_split(root: Path, classes: Sequence[str], num: dict[str, int], prefix: str = "p") -> None:
    """Write train/, val/ and split/split.json: one image a patient, `num` images of each class a split."""
    patients, counts = {}, {}
    for split in ("train", "val"):
        (root / split).mkdir(parents=True)
        for i, name in enumerate(classes):
            for k in range(num[split]):
                patient = f"{prefix}{split}{i}{k}"
                write_png(root / split / name / f"{patient}_0000.png", stripes(name, zlib.crc32(patient.encode())))
                case = Case(path=f"{name}/{patient}_0000.png", split=split, classes=[name])
                patients[patient] = Patient(stratum=name, cases=[case])
        total = num[split] * len(classes)
        counts[split] = SplitCounts(num_patients=total, num_cases=total, classes=dict.fromkeys(classes, num[split]))
    counts["test"] = SplitCounts(num_patients=0, num_cases=0, classes={})
    record = SplitRecord(
        task="classification", seed=0, classes=list(classes), presplit=False, identifiers="patients.csv",
        patients=patients, counts=counts, leakage=Leakage(status="none", num_patients=0, note=""),
        data_digest="d" * 64,
    )  # fmt: skip
    (root / "split").mkdir()
    (root / "split" / "split.json").write_text(record.model_dump_json())


def make_job_below(
    root: Path, classes: Sequence[str] = STRIPES, num: dict[str, int] | None = None, weights: Path | None = None
) -> TrainingJob:
    """Make a job over a new split; the folder's name is in the patients' names."""
    write_split(root, classes, num or {"train": 8, "val": 4}, prefix=root.name)
    channels = {channel: root / channel for channel in ("train", "val", "split")}
    if weights is not None:
        channels["weights"] = weights
    folders = [root / folder for folder in ("model", "output", "checkpoints")]
    for folder in folders:
        folder.mkdir()
    return TrainingJob({}, channels, *folders)


@pytest.fixture
def make_job(tmp_path: Path) -> MakeJob:
    """Make a job over a new split; its folders are below `tmp_path / name`."""

    def make(name: str = "job", *arguments: Any, **options: Any) -> TrainingJob:
        return make_job_below(tmp_path / name, *arguments, **options)

    return make
