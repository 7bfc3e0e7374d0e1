"""Sources of 2D images with classes, and what was imported of them."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from medloop.documents.import_report import ImportReport
from medloop.imaging.validation import check_dataset
from medloop.importing.cases import ImportOptions
from medloop.importing.run_import import import_data

OPTIONS = ImportOptions(key=b"k" * 32, attributes=("sex", "age_group", "scanner"))


def run(source: Path, target: Path, options: ImportOptions = OPTIONS) -> ImportReport:
    """Import a source."""
    return import_data(source, target, options)


def require_sound(target: Path, report: ImportReport) -> None:
    """`data check` has no problem."""
    checked = check_dataset(target, report.task, report.labels or None)
    assert [problem.line for problem in checked.problems] == []
    assert len(checked.cases) == len(report.cases)


def picture(path: Path, seed: int, *, colour: bool = False) -> np.ndarray[Any, Any]:
    """A picture of noise in the format of its suffix."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (9, 8, 3) if colour else (9, 8), dtype=np.uint8)
    image = Image.fromarray(pixels)
    image.save(path, lossless=True) if path.suffix == ".webp" else image.save(path)
    return pixels


def medmnist(*, colour: bool, number: int = 6) -> dict[str, np.ndarray[Any, Any]]:
    """Arrays as MedMNIST stores them."""
    rng = np.random.default_rng(3)
    arrays: dict[str, np.ndarray[Any, Any]] = {}
    for split in ("train", "val", "test"):
        arrays[f"{split}_images"] = rng.integers(0, 256, (number, 28, 28, 3) if colour else (number, 28, 28), np.uint8)
        arrays[f"{split}_labels"] = np.arange(number, dtype=np.uint8)[:, None] % 3
    return arrays


ROWS = [
    ("imgs/0.png", "cyst", "P\u00a01", "train", "F", "34"),
    ("imgs/1.png", "cyst", "P 1", "train", "F", "34"),
    ("imgs/2.png", "normal", "P2", "train", "M", "91"),
    ("imgs/3.png", "normal", "P3", "train", "M", "55"),
    ("imgs/4.gif", "cyst", "P4", "Testing", "n/a", "x"),
    ("imgs/5.png", "normal", "P5", "test", "F", "10"),
]
HEADING = ("path", "label", "patient", "split", "sex", "age")


def write_table(path: Path, rows: list[tuple[str, ...]], heading: tuple[str, ...] = HEADING, sign: str = ",") -> None:
    """A table as its suffix says."""
    if path.suffix == ".parquet":
        pq.write_table(pa.table(dict(zip(heading, map(list, zip(*rows, strict=True)), strict=True))), path)
        return
    text = io.StringIO()
    csv.writer(text, delimiter=sign).writerows([heading, *rows])
    path.write_text(text.getvalue(), encoding="utf-8")


def images(root: Path) -> Path:
    """The images of ROWS."""
    for seed, row in enumerate(ROWS):
        picture(root / row[0], seed)
    return root
