"""MedMNIST: each image of each split, bit by bit; hostile files are refused, and nothing is unpickled."""

from __future__ import annotations

import io
import os
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from medloop.errors import DataError
from medloop.imaging.npz import read_array
from tests.unit.importing.image_sources import (
    OPTIONS,
    medmnist,
    require_sound,
    run,
)


@pytest.mark.parametrize("colour", [False, True])
@pytest.mark.parametrize("labels", [None, ("a", "b", "c")])
def test_medmnist(tmp_path: Path, colour: bool, labels: tuple[str, ...] | None) -> None:
    """Each image of each split, in the folder of its class, bit by bit."""
    (tmp_path / "src").mkdir()
    arrays = medmnist(colour=colour)
    np.savez_compressed(tmp_path / "src/pathmnist.npz", **arrays)
    report = run(
        tmp_path / "src" / ("pathmnist.npz" if labels else ""), tmp_path / "out", replace(OPTIONS, labels=labels)
    )
    assert report.source == "medmnist"
    assert len(report.cases) == 18
    for split in ("train", "val", "test"):
        for index, (pixels, label) in enumerate(zip(arrays[f"{split}_images"], arrays[f"{split}_labels"], strict=True)):
            name = labels[label[0]] if labels else label[0]
            np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / f"out/{split}/{name}/{index}.png")), pixels)
    require_sound(tmp_path / "out", report)
    assert not any(
        case.is_new
        for case in run(
            tmp_path / "src/pathmnist.npz", tmp_path / "out", OPTIONS if not labels else replace(OPTIONS, labels=labels)
        ).cases
    )


class Bomb:
    """An object that must never be unpickled."""

    def __reduce__(self) -> tuple[Callable[[str], int], tuple[str]]:
        """Leave a trace."""
        return (os.system, ("touch unpickled",))


def _zeros_of(shape: tuple[int, ...]) -> bytes:
    file = io.BytesIO()
    header = {"descr": "|u1", "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(file, header)
    return file.getvalue() + bytes(1000)


@pytest.mark.parametrize(
    ("array", "value", "message"),
    [
        ("train_images", np.zeros((6, 28, 28, 28), np.uint8), "train_images: has shape (6, 28, 28, 28): 3D volumes"),
        ("train_images", np.zeros((6, 28, 28), np.float32), "train_images: contains float32; save it as uint8"),
        ("train_labels", np.zeros((6, 14), np.uint8), "train_labels: has shape (6, 14) of uint8: several labels"),
        ("val_labels", np.zeros((5, 1), np.uint8), "val_labels: has 5 labels for 6 images; save the file again"),
        ("test_labels", np.zeros((6, 1), np.float64), "test_labels: has shape (6, 1) of float64"),
        ("test_images", np.array([Bomb()] * 6, object), "array test_images contains no plain numbers"),
        ("test_labels", np.array(["a"] * 6), "array test_labels contains no plain numbers"),
        ("val_images", _zeros_of((60000, 9000, 9000)), "array val_images expands to more than 200 times its size"),
        ("val_images", _zeros_of((600, 90, 90)), "array val_images is truncated or damaged"),
        ("val_images", b"\x93NUMPY\x01\x00\xff\xff" + b"(" * 70000, "array val_images is truncated or damaged"),
        ("val_images", b"\x93NUMPY\x02\x00\xff\xff\xff\x7f" + bytes(10000), "array val_images is truncated or damaged"),
        ("val_images", _zeros_of((6, 28, 2)), "array val_images is truncated or damaged"),
        ("val_images", b"", "array val_images is truncated or damaged"),
    ],
)
def test_hostile_arrays_are_refused_by_name(
    tmp_path: Path, array: str, value: np.ndarray[Any, Any] | bytes, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is unpickled, and nothing allocated that the file doesn't contain."""
    monkeypatch.chdir(tmp_path)
    arrays = {**medmnist(colour=False), array: value}
    with zipfile.ZipFile(tmp_path / "x.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in arrays.items():
            file = io.BytesIO()
            if isinstance(content, np.ndarray):
                np.save(file, content, allow_pickle=True)
            archive.writestr(f"{name}.npy", file.getvalue() if isinstance(content, np.ndarray) else content)
    with pytest.raises(DataError) as caught:
        run(tmp_path / "x.npz", tmp_path / "out")
    assert message in str(caught.value)
    assert str(caught.value).startswith("x.npz")
    assert not (tmp_path / "unpickled").exists()


def test_no_npz_and_several(tmp_path: Path) -> None:
    """A line names the arrays, or the files."""
    (tmp_path / "src").mkdir()
    (tmp_path / "bad.npz").write_bytes(b"PK\3\4 no zip")
    with pytest.raises(DataError, match="array train_images is truncated or damaged"):
        run(tmp_path / "bad.npz", tmp_path / "out")
    for name in ("a", "b"):
        np.savez(tmp_path / "src" / name, **medmnist(colour=False))
    with pytest.raises(DataError, match=r"has 2 MedMNIST files \(a.npz, b.npz\); give one of them"):
        run(tmp_path / "src", tmp_path / "out2")


def test_a_damaged_array_is_refused(tmp_path: Path) -> None:
    """Its checksum is verified."""
    np.savez(tmp_path / "x.npz", **medmnist(colour=False))
    content = bytearray((tmp_path / "x.npz").read_bytes())
    content[1000] ^= 1
    (tmp_path / "x.npz").write_bytes(content)
    with pytest.raises(DataError, match=r"x.npz: array train_images is truncated or damaged"):
        run(tmp_path / "x.npz", tmp_path / "out")


@pytest.mark.parametrize("in_memory", [0, 2**20])
def test_large_arrays_are_mapped(tmp_path: Path, in_memory: int) -> None:
    """Equal values, from memory or from a temporary file; a truncated array is refused."""
    arrays = {**medmnist(colour=True), "val_images": np.asfortranarray(medmnist(colour=True)["val_images"])}
    np.savez_compressed(tmp_path / "x.npz", **arrays)
    for name, values in arrays.items():
        np.testing.assert_array_equal(read_array(tmp_path / "x.npz", name, in_memory), values)
    np.savez(tmp_path / "y.npz", **arrays)
    (tmp_path / "y.npz").write_bytes((tmp_path / "y.npz").read_bytes().replace(b"'shape': (6,", b"'shape': (7,"))
    with pytest.raises(DataError, match="damaged"):
        read_array(tmp_path / "y.npz", "train_images", in_memory)
