"""Imported layouts pass the split step, and what it gives training has the source's voxels and labels."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from PIL import Image

from medloop.documents.split import SPLITS
from medloop.imaging.split_job import SplitOutputs, SplitSettings, split_dataset
from medloop.importing.cases import ImportOptions
from medloop.importing.run_import import import_data
from tests.unit.importing.image_sources import medmnist, picture, write_table
from tests.unit.importing.volume_sources import bids, decathlon, made, nnunet

KEY = b"k" * 32
OPTIONS = ImportOptions(key=KEY)


def _nnunet(root: Path) -> ImportOptions:
    nnunet(root, {"background": 0, "liver": 1, "tumour": 2})
    return replace(OPTIONS, channel="0")


def _decathlon(root: Path) -> ImportOptions:
    decathlon(root, 4)
    return replace(OPTIONS, channel="0")


def _bids(root: Path) -> ImportOptions:
    bids(root)
    return replace(OPTIONS, labels=("background", "white", "grey"))


@pytest.mark.parametrize("build", [_nnunet, _decathlon, _bids])
def test_volumes(tmp_path: Path, build: Callable[[Path], ImportOptions]) -> None:
    """Labels in the splits are those of the source, by the report's names."""
    options = build(tmp_path / "src")
    report = import_data(tmp_path / "src", tmp_path / "out", options)
    outputs = SplitOutputs(*(tmp_path / "split" / name for name in (*SPLITS, "record")))
    record = split_dataset(tmp_path / "out", KEY, SplitSettings(task="segmentation", labels=report.labels), outputs)
    labels = [
        np.asanyarray(nib.load(path).dataobj)  # type: ignore[attr-defined]
        for path in sorted((tmp_path / "split").rglob("label.nii.gz"))
    ]
    assert len(labels) == len(report.cases)
    assert len(record.patients) == 3
    if build is not _bids:
        assert {label.tobytes() for label in labels} == {
            made(n)[1].astype(label.dtype).tobytes() for n in range(3) for label in labels
        }
    else:
        sources = [made(10 * n + ord(s), (0, 3, 9))[1] for n in (1, 2, 3) for s in "ab"]
        expected = {np.select([each == 3, each == 9], [2, 1], 0).astype(np.uint8).tobytes() for each in sources}
        assert {label.astype(np.uint8).tobytes() for label in labels} == expected


def _medmnist(root: Path) -> int:
    root.mkdir()
    np.savez_compressed(root / "x.npz", **medmnist(colour=True))
    return 18


def _table(root: Path) -> int:
    rows = [
        (f"{seed}.png", "ab"[seed % 2], f"P{seed // 2}", "test" if seed % 3 == 0 else "train", "F", "1")
        for seed in range(18)
    ]
    rows = [(*row[:2], f"{row[2]}{row[3]}", *row[3:]) for row in rows]
    for seed, row in enumerate(rows):
        picture(root / row[0], seed)
    write_table(root / "labels.csv", rows)
    return len(rows)


@pytest.mark.parametrize("build", [_medmnist, _table])
def test_images(tmp_path: Path, build: Callable[[Path], int]) -> None:
    """The source's splits stay, and pixels are equal."""
    number = build(tmp_path / "src")
    import_data(tmp_path / "src", tmp_path / "out", OPTIONS)
    outputs = SplitOutputs(*(tmp_path / "split" / name for name in (*SPLITS, "record")))
    record = split_dataset(tmp_path / "out", KEY, SplitSettings(task="classification"), outputs)
    files = [path for path in (tmp_path / "split").rglob("*.png")]
    assert len(files) == number
    assert sum(case.split == "test" for patient in record.patients.values() for case in patient.cases) == number // 3
    pixels = {np.asarray(Image.open(path)).tobytes() for path in files}
    expected = (
        {image.tobytes() for name, array in medmnist(colour=True).items() if name.endswith("images") for image in array}
        if build is _medmnist
        else {picture(tmp_path / "x.png", seed).tobytes() for seed in range(number)}
    )
    assert pixels == expected
