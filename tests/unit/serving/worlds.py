"""Endpoints around networks that compute something known, and files to send to them."""

from __future__ import annotations

import gzip
import io
from typing import Any

import nibabel as nib
import numpy as np
import torch
from fastapi.testclient import TestClient
from PIL import Image
from torch import Tensor, nn

from medloop.documents.model import Best, ImagePreprocessing, ModelRecord, Network, TrainedOn, VolumePreprocessing
from medloop.imaging.classify_predictor import ImagePredictor
from medloop.serving.app import ServingState, make_app
from medloop.serving.image_service import ImageService
from medloop.serving.service import Service
from medloop.serving.settings import ServeSettings
from medloop.serving.volume_service import VolumeService
from tests.unit.imaging.test_segment_predictor import OBLIQUE, PREPROCESSING, predictor

SMALL = ServeSettings(max_pixels=10_000, max_voxels=100_000, max_body_mib=1, queue=4)
RULE = ImagePreprocessing(image_size=16, channels=1, mean=0.4, std=0.2)


class Brightness(nn.Module):
    """Bright images are of the second class. Remembers its last input."""

    def forward(self, images: Tensor) -> Tensor:
        """[N, C, S, S] to logits [N, 2]."""
        self.seen = images
        mean = images.mean(dim=(1, 2, 3))
        return torch.stack([-mean, mean], dim=1)


def image_service(settings: ServeSettings = SMALL, rule: ImagePreprocessing = RULE) -> ImageService:
    """A classifier around `Brightness`."""
    record = ModelRecord(
        task="classification", network=Network(name="brightness", arguments={}), classes=["dark", "bright"],
        preprocessing=rule, patients=TrainedOn(train=[], val=[]), best=Best(epoch=1, metric="val_auroc", value=1.0),
        hyperparameters={}, data_digest="data", code_digest="code", versions={},
    )  # fmt: skip
    return ImageService(ImagePredictor(record, Brightness(), torch.device("cpu")), settings)


def volume_service(rule: VolumePreprocessing = PREPROCESSING, settings: ServeSettings = SMALL) -> VolumeService:
    """A segmentation model whose foreground is what is brighter than half its window of 0..200."""
    return VolumeService(predictor(rule), settings)


def client(service: Service | None, settings: ServeSettings = SMALL) -> TestClient:
    """A client of an endpoint in this process; a fault of the server's own raises here."""
    return TestClient(make_app(ServingState(settings, service)))


def png(pixels: np.ndarray | None = None, form: str = "PNG", **options: Any) -> bytes:
    """An image file's bytes; noise where no pixels are given."""
    if pixels is None:
        pixels = np.random.default_rng(0).integers(0, 256, (20, 30), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, format=form, **options)
    return file.getvalue()


def npy(values: Any, **options: Any) -> bytes:
    """An array file's bytes."""
    file = io.BytesIO()
    np.save(file, values, **options)
    return file.getvalue()


def ball(shape: tuple[int, int, int] = (20, 18, 12), radius: float = 5) -> np.ndarray:
    """A bright ball of 190 in 10, int16."""
    indices = np.stack(np.meshgrid(*(np.arange(n) for n in shape), indexing="ij"), axis=-1)
    inside = np.linalg.norm(indices - np.array(shape) / 2, axis=-1) < radius
    return inside.astype(np.int16) * 180 + 10


def nifti(
    voxels: np.ndarray | None = None, affine: np.ndarray = OBLIQUE, *, unit: str = "mm", kind: Any = nib.Nifti1Image,
    compressed: bool = True, **fields: Any,
) -> bytes:  # fmt: skip
    """A NIfTI file's bytes; a ball where no voxels are given; `fields` go into the header."""
    image = kind(ball() if voxels is None else voxels, affine)
    image.header.set_xyzt_units(unit)
    for name, value in fields.items():
        image.header[name] = value
    content: bytes = image.to_bytes()
    return gzip.compress(content, mtime=0) if compressed else content


def read_map(content: bytes, kind: Any = nib.Nifti1Image) -> Any:
    """The NIfTI image in an answer."""
    return kind.from_bytes(gzip.decompress(content))
