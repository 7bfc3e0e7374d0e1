"""MedMNIST: 2D images in NumPy arrays become PNGs in class folders of each split. Torch-free."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medloop.documents.split import SPLITS, Split
from medloop.errors import DataError
from medloop.imaging.npz import MEDMNIST_ARRAYS, list_arrays, read_array
from medloop.imaging.pictures import write_png
from medloop.importing.cases import ImportCase, ImportOptions, ImportPlan, ProgressBars
from medloop.importing.image_cases import class_path, require_classification
from medloop.importing.source_files import require_inside

_RECIPE = "medmnist 1"
_COLOUR = 3


def plan_medmnist(folder: Path, options: ImportOptions, progress: ProgressBars) -> ImportPlan:
    """Make a case of each image of each split.

    Raises:
        DataError: The arrays can't be used.
        SettingError: The options don't fit.
    """
    require_classification(options)
    name = options.file or _find_file(folder)
    path = require_inside(folder, folder / name)
    arrays: list[tuple[Split, NDArray[Any], NDArray[Any]]] = []
    with progress("arrays read") as show:
        for number, split in enumerate(SPLITS):
            images, labels = (read_array(path, f"{split}_{kind}") for kind in ("images", "labels"))
            _check(name, split, images, labels)
            arrays.append((split, images, labels.reshape(len(labels))))
            show(number + 1, len(SPLITS))
    values = sorted({int(value) for _, _, labels in arrays for value in np.unique(labels)})
    groups = _class_names(name, values, options.labels)
    cases = [case for split, images, labels in arrays for case in _cases(name, split, images, labels, groups)]
    return ImportPlan("classification", tuple(cases))


def _find_file(folder: Path) -> str:
    names = sorted(path.name for path in folder.glob("*.npz") if set(MEDMNIST_ARRAYS) <= list_arrays(path).keys())
    if len(names) != 1:
        raise DataError(f"{folder}: has {len(names)} MedMNIST files ({', '.join(names)}); give one of them")
    return names[0]


def _check(name: str, split: Split, images: NDArray[Any], labels: NDArray[Any]) -> None:
    """Refuse arrays that are no 2D images with one class each.

    Raises:
        DataError: The message names file and array.
    """
    field = f"{name} {split}_images"
    is_grey, is_colour = images.ndim == 3, images.ndim == 4 and images.shape[3] == _COLOUR
    if not (is_grey or is_colour):
        kind = "3D volumes with a class each, which medloop can't classify" if images.ndim == 4 else "no 2D images"
        raise DataError(f"{field}: has shape {images.shape}: {kind}; give a 2D data set")
    if images.dtype != np.uint8:
        raise DataError(f"{field}: contains {images.dtype}; save it as uint8")
    field = f"{name} {split}_labels"
    if labels.dtype.kind not in "iub" or labels.size != len(labels):
        kind = "several labels for each image, which medloop can't learn" if labels.ndim > 1 else "no whole numbers"
        raise DataError(f"{field}: has shape {labels.shape} of {labels.dtype}: {kind}; give one class for each image")
    if len(labels) != len(images):
        raise DataError(f"{field}: has {len(labels)} labels for {len(images)} images; save the file again")


def _class_names(name: str, values: Sequence[int], labels: Sequence[str] | None) -> dict[int, str]:
    """Names of the classes: the user's, or the values."""
    if labels is None:
        digits = len(str(max(values, default=0)))
        return {value: f"{value:0{digits}d}" for value in values}
    if len(labels) <= max(values, default=0):
        raise DataError(f"{name}: has classes 0 to {max(values)}, and --labels {len(labels)} names; name each")
    return {value: labels[value] for value in values}


def _cases(
    name: str, split: Split, images: NDArray[Any], labels: NDArray[Any], groups: dict[int, str]
) -> Iterator[ImportCase]:
    digits = len(str(len(images)))
    for index, value in enumerate(labels.tolist()):
        yield ImportCase(
            name=f"{class_path(groups[int(value)], split)}/{index:0{digits}d}.png",
            files=(name,),
            write=partial(_write, images, index),
            recipe=json.dumps([_RECIPE, split, index]),
        )


def _write(images: NDArray[Any], index: int, target: Path) -> tuple[str, ...]:
    write_png(target, np.array(images[index]))
    return ()
