"""Sources of data sets, and the cases that an import makes of them. Torch-free.

A source is planned first, without decoding: which cases there will be, and which files are left out. Then its cases
are written, each on its own, on all cores.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from medloop.documents.split import Task
from medloop.imaging.listing import DataFolder
from medloop.imaging.progress_lines import Progress

BACKGROUND = "background"
ProgressBars = Callable[[str], AbstractContextManager[Progress]]
"""A progress bar by its title: the counted items, in the plural."""


def no_progress(_title: str) -> AbstractContextManager[Progress]:
    """Show nothing."""
    return nullcontext(lambda done, total: None)


@dataclass(frozen=True)
class ImportOptions:
    """Choices of the user.

    Attributes:
        key: Of the patients' pseudonyms.
        task: The task to import for; None lets the source decide.
        labels: Names by label value, the background first; structures that it doesn't name are left out. None takes
            the names of the source.
        attributes: Columns of patients.csv that are read from headers; no other is.
        class_by: Where the class of a 2D image is: `folder`, the DICOM keyword of a header field, or "" (automatic).
        accept_burned_in: Import images that may show a patient's name in their pixels.
        unlabelled: Write volumes without a label, too.
        pet: Values of PET volumes: SUV by body weight, or as stored.
        frames: Frames of a 2D cine loop that become images.
        channel: Name or number of the channel that is imported of images with several; "" for none.
        file: Name of the source's file in its folder, if the source is one file.
    """

    key: bytes
    task: Task | None = None
    labels: tuple[str, ...] | None = None
    attributes: tuple[str, ...] = ()
    class_by: str = ""
    accept_burned_in: bool = False
    unlabelled: bool = False
    pet: Literal["suv", "stored"] = "suv"
    frames: Literal["middle", "all"] = "middle"
    channel: str = ""
    file: str = ""


@dataclass(frozen=True)
class Omission:
    """Source files that are in no case.

    Attributes:
        files: They, relative to the source.
        reason: The reason and the fix, without a name.
    """

    files: tuple[str, ...]
    reason: str


@dataclass(frozen=True)
class ImportCase:
    """A case to be written.

    Attributes:
        name: The subject's folder, or the image's path, in the data set; POSIX.
        files: Source files that it is made of, relative to the source.
        write: Writes the case to a path that isn't there: a folder with `img` and `label`, or an image. It returns
            warnings, and raises DataError for files that can't be used. It runs in another process.
        recipe: What decides the content besides the files, such as options; with the files' sizes and times it tells
            if a case of an earlier import is still the same.
        patient: As patients.csv will name the patient; None if unknown.
        attributes: Further columns of patients.csv.
        warnings: What is odd about the source files.
        num_voxels: Voxels that writing it holds in memory at once; 0 for few.
    """

    name: str
    files: tuple[str, ...]
    write: Callable[[Path], tuple[str, ...]]
    recipe: str = ""
    patient: str | None = None
    attributes: Mapping[str, str] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    num_voxels: int = 0


@dataclass(frozen=True)
class ImportPlan:
    """The cases of a source, and what is left out.

    Attributes:
        task: The task of the data set.
        cases: No two have one name.
        left_out: Files that are in no case.
        labels: Names by label value, the background first (segmentation).
        warnings: Warnings about the source as a whole, without names.
    """

    task: Task
    cases: tuple[ImportCase, ...]
    left_out: tuple[Omission, ...] = ()
    labels: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class DataSource:
    """A kind of source; one row of `medloop.importing.sources`.

    Attributes:
        name: On the command line and in reports.
        title: In messages.
        recognise: Evidence that a folder is of this kind, as `contains DICOM files, such as A/1`; None if it is not.
        plan: (folder, options, progress bars) to the cases; raises UserError if the options don't fit.
    """

    name: str
    title: str
    recognise: Callable[[DataFolder], str | None]
    plan: Callable[[Path, ImportOptions, ProgressBars], ImportPlan]
