"""Layouts of others that `medloop data import` reads, recognised by their folders and names; one row each. Torch-free.

`data check` names the import for each; `medloop.importing.sources` has a reader for each.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Container, Iterator
from dataclasses import dataclass
from itertools import islice

from medloop.imaging.formats import IMAGE_SUFFIXES, VOLUME_SUFFIXES, find_suffix
from medloop.imaging.listing import LABEL, DataFolder, walk
from medloop.imaging.patients import PATIENTS_FILE

VOLUME_ENDS = (*VOLUME_SUFFIXES, ".mha", ".mhd", ".nrrd", ".nhdr")
"""Suffixes of volumes that imports read."""
PICTURE_ENDS = (*IMAGE_SUFFIXES, ".gif", ".jp2", ".j2k", ".pgm", ".ppm", ".pbm", ".pnm", ".tga", ".avif")
"""Suffixes of pictures that imports read."""
NNUNET_IMAGE = re.compile(r"(.+)_(\d{4})")
"""An image's name without its suffix: case and channel."""
IMAGE_FOLDERS = ("images", "image", "imgs", "img", "scans", "volumes")
MASK_FOLDERS = (
    *("masks", "mask", "labels", "label", "segmentations", "segmentation", "segs", "seg"),
    *("annotations", "annotation", "groundtruth", "ground_truth", "gt"),
)
_MASK_WORD = "mask|label|labelmap|seg|segmentation|gt|dseg|annotation|roi"
MASK_END = re.compile(rf"[ _.-]?({_MASK_WORD})s?$", re.IGNORECASE)
MASK_START = re.compile(rf"^({_MASK_WORD})s?[ _.-]", re.IGNORECASE)
_IMAGE_WORD = "img|image|scan|volume|vol"
IMAGE_END = re.compile(rf"[ _.-]({_IMAGE_WORD})s?$", re.IGNORECASE)
IMAGE_START = re.compile(rf"^({_IMAGE_WORD})s?[ _.-]", re.IGNORECASE)
TABLE_ENDS = (".csv", ".tsv", ".parquet")
_SPLITS = ("train", "training", "val", "valid", "validation", "validate", "test", "testing")
_MAX_FOLDERS = 200


@dataclass(frozen=True)
class LayoutEvidence:
    """The reason for which a folder has a layout; `{0}`, `{1}`, ... stand for the names."""

    text: str
    names: tuple[str, ...] = ()

    def __str__(self) -> str:
        """The reason, with the names."""
        return self.text.format(*self.names)


@dataclass(frozen=True)
class ImportableLayout:
    """A layout that imports read.

    Attributes:
        name: On the command line and in reports.
        title: In messages.
        detect: LayoutEvidence that a folder has the layout; None if it has not.
    """

    name: str
    title: str
    detect: Callable[[DataFolder], LayoutEvidence | None]


def stem_of(name: str) -> str:
    """A volume's name without its suffix."""
    return name[: -len(suffix)] if (suffix := find_suffix(name, VOLUME_ENDS)) else name


def is_mask(stem: str) -> bool:
    """True if a volume's name says that it is a label."""
    return bool(MASK_END.search(stem) or MASK_START.search(stem))


def image_keys(stem: str) -> list[str]:
    """Cases that an image's name may stand for: itself, without `img` and similar words, without a channel's number."""
    plain = _without_image(stem)
    match = NNUNET_IMAGE.fullmatch(stem)
    return list(dict.fromkeys([stem, plain, *([match[1], _without_image(match[1])] if match else [])]))


def choose_key(stem: str, labels: Container[str]) -> str:
    """The case of an image's name: the one that has a label, else the name without `img` and similar words."""
    return next((key for key in image_keys(stem) if key in labels), _without_image(stem))


def _without_image(stem: str) -> str:
    return IMAGE_START.sub("", IMAGE_END.sub("", stem, 1), 1) or stem


def mask_key(stem: str) -> str:
    """The case of a label's name."""
    return IMAGE_START.sub("", MASK_START.sub("", MASK_END.sub("", stem, 1), 1), 1) or stem


