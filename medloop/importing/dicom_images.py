"""2D images made of DICOM, in class folders. Torch-free."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from medloop.dicom.attributes import compute_attributes
from medloop.dicom.instances import DicomFile
from medloop.dicom.projections import write_png
from medloop.documents.names import tidy
from medloop.importing.cases import ImportCase, ImportOptions, Omission
from medloop.importing.dicom_patients import PatientNames
from medloop.importing.dicom_subjects import PlannedCases

ClassRule = Callable[[DicomFile], str]
"""The class of an image; "" if it is not known."""
_RECIPE = "dicom image 1"


def choose_class_rule(folder: Path, images: Sequence[DicomFile], class_by: str) -> ClassRule | None:
    """Find where the classes of images are: in a header's element, or in the names of the source's folders.

    Folders are taken as classes if the user says so, or if they can't be patients: there are several, and one has
    images of several patients.
    """
    if class_by not in ("", "folder"):
        return lambda image: image.chosen.get(class_by, "")
    patients: dict[str, set[str]] = defaultdict(set)
    for image in images:
        patients[_top_folder(folder, image)].add(image.patient or image.study)
    patients.pop("", None)
    is_sure = len(patients) > 1 and max(map(len, patients.values())) > 1
    return partial(_top_folder, folder) if class_by == "folder" or is_sure else None


def _top_folder(folder: Path, image: DicomFile) -> str:
    parts = image.path.relative_to(folder).parts
    return parts[0] if len(parts) > 1 else ""


def plan_images(
    folder: Path, images: Sequence[DicomFile], options: ImportOptions, names: PatientNames, rule: ClassRule | None
) -> PlannedCases:
    """Make a case of each image, or of each frame."""
    planned = PlannedCases()
    copies: set[str] = set()
    for image in images:
        path = image.path.relative_to(folder).as_posix()
        group = _folder_name(rule(image)) if rule else ""
        if image.uid in copies:
            planned.left_out.append(Omission((path,), "is a copy of another file (the same SOPInstanceUID)"))
        elif not group:
            fix = "give --class-by folder if the source's folders are the classes, or --class-by KEYWORD of a header"
            planned.left_out.append(Omission((path,), f"its class is not known; {fix}"))
        else:
            planned.cases += [
                _make_case(path, group, image, frame, options, names) for frame in _frames(image, options)
            ]
        copies.add(image.uid)
    return planned


def _folder_name(group: str) -> str:
    """A class's name as a folder's."""
    return tidy(group).replace("/", "-").replace("\\", "-").lstrip(".")


def _frames(image: DicomFile, options: ImportOptions) -> Sequence[int]:
    return range(image.num_frames) if options.frames == "all" else [image.num_frames // 2]


def _make_case(
    path: str, group: str, image: DicomFile, frame: int, options: ImportOptions, names: PatientNames
) -> ImportCase:
    patient = names.patient(image)
    end = f"-{frame:04d}" if image.num_frames > 1 else ""
    note = f"is frame {frame + 1} of {image.num_frames}; --frames all imports each"
    return ImportCase(
        name=f"{group}/{patient}-{names.item(image.uid or path)}{end}.png",
        files=(path,),
        write=partial(_write, image.path, frame),
        recipe=json.dumps([_RECIPE, frame]),
        patient=patient,
        attributes=compute_attributes(options.attributes, image.chosen),
        warnings=(note,) if image.num_frames > 1 and options.frames == "middle" else (),
    )


def _write(source: Path, frame: int, target: Path) -> tuple[str, ...]:
    write_png(source, frame, target)
    return ()
