"""Predictors: the interface of a model for its evaluation, and how one is loaded from a model folder."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

from numpy.typing import NDArray

from medloop.documents.artefact import ARTEFACT_DIGEST, MODEL_DIGEST, digest_of_model, digest_of_stream
from medloop.documents.file_names import ARCHIVE_FILE, MODEL_FILE
from medloop.documents.model import ModelRecord
from medloop.documents.split import Task
from medloop.errors import DataError


class ImageModel(Protocol):
    """A classifier of images; `medloop.imaging.classify_predictor.ImagePredictor` is one."""

    @property
    def record(self) -> ModelRecord:
        """model.json."""

    def probabilities(self, paths: Sequence[Path]) -> NDArray[Any]:
        """[N, C]; rows sum to 1."""


class Labels(Protocol):
    """A label map on its volume's own grid."""

    @property
    def labels(self) -> NDArray[Any]:
        """[X, Y, Z] label values."""


class VolumeModel(Protocol):
    """A segmentation model; `medloop.imaging.segment_predictor.VolumePredictor` is one."""

    @property
    def record(self) -> ModelRecord:
        """model.json."""

    def segment(self, path: Path) -> Labels:
        """Predict the label map of the volume in a file."""


Loader = Callable[[Path, Task], Any]
"""Loads an ImageModel or a VolumeModel from a model folder, by the task."""


def load_predictor(folder: Path, task: Task) -> ImageModel | VolumeModel:
    """Load the model in a folder that holds model.tar.gz or its files.

    Raises:
        DataError: The folder has no such model, or one for the other task.
    """
    # torch and MONAI take seconds to import, and a caller with its own predictor needs neither.
    from medloop.imaging.model_files import unpack_model

    with tempfile.TemporaryDirectory(prefix="medloop-model-") as scratch:
        unpacked = unpack_model(folder, Path(scratch))
        require_task(ModelRecord.read(unpacked), task)
        if task == "classification":
            from medloop.imaging.classify_predictor import ImagePredictor

            return ImagePredictor.load(unpacked)
        from medloop.imaging.segment_predictor import VolumePredictor

        return VolumePredictor.load(unpacked)


def digests_of_model(folder: Path) -> dict[str, str]:
    """Return the digests of a model by their names: of model.tar.gz if there is one, and of the files that are served.

    Args:
        folder: Contains model.tar.gz or the model's files; anything else has no digest.

    Raises:
        DataError: The archive or a file can't be read.
    """
    archive = folder / ARCHIVE_FILE
    if not archive.is_file() and not (folder / MODEL_FILE).is_file():
        return {}
    from medloop.imaging.model_files import unpack_model

    try:
        with tempfile.TemporaryDirectory(prefix="medloop-model-") as scratch:
            digests = {MODEL_DIGEST: digest_of_model(unpack_model(folder, Path(scratch)))}
        if archive.is_file():
            with archive.open("rb") as file:
                digests[ARTEFACT_DIGEST] = digest_of_stream(file)
    except OSError as error:
        name = Path(str(error.filename)).name
        raise DataError(f"{name}: can't be read ({error.strerror}); give a training job's own model") from None
    return digests


def require_task(record: ModelRecord, task: Task) -> None:
    """Refuse a model made for the other task.

    Raises:
        DataError: It was.
    """
    if record.task != task:
        raise DataError(f"model.json: task is {record.task}, not {task}; give a {task} model or --task {record.task}")
