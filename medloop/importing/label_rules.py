"""Label values of a source become classes: 0 the background, then 1, 2, ... without gaps, with names. Torch-free."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medloop.documents.names import normalise
from medloop.errors import SettingError
from medloop.imaging.dataset_json import DescribedLabels
from medloop.imaging.files import FileError
from medloop.imaging.label_values import advise_outside
from medloop.importing.cases import BACKGROUND
from medloop.importing.volume_files import read_source_volume

MAX_LABEL = 255
_MAX_VALUES = 4096
_TOLERANCE = 1e-3
"""Distance of a label from a whole number that is rounding."""
_MASK = 255
_SLAB = 16


@dataclass(frozen=True)
class LabelRule:
    """The classes that label values of the source become.

    Attributes:
        values: Class by value of a label map; other values become background.
        structures: Class by the name of a structure, for masks of one structure.
        names: Names by class, the background first; empty if the source has none.
        ignored: Values of voxels that aren't to be learnt.
        warnings: What was renumbered, named and left out.
    """

    values: Mapping[int, int] = field(default_factory=dict)
    structures: Mapping[str, int] = field(default_factory=dict)
    names: tuple[str, ...] = ()
    ignored: frozenset[int] = frozenset()
    warnings: tuple[str, ...] = ()

    def keeps(self, values: Iterable[int]) -> bool:
        """True if a label map with these values stays as it is."""
        return all(self.values.get(value, 0) == value for value in values)


def scan_label(path: Path) -> tuple[int, ...]:
    """The values that occur in a label map.

    Args:
        path: The file.

    Raises:
        FileError: It can't be read, or its values are no whole numbers.
    """
    voxels = read_source_volume(path).voxels
    values = _distinct(voxels)
    rounded = np.rint(values)
    outside = values[np.abs(values - rounded) > _TOLERANCE]
    if outside.size:
        shown = ", ".join(f"{value:g}" for value in outside[:5])
        raise FileError(
            path, f"has label values {shown} that are no whole numbers; {advise_outside(values, outside, None)}"
        )
    if len(values) > _MAX_VALUES:
        raise FileError(path, f"has {len(values)} label values, as an image has; replace it by the label map")
    return tuple(sorted({int(value) for value in rounded}))


def _distinct(voxels: NDArray[Any]) -> NDArray[Any]:
    """The values of an array, sorted; integers of 16 bits are counted, which is faster than sorting."""
    if voxels.dtype.kind not in "iu" or voxels.dtype.itemsize > 2:
        return np.unique(np.concatenate([np.unique(voxels[..., i]) for i in range(voxels.shape[2])]))
    info = np.iinfo(voxels.dtype)
    seen = np.zeros(info.max - info.min + 1, np.bool_)
    for start in range(0, voxels.shape[2], _SLAB):
        seen[voxels[..., start : start + _SLAB].astype(np.intp).ravel() - info.min] = True
    return np.flatnonzero(seen) + info.min


def remap(voxels: NDArray[Any], values: Mapping[int, int]) -> NDArray[np.uint8]:
    """A label map with the classes of its values, uint8 [X, Y, Z]; values without a class become background."""
    distinct = _distinct(voxels)
    classes = np.array([values.get(int(np.rint(value)), 0) for value in distinct], np.uint8)
    return classes[np.searchsorted(distinct, voxels)]


def choose_rule(
    values_of_labels: Sequence[Iterable[int]],
    structures: Iterable[str],
    described: DescribedLabels,
    labels: Sequence[str] | None,
) -> LabelRule:
    """Decide the classes.

    Args:
        values_of_labels: The values that occur in each label map.
        structures: Names of structures that have masks of their own.
        described: The source's names.
        labels: The user's names, the background first; others are left out.

    Raises:
        SettingError: The user's names don't fit, or there are too many classes.
    """
    used = set[int]().union(*values_of_labels)
    names, background = _split_background(described, used)
    ignored = _find_ignored(used, described)
    values = sorted(used - ignored - {background})
    texts = _distinct_names({value: names[value] for value in values if value in names}, sorted(set(structures)))
    classes: list[int | str] = [*values, *sorted(set(structures))]
    warnings = list(_describe_unused(names, used, background))
    if labels is not None:
        classes, chosen, notes = _choose(classes, texts, labels)
        warnings += notes
    else:
        chosen = _default_names(classes, texts, names.get(background, BACKGROUND))
    if len(classes) > MAX_LABEL:
        raise SettingError(
            f"--labels: the source has {len(classes)} structures, and a label map {MAX_LABEL}; name some"
        )
    numbers = {each: number for number, each in enumerate(classes, 1)}
    warnings += _describe_numbers({key: new for key, new in numbers.items() if isinstance(key, int)}, chosen)
    return LabelRule(
        {key: new for key, new in numbers.items() if isinstance(key, int)},
        {key: new for key, new in numbers.items() if isinstance(key, str)},
        tuple(chosen),
        frozenset(ignored),
        tuple(warnings),
    )


def _split_background(described: DescribedLabels, used: set[int]) -> tuple[dict[int, str], int]:
    """Names by value, those of regions included, and the background's value."""
    names = dict(described.names)
    for value in sorted(used - names.keys()):
        regions = [(len(values), name) for name, values in described.regions.items() if value in values]
        if regions:
            names[value] = min(regions)[1]
    background = next((value for value, name in names.items() if normalise(name).casefold() == BACKGROUND), 0)
    return names, background


