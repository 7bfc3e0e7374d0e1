"""Layouts of data sets other than medloop's: recognised by their folders, each with the steps to medloop's. Torch-free.

The steps are safe to follow: they move no two files to one name, keep a patient's name where a folder had it, and say
on what they depend if the folders alone don't tell (a folder may be a class, a patient or a split).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import islice

from medloop.documents.split import Task
from medloop.imaging.formats import IMAGE_SUFFIXES, VOLUME_SUFFIXES, find_suffix
from medloop.imaging.importable import IMAGE_FOLDERS, IMPORTABLE, MASK_END, MASK_FOLDERS, find_tables
from medloop.imaging.listing import IMAGE, LABEL, MAX_DEPTH, DataFolder, walk
from medloop.imaging.patients import PATIENTS_FILE
from medloop.imaging.problems import Problem

_ARCHIVES = (".zip", ".tar", ".tar.gz", ".tgz", ".7z", ".rar", ".tar.bz2", ".tar.xz")
_VIDEOS = (".mp4", ".avi", ".mov", ".mkv", ".wmv", ".mpg", ".mpeg")
_MAX_NAMES, _MAX_FOLDERS = 4, 200


@dataclass(frozen=True)
class Advice:
    """The layout that was found, and the steps to medloop's; `{0}`, `{1}`, ... stand for the names."""

    text: str
    names: tuple[str, ...] = ()

    def problem(self) -> Problem:
        """The problem of the data set; `names` are hidden where names may not appear."""
        return Problem("", self.text, names=self.names)


def recognise(root: DataFolder, task: Task) -> Problem | None:
    """Find the layout of a folder in which the task's own layout has no case; None for an unknown one."""
    for detect in _DETECTORS[task]:
        if advice := detect(root):
            return advice.problem()
    return recognise(root.folders[0], task) if len(root.folders) == 1 else None


def looks_like(root: DataFolder) -> set[Task]:
    """The tasks whose own layout the folder has, at its top or below split folders."""
    tops = [root, *root.folders]
    tasks: set[Task] = set()
    if any(_subjects(top) for top in tops):
        tasks.add("segmentation")
    if any(_classes(top) for top in tops):
        tasks.add("classification")
    return tasks


def tasks_by_files(root: DataFolder) -> set[Task]:
    """The tasks for which a folder in any layout has files."""
    folders = list(islice(walk(root), _MAX_FOLDERS))
    suffixes: dict[Task, tuple[str, ...]] = {"classification": IMAGE_SUFFIXES, "segmentation": VOLUME_SUFFIXES}
    return {task for task, known in suffixes.items() if any(folder.files_with(known) for folder in folders)}


def is_subject(folder: DataFolder) -> bool:
    """True if a folder has an image and a label under medloop's names."""
    stems = {name[: -len(suffix)] for name in folder.files if (suffix := find_suffix(name, VOLUME_SUFFIXES))}
    return {IMAGE, LABEL} <= stems


def mistaken_classes(top: DataFolder) -> Advice | None:
    """Images and masks of the same names, in two folders that would be read as two classes."""
    images, masks = top.find(*IMAGE_FOLDERS), top.find(*MASK_FOLDERS)
    if images is None or masks is None or len(top.folders) > 2:
        return None
    stems = {_stem(name) for name in images.files_with(IMAGE_SUFFIXES)}
    paired = [name for name in masks.files_with(IMAGE_SUFFIXES) if MASK_END.sub("", _stem(name)) in stems]
    if not stems or 2 * len(paired) < len(stems):
        return None
    text = "contains images and their masks ({0}, {1}), not classes; segmentation takes volumes (.nii.gz), so convert"
    return Advice(f"{text} them, or for classification make a folder per class of images", _names(images, masks))


def _names(*folders: DataFolder) -> tuple[str, ...]:
    return tuple(folder.relative for folder in folders)


def _stem(name: str) -> str:
    return name[: -len(suffix)] if (suffix := find_suffix(name, (*IMAGE_SUFFIXES, *VOLUME_SUFFIXES))) else name


def _subjects(top: DataFolder) -> list[DataFolder]:
    return [folder for folder in top.folders if is_subject(folder)]


def _classes(top: DataFolder) -> list[DataFolder]:
    return [folder for folder in top.folders if folder.files_with(IMAGE_SUFFIXES)]


def _listed(first: int, folders: list[DataFolder]) -> tuple[str, tuple[str, ...]]:
    """Placeholders of the folders' names, from a number on, and the names."""
    shown = folders[:_MAX_NAMES]
    more = f" and {len(folders) - len(shown)} more" if len(folders) > len(shown) else ""
    return ", ".join(f"{{{first + i}}}" for i in range(len(shown))) + more, tuple(folder.name for folder in shown)


def _one_subject(root: DataFolder) -> Advice | None:
    return (
        Advice("is the folder of one subject; give the folder that contains the subjects") if is_subject(root) else None
    )


