"""`plane`: 2D slices of seven real volumes, to be classified as axial, coronal or sagittal.

The label is exact by construction, each volume is a patient, and the split is by patient: a network's test score is
what it makes of bodies and scanners that it never saw. Seven volumes are few; three of them, one person each, are the
test set.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from medloop.documents.csv_text import csv_text
from medloop.errors import SettingError
from medloop.imaging.files import Volume
from medloop.imaging.new_folder import new_folder
from medloop.imaging.pictures import write_png
from medloop.samples.cards import write_card
from medloop.samples.sources import (
    CHEST_CT,
    CHEST_CT_FINE,
    COLIN_T1,
    HEAD_CT,
    HEAD_T1,
    HEAD_T1_TEMPLATE,
    MNI_T1,
    SourceFile,
    read_volume,
    without_face,
)

Progress = Callable[[int, int], None]
Slice = NDArray[np.float32]

SPLITS: dict[str, tuple[SourceFile, ...]] = {
    # Fixed before any network was trained on them: the test volumes are three persons, each with a part of the body
    # that training has seen of others (averages of 152 adults, another person); the validation volume is in another
    # modality.
    "train": (MNI_T1, HEAD_T1_TEMPLATE, CHEST_CT),
    "val": (HEAD_CT,),
    "test": (HEAD_T1, COLIN_T1, CHEST_CT_FINE),
}
AXES = {"axial": 2, "coronal": 1, "sagittal": 0}
CENTRAL_EXTENT = 0.85
"""Share of an axis that slices are taken from: the ends show little."""
MIN_FOREGROUND = 0.1
"""Share of a slice's pixels above black below which it counts as empty."""
MAX_EDGE = 256
"""Pixels; larger slices are reduced, since no network of the demo looks at more."""


def make_plane(folder: Path, num_slices: int = 120, progress: Progress | None = None) -> Path:
    """Write the data set, pre-split, with patients.csv, model card and a README that names origins and licences.

    Args:
        folder: A new or empty folder; files are `<split>/<class>/<patient>_<slice>.png`, 8-bit grey, square.
        num_slices: Slices of each volume, in equal parts of the three planes; fewer where a volume has fewer.
        progress: Called with (volumes done, volumes in all).

    Returns:
        The folder.

    Raises:
        DataError: A source package is missing.
        SettingError: `num_slices` is below 3.
        TargetError: The folder is not empty or can't be written.
    """
    if num_slices < 3:
        raise SettingError(f"num_slices={num_slices}: give at least 3, one of each plane")
    volumes = [(split, source) for split, sources in SPLITS.items() for source in sources]
    rows: list[list[str]] = []
    with new_folder(folder) as scratch:
        for done, (split, source) in enumerate(volumes, 1):
            for path, pixels in _named_slices(split, source, num_slices // 3):
                write_png(scratch / path, pixels)
                rows.append([path, source.patient, source.modality, source.body_part])
            if progress:
                progress(done, len(volumes))
        write_table(scratch / "patients.csv", ["path", "patient", "modality", "body_part"], rows)
        (scratch / "README.md").write_text(_readme(), encoding="utf-8")
        write_card(scratch, "plane")
    return folder


def write_table(path: Path, header: list[str], rows: list[list[str]]) -> None:
    """Write a CSV file with Unix line ends."""
    path.write_text(csv_text([header, *rows], line_end="\n"), encoding="utf-8", newline="")


def _named_slices(split: str, source: SourceFile, per_plane: int) -> Iterator[tuple[str, NDArray[np.uint8]]]:
    volume = read_volume(source.package, source.file)
    low, high = source.window or np.percentile(volume.voxels, [0.5, 99.5])
    grey = replace(volume, voxels=np.clip((volume.voxels - low) / (high - low), 0, 1))
    grey = without_face(grey, source)
    for name, axis in AXES.items():
        for index in _central_indices(grey.voxels, axis, per_plane):
            pixels = _upright_square(grey, axis, index)
            yield f"{split}/{name}/{source.patient}_{index:03d}.png", np.rint(pixels * 255).astype(np.uint8)


def _central_indices(voxels: Slice, axis: int, count: int) -> list[int]:
    """Choose up to `count` indices, evenly spaced over the central extent of the slices that are not empty."""
    plane_axes = tuple(a for a in range(3) if a != axis)
    filled = np.flatnonzero((voxels > 0.02).mean(axis=plane_axes) >= MIN_FOREGROUND)
    margin = (1 - CENTRAL_EXTENT) / 2 * len(filled)
    central = filled[int(np.ceil(margin)) : len(filled) - int(np.floor(margin))]
    chosen = np.linspace(0, len(central) - 1, min(count, len(central)))
    return [int(central[round(position)]) for position in chosen]


def _upright_square(volume: Volume, axis: int, index: int) -> Slice:
    """Cut one slice with isotropic pixels, anterior or superior up, cropped to its central square.

    Cropped, because a field of view is a volume's and not a plane's: its proportions would reveal the class in
    training and mislead on another volume.
    """
    first, second = (volume.spacing[a] for a in range(3) if a != axis)
    pixels = np.moveaxis(volume.voxels, axis, 0)[index].T[::-1]
    unit = min(first, second)
    width, height = round(pixels.shape[1] * first / unit), round(pixels.shape[0] * second / unit)
    picture = Image.fromarray(np.ascontiguousarray(pixels)).resize((width, height), Image.Resampling.BILINEAR)
    side = min(width, height)
    left, top = (width - side) // 2, (height - side) // 2
    square = picture.crop((left, top, left + side, top + side))
    edge = min(side, MAX_EDGE)
    return np.asarray(square.resize((edge, edge), Image.Resampling.BILINEAR))


def _readme() -> str:
    rows = "\n".join(
        f"| {split} | {source.patient} | {source.origin} | {source.package}: `{source.file}` | {source.licence} |"
        for split, sources in SPLITS.items()
        for source in sources
    )
    return f"""# plane

2D slices of seven real volumes, 8-bit grey: axial, coronal or sagittal. Each volume is one patient
(`patients.csv`), and the split is by patient. Three test volumes show whether the pipeline works, not how good
a model is on people at large.

| split | patient | what | package and file | licence |
|---|---|---|---|---|
{rows}
"""
