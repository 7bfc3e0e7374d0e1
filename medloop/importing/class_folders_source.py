"""Pictures in class folders, at the top or in folders of splits. Torch-free."""

from __future__ import annotations

from pathlib import Path

from medloop.imaging.importable import PICTURE_ENDS, tops_of
from medloop.imaging.layouts import split_of_folder
from medloop.imaging.listing import DOCUMENTS, DataFolder
from medloop.importing.cases import ImportOptions, ImportPlan, Omission, ProgressBars
from medloop.importing.image_cases import LabelledImage, plan_pictures
from medloop.importing.patient_columns import NO_ROW, read_source_patients

OUTSIDE = "is outside a class folder; move it into one"


def plan_class_folders(folder: Path, options: ImportOptions, progress: ProgressBars) -> ImportPlan:
    """Take each picture in its class; splits stay.

    Raises:
        DataError: patients.csv can't be used.
        SettingError: The options don't fit.
    """
    root = DataFolder(folder)
    patients = read_source_patients(folder)
    images: list[LabelledImage] = []
    left_out: list[Omission] = []
    for top in tops_of(root):
        split = split_of_folder(top.name) if top is not root else None
        outside = [Omission((top.below(name),), OUTSIDE) for name in top.files_with(PICTURE_ENDS)]
        left_out += outside
        for group in top.folders:
            left_out += [
                Omission((inner.relative,), "is a folder inside a class folder; move its images into the class")
                for inner in group.folders
            ]
            for name in group.files:
                path = group.below(name)
                if not name.lower().endswith(PICTURE_ENDS):
                    if not name.lower().endswith(DOCUMENTS):
                        left_out.append(Omission((path,), "is no picture; convert or remove it"))
                    continue
                patient, attributes = patients.find(path)
                if patients.is_known and patient is None:
                    left_out.append(Omission((path,), NO_ROW))
                else:
                    images.append(LabelledImage(path, group.name, split, patient, attributes))
    return plan_pictures(folder, images, left_out, options)
