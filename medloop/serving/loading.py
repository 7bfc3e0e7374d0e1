"""Loads a model folder as a service and warms it up. Imports torch."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np

from medloop.documents.artefact import MODEL_DIGEST_VARIABLE, digest_of_model
from medloop.documents.model import ModelRecord
from medloop.errors import DataError
from medloop.imaging.model_files import unpack_model
from medloop.serving.service import Service
from medloop.serving.settings import ServeSettings


def load_service(settings: ServeSettings) -> Service:
    """Load the model and run it once: the first request is as fast as the others, and weights that don't fit fail now.

    Only model.json and model.safetensors of the folder are read.

    Raises:
        DataError: The folder holds no model, or one that can't be used, or another than the registered one; the message
            names the file or the digest.
    """
    if not settings.model_dir.is_dir():
        raise DataError(f"model folder {settings.model_dir.name} is missing; set --model-dir DIR")
    with tempfile.TemporaryDirectory(prefix="medloop-model-") as scratch:
        folder = unpack_model(settings.model_dir, Path(scratch))
        if settings.model_sha256:
            _check_digest(folder, settings.model_sha256)
        if ModelRecord.read(folder).task == "classification":
            return _load_images(folder, settings)
        return _load_volumes(folder, settings)


def _check_digest(folder: Path, expected: str) -> None:
    """Refuse a model that isn't the registered one.

    Raises:
        DataError: The digests differ, or a file can't be read.
    """
    try:
        digest = digest_of_model(folder)
    except OSError as error:
        name = Path(str(error.filename)).name
        raise DataError(f"{name}: can't be read ({error.strerror}); give the training job's own file") from None
    if digest.removeprefix("sha256:") != expected.removeprefix("sha256:"):
        raise DataError(
            f"the model has the digest {digest}, and {MODEL_DIGEST_VARIABLE} is {expected}: it isn't the model "
            "that was registered; restore model.tar.gz, or run the pipeline again"
        )


def _load_images(folder: Path, settings: ServeSettings) -> Service:
    from medloop.imaging.classify_predictor import ImagePredictor
    from medloop.serving.image_service import ImageService

    predictor = ImagePredictor.load(folder, settings.device)
    predictor.score_pixels(np.zeros((8, 8), np.uint8))
    return ImageService(predictor, settings)


def _load_volumes(folder: Path, settings: ServeSettings) -> Service:
    from medloop.imaging.files import Volume
    from medloop.imaging.segment_predictor import VolumePredictor
    from medloop.serving.volume_service import VolumeService

    predictor = VolumePredictor.load(folder, settings.device)
    predictor.segment_volume(Volume(np.zeros((8, 8, 8), np.uint8), np.eye(4)))
    return VolumeService(predictor, settings)