def _nested(root: DataFolder) -> Advice | None:
    """A data set below one or more folders; others that are next to them contain no data."""
    if root.relative:
        return None
    data, inner = (*IMAGE_SUFFIXES, *VOLUME_SUFFIXES), root
    for _ in range(MAX_DEPTH):
        filled = [folder for folder in inner.folders if any(each.files_with(data) for each in walk(folder))]
        if len(filled) != 1 or inner.files_with(data):
            break
        inner = filled[0]
    if inner is root:
        return None
    folders = _subjects(inner) or _classes(inner) or [f for f in inner.folders if _classes(f) or _subjects(f)]
    if len(folders) < 2 and not _subjects(inner):
        return None
    kinds = "subjects" if _subjects(inner) else "classes (or the splits)"
    shown, names = _listed(1, folders)
    text = (
        f"contains one folder of data, and the folders in it are {shown}; if these are the {kinds}, give {{root}}/{{0}}"
    )
    if kinds != "subjects":
        text += "; if they are patients, make a folder per class instead"
    return Advice(text, (inner.relative, *names))


def _imported(*names: str) -> Callable[[DataFolder], Advice | None]:
    """Layouts that an import reads, by their names."""
    layouts = [layout for layout in IMPORTABLE if layout.name in names]

    def detect(root: DataFolder) -> Advice | None:
        for layout in layouts:
            if evidence := layout.detect(root):
                folder = f"{{root}}/{{{len(evidence.names)}}}" if root.relative else "{root}"
                text = f"has the layout of {layout.title} ({evidence.text}), which an import reads"
                text = f"{text}; run medloop data import {folder} NEW_FOLDER"
                return Advice(text, (*evidence.names, *([root.relative] if root.relative else [])))
        return None

    return detect


def _images_and_masks(root: DataFolder) -> Advice | None:
    """Pictures and their masks, at the top or below split folders."""
    return next((advice for top in (root, *root.folders) if (advice := mistaken_classes(top))), None)


def find_dicom(root: DataFolder) -> str | None:
    """The path of a DICOM file: with a usual suffix, or without one and beginning as DICOM does."""
    for folder in islice(walk(root), _MAX_FOLDERS):
        name = next(iter(folder.files_with((".dcm", ".dicom", ".ima"))), None)
        bare = (name for name in folder.files[:20] if "." not in name or name.replace(".", "").isdigit())
        name = name or next((name for name in bare if _is_dicom(folder, name)), None)
        if name:
            return folder.below(name)
    return None


def _dicom(root: DataFolder) -> Advice | None:
    """DICOM series, which an import converts."""
    name = find_dicom(root)
    text = "contains DICOM files, such as {0}, which are read by an import; run medloop data import {root} NEW_FOLDER"
    return Advice(text, (name,)) if name else None


def _is_dicom(folder: DataFolder, name: str) -> bool:
    try:
        with (folder.path / name).open("rb") as file:
            return file.read(132)[128:] == b"DICM"
    except OSError:
        return False


def _other_task(task: Task) -> Callable[[DataFolder], Advice | None]:
    def detect(root: DataFolder) -> Advice | None:
        other: Task = "segmentation" if task == "classification" else "classification"
        if looks_like(root) != {other}:
            return None
        return Advice(f"has the layout of a {other} data set; check and run it as {other}")

    return detect


def _images_two_deep(root: DataFolder) -> Advice | None:
    """Folders with folders of images: classes of patients, or patients (sites, splits) with class folders."""
    tops = [top for top in root.folders if _classes(top)]
    if not tops:
        return None
    if len(root.folders) == 1 and (advice := table_of_images(tops[0])):
        return advice
    inner = [folder for top in tops for folder in _classes(top)]
    if root.relative and len(root.folders) == 1:
        text = "has its classes one level deeper, in {0}; move {1} to {2} and so on, in each split"
        return Advice(text, (tops[0].relative, inner[0].relative, root.below(inner[0].name)))
    counts = {name: sum(folder.name == name for folder in inner) for name in {folder.name for folder in inner}}
    shown, names = _listed(3, tops)
    folder, top = inner[0], tops[0].name
    image = folder.files_with(IMAGE_SUFFIXES)[0]
    path = folder.below(image)
    if len(tops) > 1 and 2 * sum(count > 1 for count in counts.values()) >= len(counts):
        moved = root.below(f"{folder.name}/{top}_{image}")
        text = (
            f"has the same folders in each of {shown}; if these are splits, rename them train, val and test; if "
            "they are patients or sites and the folders in them are classes, move {0} to {1} and so on, and for "
            f"patients add {PATIENTS_FILE} with rows path,patient such as {{1}},{{2}}; if they are classes and the "
            f"folders in them patients, move {{0}} to {{{len(names) + 3}}} and so on, and give such rows"
        )
        return Advice(text, (path, moved, top, *names, root.below(f"{top}/{folder.name}_{image}")))
    moved = root.below(f"{top}/{folder.name}_{image}")
    text = (
        f"has folders of images inside {shown}; if {shown} are classes and the folders in them patients, move {{0}} to "
        f"{{1}} and so on, and add {PATIENTS_FILE} with rows path,patient such as {{1}},{{2}}; if they are splits, "
        "rename them train, val and test"
    )
    return Advice(text, (path, moved, folder.name, *names))