def tops_of(root: DataFolder) -> list[DataFolder]:
    """The folder, or those of its splits if one of them is for training."""
    splits = [folder for folder in root.folders if folder.name.lower() in _SPLITS]
    return splits if any(folder.name.lower().startswith("train") for folder in splits) else [root]


def _folders_of_nnunet(root: DataFolder) -> tuple[DataFolder, DataFolder] | None:
    images, labels = root.find("imagestr"), root.find("labelstr")
    return (images, labels) if images and labels else None


def _has_channels(images: DataFolder, labels: DataFolder) -> bool:
    """True if numbers at the end of images' names are channels: labels have none, or another one."""
    cases = {stem_of(name) for name in labels.files_with(VOLUME_ENDS)}
    stems = [stem_of(name) for name in images.files_with(VOLUME_ENDS)]
    matches = [match[1] for stem in stems if (match := NNUNET_IMAGE.fullmatch(stem))]
    return any(case in cases for case in matches) or (bool(matches) and cases.isdisjoint(stems))


def _detect_nnunet(root: DataFolder) -> LayoutEvidence | None:
    """nnU-Net: imagesTr/CASE_0000, labelsTr/CASE."""
    folders = _folders_of_nnunet(root)
    if folders is None or not _has_channels(*folders):
        return None
    names = tuple(folder.relative for folder in folders)
    return LayoutEvidence("contains {0} and {1}, and images end in _0000", names)


def _detect_decathlon(root: DataFolder) -> LayoutEvidence | None:
    """The Medical Segmentation Decathlon: imagesTr/CASE, labelsTr/CASE."""
    folders = _folders_of_nnunet(root)
    if folders is None or _has_channels(*folders):
        return None
    return LayoutEvidence("contains {0} and {1}", tuple(folder.relative for folder in folders))


def bids_volumes(root: DataFolder) -> Iterator[tuple[DataFolder, str]]:
    """The volumes of a folder in BIDS's layout, with their folders."""
    for folder in walk(root):
        for name in folder.files_with(VOLUME_ENDS):
            if name.startswith("sub-"):
                yield folder, name


def _detect_bids(root: DataFolder) -> LayoutEvidence | None:
    """BIDS: sub-ID/[ses-ID/]anat/sub-ID_SUFFIX.nii.gz; labels mostly below derivatives."""
    subject = next((folder for folder in root.folders if folder.name.startswith("sub-") and folder.folders), None)
    if subject is None:
        return None
    first = next((folder.below(name) for folder, name in bids_volumes(subject)), None)
    return LayoutEvidence("contains volumes of BIDS, such as {0}", (first,)) if first else None


def _detect_medmnist(root: DataFolder) -> LayoutEvidence | None:
    """MedMNIST: NAME.npz with train_images, train_labels and so on."""
    from medloop.imaging.npz import MEDMNIST_ARRAYS, list_arrays

    for name in root.files_with((".npz",)):
        if set(MEDMNIST_ARRAYS) <= list_arrays(root.path / name).keys():
            return LayoutEvidence("contains MedMNIST's arrays in {0}", (name,))
    return None


def find_tables(root: DataFolder) -> list[str]:
    """Tables in a folder that may be labels."""
    return [name for name in root.files_with(TABLE_ENDS) if name.lower() != PATIENTS_FILE]


def _detect_table(root: DataFolder) -> LayoutEvidence | None:
    """labels.csv: a row for each file, with its label."""
    from medloop.imaging.label_tables import find_columns, read_heading

    folders = list(islice(walk(root), _MAX_FOLDERS))
    if not any(folder.files_with((*PICTURE_ENDS, *VOLUME_ENDS)) for folder in folders):
        return None
    for name in find_tables(root):
        columns = find_columns(read_heading(root.path / name))
        if columns is not None:
            return LayoutEvidence(f"contains the table {{0}} with columns {columns.path} and {columns.label}", (name,))
    return None


