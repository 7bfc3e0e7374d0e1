"""Wrong input to `medloop run`: one line that names the file or field, exit code 2, nothing left behind."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from PIL import Image

from medloop.cli import main

Array = np.ndarray
RNG = np.random.default_rng(3)


def picture(path: Path, pixels: Array | None = None) -> None:
    """Write a grey PNG of 16 pixels, of noise unless pixels are given."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(RNG.integers(0, 255, (16, 16), dtype=np.uint8) if pixels is None else pixels).save(path)


def pictures(root: Path, classes: tuple[str, ...] = ("a", "b"), count: int = 6) -> None:
    """Write a classification data set that is as it should be."""
    for name in classes:
        for index in range(count):
            picture(root / name / f"{index}.png")


def volume(folder: Path, image: Array | None = None, label: Array | None = None, shift: float = 0.0) -> None:
    """Write a subject; `shift` moves the label's grid by so many mm."""
    folder.mkdir(parents=True, exist_ok=True)
    image = RNG.normal(size=(8, 9, 10)).astype(np.float32) if image is None else image
    label = np.indices((8, 9, 10))[0] // 4 if label is None else label
    moved = np.eye(4)
    moved[0, 3] = shift
    nib.save(nib.Nifti1Image(image, np.eye(4)), folder / "img.nii.gz")
    nib.save(nib.Nifti1Image(label.astype(np.uint8), moved), folder / "label.nii.gz")


def volumes(root: Path, count: int = 6) -> None:
    """Write a segmentation data set that is as it should be."""
    for index in range(count):
        volume(root / f"subject {index}")


def empty(root: Path) -> None:
    """No file at all."""
    root.mkdir()


def text_named_png(root: Path) -> None:
    """A text file among the images."""
    pictures(root)
    (root / "a" / "notes.png").write_text("these are notes")


def same_pixels_in_two_classes(root: Path) -> None:
    """One image under two classes."""
    pictures(root)
    pixels = np.arange(256, dtype=np.uint8).reshape(16, 16)
    picture(root / "a" / "copy a.png", pixels)
    picture(root / "b" / "copy b.png", pixels)


def same_pixels_under_two_patients(root: Path) -> None:
    """One image under two patients of one class."""
    pictures(root)
    pixels = np.arange(256, dtype=np.uint8).reshape(16, 16)
    picture(root / "a" / "x1.png", pixels)
    picture(root / "a" / "x2.png", pixels)
    names = sorted(path.relative_to(root).as_posix() for path in root.rglob("*.png"))
    (root / "patients.csv").write_text("path,patient\n" + "".join(f"{name},p{i}\n" for i, name in enumerate(names)))


def truncated_nifti(root: Path) -> None:
    """A volume that is cut off in the middle."""
    volumes(root)
    file = root / "subject 3" / "img.nii.gz"
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def different_grids(root: Path) -> None:
    """A label that lies elsewhere than its image."""
    volumes(root)
    volume(root / "subject 3", shift=5.0)


def nan_voxels(root: Path) -> None:
    """An image that holds NaN."""
    volumes(root)
    image = np.zeros((8, 9, 10), np.float32)
    image[1, 2, 3] = np.nan
    volume(root / "subject 3", image=image)


def label_outside(root: Path) -> None:
    """A label value that no class has."""
    volumes(root)
    volume(root / "subject 3", label=np.full((8, 9, 10), 7))


@dataclass(frozen=True)
class Case:
    """A data set that is wrong.

    Args:
        make: Writes it into a folder.
        task: The pipeline.
        said: What the error must name.
    """

    make: Callable[[Path], None]
    task: str
    said: tuple[str, ...]


CASES = {
    "empty folder": Case(empty, "classification", ("class",)),
    "one class": Case(lambda root: pictures(root, ("a",)), "classification", ("class", "a")),
    "too few": Case(lambda root: pictures(root, count=1), "classification", ("3",)),
    "text as png": Case(text_named_png, "classification", ("a/notes.png",)),
    "two classes": Case(same_pixels_in_two_classes, "classification", ("copy a.png", "copy b.png")),
    "two patients": Case(same_pixels_under_two_patients, "classification", ("x1.png", "x2.png")),
    "empty for volumes": Case(empty, "segmentation", ("img.nii.gz",)),
    "too few subjects": Case(lambda root: volumes(root, 2), "segmentation", ("3",)),
    "truncated": Case(truncated_nifti, "segmentation", ("subject 3/img.nii.gz",)),
    "grids": Case(different_grids, "segmentation", ("subject 3", "grid")),
    "NaN": Case(nan_voxels, "segmentation", ("subject 3/img.nii.gz",)),
    "label values": Case(label_outside, "segmentation", ("subject 3/label.nii.gz", "7")),
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_wrong_data_is_named_before_anything_runs(
    case: Case, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each kind of wrong data: exit code 2, one line a problem that names the file, no home folder made."""
    root, home = tmp_path / "Daten für heute", tmp_path / "home"
    case.make(root)
    labels = ["--set", "data.labels=[background, gland, other]"] if case.task == "segmentation" else []

    assert main(["run", case.task, "--data", str(root), "--home", str(home), *labels]) == 2

    out, err = capsys.readouterr()
    assert out == ""
    assert all(line.startswith("error: ") for line in err.splitlines())
    assert any(all(part in line for part in case.said) for line in err.splitlines()), err
    assert not home.exists()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--set", "train.hyperparameters.epoch=3"], "train.hyperparameters.epoch"),
        (["--set", "train.hyperparameters.epochs=three"], "train.hyperparameters.epochs"),
        (["--set", "train.hyperparameters.dropout=[1]"], "train.hyperparameters.dropout"),
        (["--param", "Epochs=three"], "Epochs"),
        (["--param", "ModelName=resnet19"], "ModelName"),
        (["--home", "{file}/below"], "is a file"),
    ],
)
def test_wrong_settings_are_named_before_data_is_read(
    arguments: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """An unknown setting, an ill-typed hyperparameter, a home below a file: one line that names it, exit code 2."""
    file = tmp_path / "a file"
    file.write_text("mine")
    command = ["run", "classification", "--data", str(tmp_path), "--home", str(tmp_path / "home")]

    assert main([*command, *(a.format(file=file) for a in arguments)]) == 2

    _, err = capsys.readouterr()
    assert said in err
    assert err.count("\n") == 1
    assert sorted(tmp_path.iterdir()) == [file]
    assert file.read_text() == "mine"