def _subjects_two_deep(root: DataFolder) -> Advice | None:
    tops = [top for top in root.folders if _subjects(top)]
    if not tops:
        return None
    subject = _subjects(tops[0])[0]
    shown, names = _listed(2, tops)
    text = (
        f"has its subjects one level deeper, in {shown}; if these are splits, rename them train, val and test; else "
        "move {0} to {1} and so on"
    )
    return Advice(text, (subject.relative, root.below(f"{tops[0].name}_{subject.name}"), *names))


def _other_names(root: DataFolder) -> Advice | None:
    """Subject folders whose volumes have other names."""
    folder = next((folder for folder in root.folders if len(folder.files_with(VOLUME_SUFFIXES)) > 1), None)
    if folder is None:
        return None
    volumes = folder.files_with(VOLUME_SUFFIXES)[:_MAX_NAMES]
    shown = ", ".join(f"{{{1 + i}}}" for i in range(len(volumes)))
    suffix = find_suffix(volumes[0], VOLUME_SUFFIXES)
    text = (
        f"has no {IMAGE}{suffix} and {LABEL}{suffix} in any folder; in each, such as {{0}} with {shown}, rename the "
        f"image to {IMAGE}{suffix} and its label map to {LABEL}{suffix}"
    )
    return Advice(text, (folder.relative, *volumes))


def _flat_volumes(root: DataFolder) -> Advice | None:
    volumes = root.files_with(VOLUME_SUFFIXES)
    if len(volumes) < 2:
        return None
    text = (
        f"has {len(volumes)} volumes in one folder, such as {{0}} and {{1}}; make a folder per subject: the image "
        f"becomes <subject>/{IMAGE}.nii.gz (or .nii, as it is), its label map <subject>/{LABEL}.nii.gz"
    )
    return Advice(text, (volumes[0], volumes[1]))


def table_of_images(root: DataFolder) -> Advice | None:
    """All images in one folder, next to a table that may have their classes."""
    holders = [folder for folder in (root, *root.folders) if folder.files_with(IMAGE_SUFFIXES)]
    tables = [*find_tables(root), *root.files_with((".xlsx", ".xls"))]
    if len(holders) != 1 or not tables:
        return None
    if advice := _imported("table")(root):
        return advice
    num = len(holders[0].files_with(IMAGE_SUFFIXES))
    text = f"has {num} images in one folder, next to the table {{0}}; if it has their classes, make a folder per class"
    return Advice(f"{text} and move each image into the folder of its class", (tables[0],))


def _flat_images(root: DataFolder) -> Advice | None:
    num = len(root.files_with(IMAGE_SUFFIXES))
    text = (
        f"has {num} images and no class folder; make a folder per class and move each image into the folder of its "
        "class, or give the folder above if this is one class"
    )
    return Advice(text) if num else None


def boxes(root: DataFolder) -> Advice | None:
    """YOLO's and COCO's layouts: images, and text files with boxes."""
    for top in (root, *root.folders):
        images, labels = top.find(*IMAGE_FOLDERS), top.find(*MASK_FOLDERS)
        files = [folder.files_with for folder in (labels, *labels.folders)] if labels else []
        texts = any(files_with((".txt", ".json", ".xml")) for files_with in files)
        if images and labels and texts and not any(each((*IMAGE_SUFFIXES, *VOLUME_SUFFIXES)) for each in files):
            text = "has images in {0} and text files with labels in {1}; detection is not supported: for"
            return Advice(f"{text} classification make a folder per class of images", _names(images, labels))
    return None


def _archives(root: DataFolder) -> Advice | None:
    archives = [name for name in root.files_with(_ARCHIVES) if not find_suffix(name, VOLUME_SUFFIXES)]
    if not archives or root.folders:
        return None
    return Advice("contains the archive {0}; unpack it, and give the unpacked folder", (archives[0],))


def _videos(root: DataFolder) -> Advice | None:
    for folder in islice(walk(root, 2), _MAX_FOLDERS):
        if videos := folder.files_with(_VIDEOS):
            text = (
                "contains videos, such as {0}; extract frames as images into class folders, and give the frames of one"
            )
            return Advice(f"{text} video one patient in {PATIENTS_FILE}", (folder.below(videos[0]),))
    return None


_COMMON = (_dicom, _archives, _videos)
_DETECTORS: dict[Task, tuple[Callable[[DataFolder], Advice | None], ...]] = {
    "classification": (
        *(
            _imported("nnunet", "decathlon"),
            _other_task("classification"),
            _imported("masks"),
            _images_and_masks,
            boxes,
        ),
        *(_nested, _images_two_deep, table_of_images, _flat_images, _imported("bids", "medmnist", "pairs"), *_COMMON),
    ),
    "segmentation": (
        *(_one_subject, _imported("nnunet", "decathlon", "masks"), _images_and_masks, _nested, _subjects_two_deep),
        *(_imported("bids", "table", "pairs"), _other_names, _flat_volumes, _other_task("segmentation"), *_COMMON),
    ),
}
"""In the order in which they are tried: the first that recognises the layout decides."""
