"""`brain-tissue`: 3D volumes with 0 background, 1 grey matter, 2 white matter.

One real T1 template and its tissue maps give N subjects: each is the template under a random smooth deformation (image
and label together), sampled on a grid of its own, with a random contrast, bias field and noise. A score on it says that
a pipeline learns and measures as it should; it says nothing about a population.

Difficulty is set so that k-means on intensities (three classes, brain voxels only) reaches about 0.74 mean foreground
Dice (benchmarks/kmeans_tissue.py; 0.68 to 0.77 by subject) where the undegraded template gives it above 0.9: bias field
and noise blur the contrast between grey and white matter, so that the surroundings of a voxel, not its intensity alone,
determine the tissue.
"""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.interpolate import CubicSpline

from medloop.errors import SettingError
from medloop.imaging.new_folder import new_folder
from medloop.imaging.nifti import write_nifti
from medloop.samples.cards import write_card
from medloop.samples.plane import Progress, write_table
from medloop.samples.sources import MNI_T1, MNI_TISSUES, read_volume

MARGIN = 14
"""Voxels (mm) of the template around the brain, so that a rotated or larger one is still inside."""
Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Difficulty:
    """Ranges that each subject's degradation is drawn from, uniformly."""

    spacing: tuple[float, float] = (2.0, 2.6)
    """Voxel edges in mm, each axis for itself."""
    rotation: float = 8.0
    """Largest rotation about each axis, in degrees, either way."""
    scale: tuple[float, float] = (0.92, 1.08)
    displacement: float = 3.5
    """Standard deviation of the control points' shifts, in mm; the points are about 40 mm apart."""
    gamma: tuple[float, float] = (0.95, 1.2)
    """Exponent of the contrast change."""
    bias: tuple[float, float] = (0.095, 0.11)
    """Standard deviation of the bias field's log gain inside the brain."""
    noise: tuple[float, float] = (0.04, 0.06)
    """Standard deviation of each of Rician noise's two parts, as a share of the brightest tissue."""


@dataclass(frozen=True)
class Template:
    """T1 and tissue probabilities, float32 [X, Y, Z] at 1 mm, blurred a little so that coarser grids don't alias."""

    image: Floats
    grey: Floats
    white: Floats
    brain: Floats


def make_brain_tissue(
    folder: Path,
    num_subjects: int = 16,
    seed: int = 0,
    difficulty: Difficulty | None = None,
    progress: Progress | None = None,
) -> Path:
    """Write `<subject>/{img,label}.nii.gz`, patients.csv, model card and a README (origin, licence, making).

    Args:
        folder: A new or empty folder.
        num_subjects: At least 1. Subject i is the same for every number of subjects.
        seed: Of everything random.
        difficulty: How far images are degraded; the default is the documented one.
        progress: Called with (subjects done, subjects in all).

    Returns:
        The folder.

    Raises:
        DataError: The source package is missing.
        SettingError: `num_subjects` is below 1.
        TargetError: The folder is not empty or can't be written.
    """
    if num_subjects < 1:
        raise SettingError(f"num_subjects={num_subjects}: give at least 1")
    rules = difficulty or Difficulty()
    with new_folder(folder) as scratch:
        template = _read_template()

        def write(number: int) -> list[str]:
            name = f"sub-{number:02d}"
            noise = _write_subject(scratch / name, template, np.random.default_rng([seed, number]), rules)
            return [name, name, MNI_T1.modality, "brain", "high" if noise > np.mean(rules.noise) else "low"]

        rows = []
        # Interpolation and compression leave the interpreter to other threads.
        with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
            for row in pool.map(write, range(1, num_subjects + 1)):
                rows.append(row)
                if progress:
                    progress(len(rows), num_subjects)
        write_table(scratch / "patients.csv", ["path", "patient", "modality", "body_part", "noise"], rows)
        (scratch / "README.md").write_text(_readme(rules), encoding="utf-8")
        write_card(scratch, "brain-tissue")
    return folder


def _read_template() -> Template:
    def read(file: str) -> Floats:
        return (read_volume(MNI_T1.package, file).voxels / 255).astype(np.float32)

    image, grey, white = read(MNI_T1.file), read(MNI_TISSUES["grey"]), read(MNI_TISSUES["white"])
    boxes = ndimage.find_objects((image > 0.1).astype(np.uint8))[0]
    view = tuple(slice(max(0, box.start - MARGIN), box.stop + MARGIN) for box in boxes)
    brain = ndimage.binary_fill_holes(image[view] > 0.1).astype(np.float32)
    maps = (image[view], grey[view], white[view], brain)
    return Template(*(ndimage.gaussian_filter(voxels, 0.7) for voxels in maps))


