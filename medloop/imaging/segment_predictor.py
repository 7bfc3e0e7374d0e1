"""Segmentation of one volume with a trained model, on the volume's own grid: what evaluation and serving use."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from medloop.documents.model import Inference, ModelRecord, VolumePreprocessing
from medloop.errors import DataError
from medloop.imaging import networks
from medloop.imaging.device import autocast, pick_device
from medloop.imaging.files import Volume
from medloop.imaging.formats import read_volume
from medloop.imaging.model_files import load_weights
from medloop.imaging.sliding import infer_logits
from medloop.imaging.volumes import from_ras, label_map, preprocess, to_ras


@dataclass(frozen=True)
class LabelMap:
    """Label values uint8 [X, Y, Z] (indices of model.json's classes), and the affine of the volume they describe."""

    labels: NDArray[np.uint8]
    affine: NDArray[np.float64]


@dataclass(frozen=True)
class VolumePredictor:
    """A model ready to segment. `load` makes one.

    Args:
        record: The model's model.json.
        model: In eval mode, on `device`.
        preprocessing: The record's.
        inference: The record's.
        device: Where the model is.
    """

    record: ModelRecord
    model: nn.Module
    preprocessing: VolumePreprocessing
    inference: Inference
    device: torch.device

    @classmethod
    def load(cls, folder: Path, device: str = "auto") -> Self:
        """Read model.json and model.safetensors of an unpacked model folder.

        Args:
            folder: What the training job wrote.
            device: `auto` (the first GPU where there is one), `cpu` or `cuda`.

        Raises:
            DataError: A file is absent or broken, or the model is no segmentation model.
        """
        record = ModelRecord.read(folder)
        if not isinstance(record.preprocessing, VolumePreprocessing) or record.inference is None:
            raise DataError(f"model.json: task is {record.task}; give the model of a segmentation training")
        chosen = pick_device(device)
        model = networks.build(record.network)
        load_weights(model, folder)
        edges = record.inference.patch_size or record.preprocessing.size or ()
        multiple = networks.shape_multiple(record.network)
        if any(edge % multiple for edge in edges):
            raise DataError(
                f"model.json: input of {list(edges)}, but {record.network.name} takes multiples of {multiple}; "
                "give training's own file"
            )
        return cls(record, model.to(chosen).eval(), record.preprocessing, record.inference, chosen)

    def segment(self, path: Path) -> LabelMap:
        """Segment a NIfTI file.

        Raises:
            DataError: The file is no finite 3D NIfTI volume with an orientation; the message names it.
        """
        volume = read_volume(path)
        try:
            return self.segment_volume(volume)
        except DataError as error:
            raise DataError(f"{path.name}: {error}") from None

    def segment_volume(self, volume: Volume, proceed: Callable[[], None] | None = None) -> LabelMap:
        """Segment a volume: probabilities are resampled to its own grid, then the likeliest class is taken.

        Args:
            volume: On its own grid.
            proceed: Called before each run of the network; what it raises ends the segmentation.

        Raises:
            DataError: The affine gives no orientation, or an absurd voxel size, or the network's answer is not finite.
        """
        image = preprocess(volume, self.preprocessing).to(self.device)
        with torch.no_grad(), autocast(self.device, "auto"):
            logits = infer_logits(partial(_run, self.model, proceed), image, self.inference)
        if len(logits) != len(self.record.classes):
            raise DataError(f"model.json: {len(self.record.classes)} classes, but the network has {len(logits)}")
        if not bool(logits.isfinite().all()):
            raise DataError("the network gives no finite output; check the voxels' values")
        x, y, z = to_ras(volume).voxels.shape
        labels = label_map(logits.softmax(dim=0), (x, y, z)).cpu().numpy()
        return LabelMap(from_ras(labels, volume.affine), volume.affine)


def _run(model: nn.Module, proceed: Callable[[], None] | None, batch: Tensor) -> Tensor:
    if proceed:
        proceed()
    logits: Tensor = model(batch)
    return logits
