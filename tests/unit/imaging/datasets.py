"""Small data sets of noise, for tests of what reads, checks and splits them."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
from PIL import Image


def write_image(path: Path, seed: int) -> Path:
    """An 8x8 grey PNG of noise; the seed decides its pixels."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (8, 8), dtype=np.uint8)
    Image.fromarray(pixels).save(path, format="JPEG" if path.suffix == ".jpg" else "PNG")
    return path


def write_subject(folder: Path, seed: int, values: tuple[int, ...] = (0, 1)) -> Path:
    """A 6x5x4 image of noise, and a label in which all the values occur."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    label = np.resize(np.array(values, dtype=np.uint8), (6, 5, 4))
    affine = np.diag([2.0, 2.0, 3.0, 1.0])
    nib.save(nib.Nifti1Image(rng.normal(size=(6, 5, 4)).astype(np.float32), affine), folder / "img.nii.gz")
    nib.save(nib.Nifti1Image(label, affine), folder / "label.nii.gz")
    return folder


def write_classes(root: Path, num_images: int = 5, classes: tuple[str, ...] = ("cyst", "normal")) -> Path:
    """Class folders of distinct images."""
    for group, name in enumerate(classes):
        for index in range(num_images):
            write_image(root / name / f"scan {index}.png", 1000 * group + index)
    return root


def write_subjects(root: Path, num_subjects: int = 4) -> Path:
    """Subject folders."""
    for index in range(num_subjects):
        write_subject(root / f"Müller {index}", index)
    return root


def write_patients(root: Path, rows: list[str], header: str = "path,patient") -> None:
    """patients.csv."""
    (root / "patients.csv").write_text("\n".join([header, *rows]) + "\n", encoding="utf-8")