def _find_ignored(used: set[int], described: DescribedLabels) -> set[int]:
    """Values that aren't to be learnt: the described one, negative ones, and 255 next to other unnamed classes."""
    ignored = {value for value in used if value < 0}
    if described.ignored is not None:
        ignored.add(described.ignored)
    if _MASK in used and _MASK not in described.names and used - {0, _MASK} - ignored and max(used) == _MASK:
        rest = used - {0, _MASK} - ignored
        if rest == set(range(1, len(rest) + 1)):
            ignored.add(_MASK)
    return ignored


def _distinct_names(names: Mapping[int, str], structures: Sequence[str]) -> dict[int | str, str]:
    """Names without commas, which divide names in options; a repeated one gets its value."""
    texts: dict[int | str, str] = {}
    seen: set[str] = {BACKGROUND}
    pairs: list[tuple[int | str, str]] = [*names.items(), *((each, each) for each in structures)]
    for key, name in pairs:
        text = " ".join(normalise(name).replace(",", " ").split()) or f"label {key}"
        text = f"{text} {key}" if text.casefold() in seen else text
        seen.add(text.casefold())
        texts[key] = text
    return texts


def _default_names(classes: Sequence[int | str], texts: Mapping[int | str, str], background: str) -> list[str]:
    """The source's names, and the values of those without; nothing if none has a name."""
    if not texts:
        return []
    return [background.replace(",", " "), *(texts.get(each, f"label {each}") for each in classes)]


def _choose(
    classes: Sequence[int | str], texts: Mapping[int | str, str], labels: Sequence[str]
) -> tuple[list[int | str], list[str], list[str]]:
    """The classes that the user names, in the user's order, and warnings of the others.

    Raises:
        SettingError: The names are no names of the source, and not as many as its values.
    """
    by_name = {normalise(text).casefold(): key for key, text in texts.items()}
    keys = [by_name.get(normalise(label).casefold()) for label in labels[1:]]
    if not any(key is not None for key in keys) and len(labels) == len(classes) + 1:
        return list(classes), list(labels), []
    if any(key is None for key in keys):
        known = ", ".join(texts.get(each, str(each)) for each in classes)
        unknown = ", ".join(label for label, key in zip(labels[1:], keys, strict=True) if key is None)
        raise SettingError(f"--labels: the source has no structure {unknown}; it has {known} (after the background)")
    chosen = [key for key in keys if key is not None]
    left_out = [texts.get(each, str(each)) for each in classes if each not in chosen]
    notes = [f"structures that --labels doesn't name are background: {', '.join(left_out)}"] if left_out else []
    return chosen, list(labels), notes


def _describe_unused(names: Mapping[int, str], used: set[int], background: int) -> Iterator[str]:
    unused = [f"{name} ({value})" for value, name in sorted(names.items()) if value not in used | {background}]
    if unused:
        yield f"no label has {', '.join(unused)}: left out of the names"


def _describe_numbers(numbers: Mapping[int, int], names: Sequence[str]) -> Iterator[str]:
    """State the values that were renumbered."""
    changed = [
        f"{value}{f' ({names[new]})' if names else ''} is {new}" for value, new in numbers.items() if value != new
    ]
    if changed:
        yield f"label values are renumbered without gaps: {', '.join(changed)}"