def mask_folders(root: DataFolder) -> Iterator[tuple[DataFolder, DataFolder, str]]:
    """Folders of images and of their masks, with the name of the split that they are in, or ""."""
    for top in tops_of(root):
        images, masks = top.find(*IMAGE_FOLDERS), top.find(*MASK_FOLDERS)
        if not images or not masks:
            continue
        inner = tops_of(images)
        if inner[0] is images:
            yield images, masks, top.name if top is not root else ""
            continue
        for folder in inner:
            if other := masks.find(folder.name.lower()):
                yield folder, other, folder.name


def _detect_mask_folders(root: DataFolder) -> LayoutEvidence | None:
    """images/CASE.nii.gz and masks/CASE.nii.gz, at the top or in folders of splits."""
    for images, masks, _ in mask_folders(root):
        stems = {key for name in images.files_with(VOLUME_ENDS) for key in image_keys(stem_of(name))}
        labelled = {mask_key(stem_of(name)) for folder in walk(masks, 1) for name in folder.files_with(VOLUME_ENDS)}
        labelled |= {folder.name for folder in masks.folders}
        if stems & labelled:
            return LayoutEvidence("contains images in {0} and their labels in {1}", (images.relative, masks.relative))
    return None


def _detect_pairs(root: DataFolder) -> LayoutEvidence | None:
    """Images and labels in one folder, or in one folder for each subject."""
    for top in tops_of(root):
        for folder in (top, *islice(top.folders, _MAX_FOLDERS)):
            images, masks = split_volumes(folder)
            if not images or not (masks or (folder is not top and folder.find(*MASK_FOLDERS))):
                continue
            if folder is not top and masks:
                return LayoutEvidence("contains image and label in {0}", (folder.relative,))
            if folder is not top and any(f.files_with(VOLUME_ENDS) for f in folder.folders):
                return LayoutEvidence("contains an image and folders of masks in {0}", (folder.relative,))
            keys = {key: name for name in images for key in image_keys(stem_of(name))}
            pair = next((name for name in masks if mask_key(stem_of(name)) in keys), None)
            if pair:
                names = (folder.below(keys[mask_key(stem_of(pair))]), folder.below(pair))
                return LayoutEvidence("contains pairs of images and labels, such as {0} and {1}", names)
    return None


def split_volumes(folder: DataFolder) -> tuple[list[str], list[str]]:
    """Names of a folder's images, and of its labels."""
    volumes = folder.files_with(VOLUME_ENDS)
    are_masks = [is_mask(stem_of(name)) or stem_of(name).lower() == LABEL for name in volumes]
    images, masks = ([n for n, each in zip(volumes, are_masks, strict=True) if each is kind] for kind in (False, True))
    return images, masks


def _detect_classes(root: DataFolder) -> LayoutEvidence | None:
    """CLASS/IMAGE, in any format of pictures."""
    for top in tops_of(root):
        classes = [folder for folder in top.folders if folder.files_with(PICTURE_ENDS)]
        are_masks = len(classes) == 2 and top.find(*IMAGE_FOLDERS) and top.find(*MASK_FOLDERS)
        if len(classes) > 1 and not are_masks:
            return LayoutEvidence(
                "contains folders of pictures, such as {0} and {1}", tuple(f.relative for f in classes[:2])
            )
    return None


IMPORTABLE: tuple[ImportableLayout, ...] = (
    ImportableLayout("nnunet", "nnU-Net", _detect_nnunet),
    ImportableLayout("decathlon", "the Medical Segmentation Decathlon", _detect_decathlon),
    ImportableLayout("bids", "BIDS", _detect_bids),
    ImportableLayout("medmnist", "MedMNIST", _detect_medmnist),
    ImportableLayout("table", "a table of labels", _detect_table),
    ImportableLayout("masks", "folders of images and masks", _detect_mask_folders),
    ImportableLayout("pairs", "pairs of images and labels", _detect_pairs),
    ImportableLayout("classes", "class folders", _detect_classes),
)
"""In the order in which they are tried."""
