"""2D images of classes: linked where the product reads the format, else written as PNG of equal pixels. Torch-free."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from medloop.documents.split import Split
from medloop.errors import DataError, SettingError
from medloop.imaging.files import DAMAGED, FileError, Source, load_small
from medloop.imaging.formats import IMAGE_SUFFIXES, find_suffix, read_image
from medloop.imaging.importable import PICTURE_ENDS
from medloop.imaging.pictures import MAX_PIXELS, pillow_reader, write_png
from medloop.importing.cases import ImportCase, ImportOptions, ImportPlan, Omission
from medloop.importing.source_files import link_file, require_inside, safe_name, unique_names

_RECIPE = "image 1"
_READERS: dict[str, Callable[[Source, int], NDArray[Any]]] = {
    ".gif": pillow_reader("GIF"),
    ".jp2": pillow_reader("JPEG2000"),
    ".j2k": pillow_reader("JPEG2000"),
    **dict.fromkeys((".pgm", ".ppm", ".pbm", ".pnm"), pillow_reader("PPM")),
    ".tga": pillow_reader("TGA"),
    ".avif": pillow_reader("AVIF"),
}
"""Formats that data sets may not contain, by suffix."""


@dataclass(frozen=True)
class LabelledImage:
    """A picture and its class.

    Attributes:
        path: Relative to the source.
        group: The class.
        split: Of the source, if it has one.
        patient: As patients.csv will name the patient.
        attributes: Further columns of patients.csv.
    """

    path: str
    group: str
    split: Split | None = None
    patient: str | None = None
    attributes: Mapping[str, str] = field(default_factory=dict)


def plan_pictures(
    root: Path, images: Sequence[LabelledImage], left_out: Sequence[Omission], options: ImportOptions
) -> ImportPlan:
    """Make a case of each image.

    Raises:
        SettingError: The options don't fit.
    """
    require_classification(options)
    images = _with_names(images, options.labels)
    _require_distinct(images)
    names = _choose_names(images)
    cases = [
        ImportCase(
            name=name,
            files=(image.path,),
            write=partial(_write, root, image.path),
            recipe=json.dumps([_RECIPE]),
            patient=image.patient,
            attributes=image.attributes,
        )
        for name, image in zip(names, images, strict=True)
    ]
    return ImportPlan("classification", tuple(cases), tuple(left_out))


def require_classification(options: ImportOptions) -> None:
    """Refuse options for volumes.

    Raises:
        SettingError: The task is another.
    """
    if options.task == "segmentation":
        raise SettingError("--task segmentation: the source has 2D images of classes; omit it")


def class_path(group: str, split: Split | None) -> str:
    """The folder of a class in the data set."""
    return f"{split}/{safe_name(group)}" if split else safe_name(group)


def _is_converted(image: LabelledImage) -> bool:
    return find_suffix(image.path, IMAGE_SUFFIXES) is None


def _with_names(images: Sequence[LabelledImage], labels: Sequence[str] | None) -> Sequence[LabelledImage]:
    """The images with the user's names of classes that are numbers.

    Raises:
        SettingError: The classes are no numbers, or have no name.
    """
    if labels is None:
        return images
    names = {str(value): name for value, name in enumerate(labels)}
    groups = {image.group for image in images}
    if unnamed := sorted(groups - names.keys()):
        raise SettingError(f"--labels: names classes by number, and the source has {', '.join(unnamed[:5])}; omit it")
    return [replace(image, group=names[image.group]) for image in images]


def _require_distinct(images: Sequence[LabelledImage]) -> None:
    """Refuse classes that would share a folder.

    Raises:
        DataError: The message names two.
    """
    groups: dict[str, str] = {}
    for group in dict.fromkeys(image.group for image in images):
        first = groups.setdefault(safe_name(group), group)
        if first != group:
            raise DataError(f"classes {first!r} and {group!r} would share the folder {safe_name(group)}; rename one")


def _choose_names(images: Sequence[LabelledImage]) -> list[str]:
    """Paths in the data set: the file's name; if that repeats, with its old suffix, or with the folders above it."""
    names = [_case_name(image, image.path.rpartition("/")[2]) for image in images]
    repeated = {name for name, number in Counter(names).items() if number > 1}
    for index, image in enumerate(images):
        if names[index] in repeated and _is_converted(image):
            names[index] = f"{class_path(image.group, image.split)}/{safe_name(image.path.rpartition('/')[2])}.png"
    repeated = {name for name, number in Counter(names).items() if number > 1}
    for index, image in enumerate(images):
        if names[index] in repeated:
            names[index] = _case_name(image, image.path.replace("/", "_"))
    return unique_names(names)


def _case_name(image: LabelledImage, name: str) -> str:
    name = safe_name(name)
    suffix = find_suffix(name, PICTURE_ENDS) or ""
    end = name[len(name) - len(suffix) :] if suffix in IMAGE_SUFFIXES else ".png"
    return f"{class_path(image.group, image.split)}/{name[: len(name) - len(suffix)]}{end}"


def _write(root: Path, path: str, target: Path) -> tuple[str, ...]:
    """Link an image that can be read, or write its pixels."""
    source = require_inside(root, root / path)
    reader = _READERS.get(find_suffix(path, PICTURE_ENDS) or "")
    if reader is None:
        read_image(source)
        link_file(source, target)
        return ()
    try:
        pixels = reader(load_small(source), MAX_PIXELS)
    except FileError:
        raise
    except Exception:  # Pillow's plugins of rare formats raise nearly anything
        raise FileError(root / path, DAMAGED) from None
    write_png(target, pixels)
    return ()