def _write_subject(folder: Path, template: Template, rng: np.random.Generator, rules: Difficulty) -> float:
    """Write one subject; returns its noise level."""
    spacing = rng.uniform(*rules.spacing, size=3)
    points = _deformed_grid(np.array(template.image.shape), spacing, rng, rules)
    image, grey, white, brain = (
        ndimage.map_coordinates(maps, points, order=1, mode="constant", cval=0.0)
        for maps in (template.image, template.grey, template.white, template.brain)
    )
    # Probabilities are deformed, then the likeliest tissue wins: labels stay whole numbers and their borders smooth.
    label = np.argmax(np.stack([1 - grey - white, grey, white]), axis=0).astype(np.uint8)
    noise = float(rng.uniform(*rules.noise))
    inside = brain > 0.5
    degraded = _degrade(image, inside, noise, rng, rules)
    # Skull-stripping comes after the scan: outside the brain there is exactly nothing, inside at least 1.
    stored = np.where(inside, np.clip(np.rint(degraded * 1000), 1, 4000), 0).astype(np.int16)
    affine = np.diag([*spacing, 1.0])
    affine[:3, 3] = -spacing * (np.array(image.shape) - 1) / 2
    write_nifti(folder / "img.nii.gz", stored, affine)
    write_nifti(folder / "label.nii.gz", np.where(inside, label, 0).astype(np.uint8), affine)
    return noise


def _deformed_grid(
    shape: NDArray[np.int_], spacing: NDArray[np.float64], rng: np.random.Generator, rules: Difficulty
) -> NDArray[np.float64]:
    """Positions in the template (voxels = mm) of the voxels of the subject's grid: [3, X, Y, Z]."""
    size = tuple(int(edge) for edge in np.ceil(shape / spacing))
    steps = [(np.arange(n) - (n - 1) / 2) * edge for n, edge in zip(size, spacing, strict=True)]
    centred = np.stack(np.meshgrid(*steps, indexing="ij"))
    rotation = _rotation(np.deg2rad(rng.uniform(-rules.rotation, rules.rotation, size=3))) * rng.uniform(*rules.scale)
    centre = (shape - 1).reshape(3, 1, 1, 1) / 2
    shift = np.stack([_smooth_field(size, rng) for _ in range(3)]) * rules.displacement
    return np.asarray(np.einsum("ij,jxyz->ixyz", rotation, centred) + centre + shift)


def _rotation(angles: NDArray[np.float64]) -> NDArray[np.float64]:
    rotation = np.eye(3)
    for axis, angle in enumerate(angles):
        first, second = (axis + 1) % 3, (axis + 2) % 3
        step = np.eye(3)
        step[[first, second], [first, second]] = np.cos(angle)
        step[first, second], step[second, first] = -np.sin(angle), np.sin(angle)
        rotation = step @ rotation
    return rotation


def _smooth_field(size: tuple[int, ...], rng: np.random.Generator, points: int = 5) -> NDArray[np.float64]:
    """Draw a random field of unit control points, `points` along each axis, joined by cubic splines."""
    splines = CubicSpline(np.linspace(0, 1, points), np.eye(points))
    weights = (splines(np.linspace(0, 1, n)) for n in size)
    control = rng.standard_normal((points, points, points))
    return np.asarray(np.einsum("abc,xa,yb,zc->xyz", control, *weights, optimize=True))


def _degrade(
    image: Floats, inside: NDArray[np.bool_], noise: float, rng: np.random.Generator, rules: Difficulty
) -> NDArray[np.float64]:
    contrast = np.clip(image, 0, 1) ** rng.uniform(*rules.gamma)
    field = _smooth_field(image.shape, rng, points=4)
    gain = np.exp((field - field[inside].mean()) / field[inside].std() * rng.uniform(*rules.bias))
    parts = rng.standard_normal((2, *image.shape)) * noise
    return np.asarray(np.hypot(contrast * gain + parts[0], parts[1]))


def _readme(rules: Difficulty) -> str:
    return f"""# brain-tissue

3D volumes with labels 0 background, 1 grey matter, 2 white matter. **Derived from one template: no
population.** Each subject is the template under a random smooth deformation of image and label, with a
random contrast, bias field, noise and voxel size. `patients.csv` says whether its noise is low or high.

- Origin: {MNI_T1.origin} (`{MNI_T1.file}` and its tissue maps)
- Licence: {MNI_T1.licence}
- Made with: {rules}
"""
