"""BIDS: images of subjects and sessions, and the label maps and masks in derivatives. Torch-free.

Source: https://bids-specification.readthedocs.io, imaging derivatives: `_dseg` label maps with names in `dseg.tsv`,
`_mask` masks of a structure that `label` or `desc` names.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from medloop.documents.names import normalise
from medloop.errors import DataError
from medloop.imaging.dataset_json import DescribedLabels
from medloop.imaging.importable import bids_volumes, stem_of
from medloop.imaging.label_tables import read_label_table
from medloop.imaging.listing import DataFolder, walk
from medloop.importing.cases import ImportOptions, ImportPlan, Omission, ProgressBars
from medloop.importing.patient_columns import AttributeColumns, choose_columns
from medloop.importing.subject_cases import MaskFile, VolumePair, choose_axis, choose_channel, plan_pairs

PARTICIPANTS = "participants.tsv"
_LABEL_MAPS, _MASKS = ("dseg", "seg"), ("mask", "roi")
_DIGITS = 9
_OWN_SPACES = ("", "orig", "native", "individual", "scanner", "t1w", "t2w", "flair", "ct", "pet")


@dataclass(frozen=True)
class BidsFile:
    """A volume's entities.

    Attributes:
        path: Relative to the source.
        entities: Value by key: sub, ses, label, ...
        suffix: Of its name: T1w, dseg, mask.
        is_derived: True below derivatives.
    """

    path: str
    entities: Mapping[str, str]
    suffix: str
    is_derived: bool

    @property
    def session(self) -> str:
        """Subject and session: the case."""
        return "_".join(f"{key}-{self.entities[key]}" for key in ("sub", "ses") if key in self.entities)

    @property
    def kind(self) -> str:
        """The distinction between the images of a session: further entities, and the suffix."""
        rest = [f"{key}-{value}" for key, value in self.entities.items() if key not in ("sub", "ses")]
        return "_".join([*rest, self.suffix])

    @property
    def is_label(self) -> bool:
        """True if it is a label map or a mask."""
        return self.suffix in (*_LABEL_MAPS, *_MASKS)


UNNAMED = "is not named as BIDS names volumes; rename it sub-ID_SUFFIX"


def plan_bids(folder: Path, options: ImportOptions, progress: ProgressBars) -> ImportPlan:
    """Take the image of each session that the user chooses, and join its label maps and masks.

    Raises:
        DataError: participants.tsv or dseg.tsv can't be used.
        SettingError: The options don't fit.
    """
    root = DataFolder(folder)
    parsed = [_parse(each, name) for each, name in bids_volumes(root)]
    files = [file for file in parsed if "sub" in file.entities]
    left_out = [Omission((file.path,), UNNAMED) for file in parsed if "sub" not in file.entities]
    labels = _labels_by_session([file for file in files if file.is_label], left_out)
    images: dict[str, list[BidsFile]] = defaultdict(list)
    derived = tuple(file.path for file in files if not file.is_label and file.is_derived)
    for file in files:
        if not file.is_label and not file.is_derived:
            images[file.session].append(file)
    if derived:
        left_out.append(Omission(derived, "is derived (images, probabilities); the raw images are imported"))
    kind = _choose_kind(images, labels, options.channel)
    pairs = list(_pairs(images, labels, kind, left_out))
    attributes, warnings = _read_participants(folder, options)
    pairs = [replace(pair, attributes=attributes.get(pair.patient or "", {})) for pair in pairs]
    axis = choose_axis(folder, [pair.image for pair in pairs if pair.masks or options.unlabelled], (), options.channel)
    pairs = [replace(pair, channel=axis) for pair in pairs]
    plan = plan_pairs(folder, pairs, options, progress, DescribedLabels(dict(_read_names(root, labels))))
    return replace(plan, left_out=(*left_out, *plan.left_out), warnings=(*warnings, *plan.warnings))


def _parse(folder: DataFolder, name: str) -> BidsFile:
    *parts, suffix = stem_of(name).split("_")
    entities = {key: value for key, dash, value in (part.partition("-") for part in parts) if dash}
    is_derived = "derivatives" in folder.relative.lower().split("/")
    return BidsFile(folder.below(name), entities, suffix, is_derived)


def _labels_by_session(files: Sequence[BidsFile], left_out: list[Omission]) -> dict[str, list[BidsFile]]:
    labels: dict[str, list[BidsFile]] = defaultdict(list)
    for file in files:
        if file.entities.get("space", "").lower() not in _OWN_SPACES:
            left_out.append(Omission((file.path,), "is in a template's space (space), not on its image's grid"))
        else:
            labels[file.session].append(file)
    return labels


def _choose_kind(
    images: Mapping[str, Sequence[BidsFile]], labels: Mapping[str, Sequence[BidsFile]], chosen: str
) -> str:
    """The kind of image that is imported; "" where each session has one image."""
    labelled = {session: files for session, files in images.items() if session in labels} or images
    if all(len(files) == 1 for files in labelled.values()):
        return ""
    names = list(dict.fromkeys(file.kind for files in labelled.values() for file in files))
    return names[choose_channel(names, chosen)]


def _pairs(
    images: Mapping[str, Sequence[BidsFile]],
    labels: Mapping[str, Sequence[BidsFile]],
    kind: str,
    left_out: list[Omission],
) -> Iterator[VolumePair]:
    for session, files in images.items():
        image = next((file for file in files if file.kind == kind), files[0] if not kind or len(files) == 1 else None)
        masks = labels.get(session, [])
        maps = [file for file in masks if file.suffix in _LABEL_MAPS]
        if image is None:
            left_out.append(Omission(tuple(file.path for file in files), f"has no image {kind}, which is imported"))
        elif len(maps) > 1:
            files_of = tuple(file.path for file in (*maps, image))
            left_out.append(Omission(files_of, "are several label maps of one session; keep one in the source"))
        else:
            patient = normalise(f"sub-{image.entities['sub']}")
            yield VolumePair(session, image.path, tuple(map(_mask, masks)), patient=patient)
    for session, masks in labels.items():
        if session not in images:
            left_out.append(Omission(tuple(mask.path for mask in masks), "is a label without an image; add the image"))


def _mask(file: BidsFile) -> MaskFile:
    if file.suffix in _LABEL_MAPS and "label" not in file.entities:
        return MaskFile(file.path)
    return MaskFile(file.path, file.entities.get("label") or file.entities.get("desc") or file.suffix)


def _read_names(root: DataFolder, labels: Mapping[str, Sequence[BidsFile]]) -> Iterator[tuple[int, str]]:
    """Names by label value from the tables next to label maps.

    Raises:
        DataError: A table can't be used, or two disagree.
    """
    if not any(file.suffix in _LABEL_MAPS for files in labels.values() for file in files):
        return
    names: dict[int, tuple[str, str]] = {}
    for folder in walk(root):
        for name in folder.files_with(("dseg.tsv",)):
            for value, text in _names_of(folder.path / name):
                known, path = names.setdefault(value, (text, folder.below(name)))
                if known != text:
                    raise DataError(
                        f"{folder.below(name)}: index {value} is {text}, and {known} in {path}; correct one"
                    )
    yield from ((value, text) for value, (text, _) in names.items())


def _names_of(path: Path) -> Iterator[tuple[int, str]]:
    table = read_label_table(path)
    columns = {name.casefold(): name for name in table.heading}
    if "index" not in columns or "name" not in columns:
        raise DataError(f"{path.name}: has no columns index and name; add them")
    seen: dict[int, int] = {}
    for number, cells in table.rows:
        index = cells[columns["index"]].removesuffix(".0")
        if not index.isdecimal() or len(index) > _DIGITS:
            raise DataError(f"{path.name} row {number}: column index is {index!r}; write a label value")
        if int(index) in seen:
            raise DataError(f"{path.name} row {number}: index {index} repeats row {seen[int(index)]}; remove one")
        seen[int(index)] = number
        yield int(index), cells[columns["name"]]


def _read_participants(folder: Path, options: ImportOptions) -> tuple[dict[str, dict[str, str]], list[str]]:
    """Attributes by participant, and warnings."""
    if not (folder / PARTICIPANTS).is_file():
        return {}, []
    table = read_label_table(folder / PARTICIPANTS)
    if "participant_id" not in table.heading:
        raise DataError(f"{PARTICIPANTS}: has no column participant_id; add it")
    columns: AttributeColumns = choose_columns(table.heading, ("participant_id",), options.attributes)
    warnings = [*columns.describe_ignored(PARTICIPANTS)]
    warnings += [f"{PARTICIPANTS} row {number}: has another number of cells and is not read" for number in table.uneven]
    rows: dict[str, dict[str, str]] = {}
    for number, cells in table.rows:
        name = normalise(cells["participant_id"])
        name = name if name.startswith("sub-") else f"sub-{name}"
        values = columns.values(cells)
        if rows.setdefault(name, values) != values:
            warnings.append(
                f"{PARTICIPANTS} row {number}: repeats a participant with other values; the participant has none"
            )
            rows[name] = {}
    return rows, warnings
