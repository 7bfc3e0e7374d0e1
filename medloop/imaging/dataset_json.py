"""dataset.json of nnU-Net (versions 1 and 2) and the Medical Segmentation Decathlon. Torch-free.

Sources: documentation/dataset_format.md of nnU-Net; http://medicaldecathlon.com. Version 1 and the Decathlon write
`"labels": {"0": "background"}`, version 2 `{"background": 0}`, and a list of values for a region.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from medloop.documents.json_text import JsonError, parse_json
from medloop.errors import DataError

DATASET_JSON = "dataset.json"
MAX_BYTES = 64 * 2**20
_IGNORE = "ignore"
_DIGITS = 9


@dataclass(frozen=True)
class DescribedLabels:
    """Labels of a data set, as a document next to it describes them.

    Attributes:
        names: Names by label value.
        ignored: Value of voxels that are not to be learnt; None if there is none.
        regions: Names of structures that consist of several values, with these.
    """

    names: Mapping[int, str] = field(default_factory=dict)
    ignored: int | None = None
    regions: Mapping[str, tuple[int, ...]] = field(default_factory=dict)


@dataclass(frozen=True)
class ListedCase:
    """An entry of `training`, or of nnU-Net's `dataset`.

    Attributes:
        field: The entry, such as `training 3`.
        label: The path of its label, as it is written.
        images: The paths of its channels; of one file with all channels, or of nnU-Net's file without its end.
    """

    field: str
    label: str
    images: tuple[str, ...]


@dataclass(frozen=True)
class DatasetJson:
    """The content of dataset.json; fields that are not there are empty.

    Attributes:
        labels: See `DescribedLabels`.
        channels: Names of the images' channels, in their order.
        num_training: Number of cases that it states.
        cases: The cases that it lists.
    """

    labels: DescribedLabels = field(default_factory=DescribedLabels)
    channels: tuple[str, ...] = ()
    num_training: int | None = None
    cases: tuple[ListedCase, ...] = ()


def read_dataset_json(root: Path) -> DatasetJson:
    """Read a folder's dataset.json; one that isn't there is empty.

    Raises:
        DataError: A field can't be used; the message names it.
    """
    path = root / DATASET_JSON
    if not path.is_file():
        return DatasetJson()
    try:
        with path.open("rb") as file:
            content = parse_json(file.read(MAX_BYTES + 1), MAX_BYTES, unique_keys=True)
    except OSError as error:
        raise DataError(f"{DATASET_JSON}: can't be read ({error.strerror}); check its permissions") from None
    except JsonError as error:
        raise DataError(f"{DATASET_JSON}: {error}; correct it") from None
    if not isinstance(content, dict):
        raise DataError(f"{DATASET_JSON}: is no object; write {{...}}")
    return DatasetJson(
        _read_labels(content.get("labels") or {}),
        _read_channels(content.get("channel_names") or content.get("modality") or {}),
        content["numTraining"] if isinstance(content.get("numTraining"), int) else None,
        tuple(_read_cases(content)),
    )


def _wrong(name: str, problem: str) -> DataError:
    return DataError(f"{DATASET_JSON} {name}: {problem}")


def _read_labels(labels: Any) -> DescribedLabels:
    """Labels of either form; a key of digits is a value."""
    if not isinstance(labels, dict):
        raise _wrong("labels", 'is no object; write {"background": 0, "NAME": 1}')
    names: dict[int, str] = {}
    regions: dict[str, tuple[int, ...]] = {}
    ignored = None
    for key, value in labels.items():
        if isinstance(value, list):
            regions[key] = tuple(_value("labels", key, each) for each in value)
            continue
        is_first = _is_number(key) and isinstance(value, str) and not _is_number(value)
        number, name = (int(key), str(value)) if is_first else (_value("labels", key, value), key)
        if number in names or number == ignored:
            raise _wrong("labels", f"value {number} has two names; correct one")
        if name.casefold() == _IGNORE:
            ignored = number
        else:
            names[number] = name
    return DescribedLabels(names, ignored, regions)


def _is_number(text: str) -> bool:
    """True for digits of a value that a label, or a number of channels, can have."""
    return text.isdecimal() and len(text) <= _DIGITS


def _value(name: str, key: str, value: Any) -> int:
    if isinstance(value, str) and _is_number(value):
        value = int(value)
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= 2**31:
        raise _wrong(name, f"{key!r} is {value!r}; write a label value, as 1")
    return value


def _read_channels(channels: Any) -> tuple[str, ...]:
    """Names of channels by number: an object, a list, or one name."""
    if isinstance(channels, str):
        return (channels,)
    if isinstance(channels, dict) and all(map(_is_number, channels)):
        return tuple(str(channels[key]) for key in sorted(channels, key=int))
    if isinstance(channels, Sequence):
        return tuple(map(str, channels))
    raise _wrong("channel_names", 'is no object of numbers; write {"0": "CT"}')


def _read_cases(content: Mapping[str, Any]) -> list[ListedCase]:
    if isinstance(dataset := content.get("dataset"), dict):
        return [_read_case(f"dataset {name}", entry) for name, entry in dataset.items()]
    if isinstance(training := content.get("training"), list):
        return [_read_case(f"training {number}", entry) for number, entry in enumerate(training, 1)]
    return []


def _read_case(name: str, entry: Any) -> ListedCase:
    if not isinstance(entry, dict) or not isinstance(entry.get("label"), str):
        raise _wrong(name, "has no label; write its path")
    images = entry.get("images") or entry.get("image") or []
    images = [images] if isinstance(images, str) else images
    if not isinstance(images, list) or not all(isinstance(image, str) for image in images):
        raise _wrong(name, "has images that are no paths; write their paths")
    return ListedCase(name, entry["label"], tuple(images))
