"""Wrong input to `medloop run`: one line that names the file or field, exit code 2, no files written."""

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


def write_image(path: Path, pixels: Array | None = None) -> None:
    """Write a grey PNG of 16 pixels; noise by default."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(RNG.integers(0, 255, (16, 16), dtype=np.uint8) if pixels is None else pixels).save(path)


def write_images(root: Path, classes: tuple[str, ...] = ("a", "b"), count: int = 6) -> None:
    """Write a valid classification data set."""
    for name in classes:
        for index in range(count):
            write_image(root / name / f"{index}.png")


def write_subject(folder: Path, image: Array | None = None, label: Array | None = None, shift: float = 0.0) -> None:
    """Write a subject; `shift` moves the label's grid, in mm."""
    folder.mkdir(parents=True, exist_ok=True)
    image = RNG.normal(size=(8, 9, 10)).astype(np.float32) if image is None else image
    label = np.indices((8, 9, 10))[0] // 4 if label is None else label
    moved = np.eye(4)
    moved[0, 3] = shift
    nib.save(nib.Nifti1Image(image, np.eye(4)), folder / "img.nii.gz")
    nib.save(nib.Nifti1Image(label.astype(np.uint8), moved), folder / "label.nii.gz")


def write_subjects(root: Path, count: int = 6) -> None:
    """Write a valid segmentation data set."""
    for index in range(count):
        write_subject(root / f"subject {index}")


def empty(root: Path) -> None:
    """An empty folder."""
    root.mkdir()


def text_named_png(root: Path) -> None:
    """A text file among the images."""
    write_images(root)
    (root / "a" / "notes.png").write_text("these are notes")


def same_pixels_in_two_classes(root: Path) -> None:
    """One image under two classes."""
    write_images(root)
    pixels = np.arange(256, dtype=np.uint8).reshape(16, 16)
    write_image(root / "a" / "copy a.png", pixels)
    write_image(root / "b" / "copy b.png", pixels)


def same_pixels_under_two_patients(root: Path) -> None:
    """One image under two patients of one class."""
    write_images(root)
    pixels = np.arange(256, dtype=np.uint8).reshape(16, 16)
    write_image(root / "a" / "x1.png", pixels)
    write_image(root / "a" / "x2.png", pixels)
    names = sorted(path.relative_to(root).as_posix() for path in root.rglob("*.png"))
    (root / "patients.csv").write_text("path,patient\n" + "".join(f"{name},p{i}\n" for i, name in enumerate(names)))


def truncated_nifti(root: Path) -> None:
    """A volume whose file is cut in the middle."""
    write_subjects(root)
    file = root / "subject 3" / "img.nii.gz"
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def different_grids(root: Path) -> None:
    """A label on another grid than its image."""
    write_subjects(root)
    write_subject(root / "subject 3", shift=5.0)


def nan_voxels(root: Path) -> None:
    """An image that contains NaN."""
    write_subjects(root)
    image = np.zeros((8, 9, 10), np.float32)
    image[1, 2, 3] = np.nan
    write_subject(root / "subject 3", image=image)


def label_outside(root: Path) -> None:
    """A label value that no class has."""
    write_subjects(root)
    write_subject(root / "subject 3", label=np.full((8, 9, 10), 7))


@dataclass(frozen=True)
class Case:
    """An invalid data set.

    Args:
        make: Writes it to a folder.
        task: The pipeline.
        named: Texts that the error must contain.
    """

    make: Callable[[Path], None]
    task: str
    named: tuple[str, ...]


CASES = {
    "empty folder": Case(empty, "classification", ("class",)),
    "one class": Case(lambda root: write_images(root, ("a",)), "classification", ("class", "a")),
    "too few": Case(lambda root: write_images(root, count=1), "classification", ("3",)),
    "text as png": Case(text_named_png, "classification", ("a/notes.png",)),
    "two classes": Case(same_pixels_in_two_classes, "classification", ("copy a.png", "copy b.png")),
    "two patients": Case(same_pixels_under_two_patients, "classification", ("x1.png", "x2.png")),
    "empty for volumes": Case(empty, "segmentation", ("img.nii.gz",)),
    "too few subjects": Case(lambda root: write_subjects(root, 2), "segmentation", ("3",)),
    "truncated": Case(truncated_nifti, "segmentation", ("subject 3/img.nii.gz",)),
    "grids": Case(different_grids, "segmentation", ("subject 3", "grid")),
    "NaN": Case(nan_voxels, "segmentation", ("subject 3/img.nii.gz",)),
    "label values": Case(label_outside, "segmentation", ("subject 3/label.nii.gz", "7")),
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_invalid_data_is_reported_before_anything_runs(
    case: Case, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each kind of invalid data: exit code 2, one line per problem that names the file, no home folder created."""
    root, home = tmp_path / "Daten für heute", tmp_path / "home"
    case.make(root)
    labels = ["--set", "data.labels=[background, gland, other]"] if case.task == "segmentation" else []

    assert main(["run", case.task, "--data", str(root), "--home", str(home), *labels]) == 2

    out, err = capsys.readouterr()
    assert out == ""
    assert all(line.startswith("error: ") for line in err.splitlines())
    assert any(all(part in line for part in case.named) for line in err.splitlines()), err
    assert not home.exists()


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["--set", "train.hyperparameters.epoch=3"], "train.hyperparameters.epoch"),
        (["--set", "train.hyperparameters.epochs=three"], "train.hyperparameters.epochs"),
        (["--set", "train.hyperparameters.dropout=[1]"], "train.hyperparameters.dropout"),
        (["--param", "Epochs=three"], "Epochs"),
        (["--param", "ModelName=resnet19"], "ModelName"),
        (["--home", "{file}/below"], "is a file"),
    ],
)
def test_invalid_settings_are_reported_before_data_is_read(
    arguments: list[str], named: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Unknown settings, hyperparameters of the wrong type, a home below a file: one line that names it, exit code 2."""
    file = tmp_path / "a file"
    file.write_text("mine")
    command = ["run", "classification", "--data", str(tmp_path), "--home", str(tmp_path / "home")]

    assert main([*command, *(a.format(file=file) for a in arguments)]) == 2

    _, err = capsys.readouterr()
    assert named in err
    assert err.count("\n") == 1
    assert sorted(tmp_path.iterdir()) == [file]
    assert file.read_text() == "mine"
