"""A trained classifier, ready to score image files."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from medloop.documents.model import ImagePreprocessing, ModelRecord
from medloop.errors import DataError
from medloop.imaging.device import pick_device
from medloop.imaging.image_facts import measure_image, unlike_training
from medloop.imaging.images import load_images, prepare, standardise
from medloop.imaging.model_files import load_weights
from medloop.imaging.networks import build

BATCH_SIZE = 64


@dataclass(frozen=True)
class ImagePredictor:
    """A classifier with its own preprocessing and temperature; make one with `load`."""

    record: ModelRecord
    network: nn.Module
    device: torch.device

    @classmethod
    def load(cls, folder: Path, device: str = "auto") -> Self:
        """Load a model folder (`medloop.imaging.model_files.unpack_model` makes one of an archive).

        Args:
            folder: Holds model.json and model.safetensors.
            device: `auto`, `cpu`, `cuda`, ...

        Raises:
            DataError: A file is absent or damaged, the two don't fit each other, or it is no classifier.
        """
        record = ModelRecord.read(folder)
        if not isinstance(record.preprocessing, ImagePreprocessing) or record.task != "classification":
            raise DataError(f"model.json: task is {record.task}; give a classification model")
        network = build(record.network)
        load_weights(network, folder)
        target = pick_device(device)
        return cls(record, network.to(target).eval(), target)

    def probabilities(self, paths: Sequence[Path]) -> NDArray[np.float32]:
        """Class probabilities of images.

        Args:
            paths: Files of images.

        Returns:
            [N, C] float32 in the order of `record.classes`; rows sum to 1.

        Raises:
            DataError: A file is no readable image; the message names it.
        """
        rule, differences = self._rule, list[str]()

        def inspect(pixels: NDArray[Any]) -> None:
            differences.extend(self.warnings(pixels))  # in threads; a counter would lose some

        chunks = [
            self._score(load_images(batch, rule.image_size, rule.channels, rule.value_range, inspect=inspect))
            for batch in (paths[start : start + BATCH_SIZE] for start in range(0, len(paths), BATCH_SIZE))
        ]
        for message, count in Counter(differences).items():
            print(f"warning: {count} of {len(paths)} images: {message}", flush=True)
        return np.concatenate(chunks) if chunks else np.empty((0, len(self.record.classes)), dtype=np.float32)

    def score_pixels(self, pixels: NDArray[Any]) -> NDArray[np.float32]:
        """Class probabilities of one decoded image.

        Args:
            pixels: As `medloop.imaging.images.prepare` takes them.

        Returns:
            [C] float32; sums to 1.
        """
        image = prepare(pixels, self._rule.image_size, self._rule.channels, self._rule.value_range)
        scores: NDArray[np.float32] = self._score(image[None])[0]
        return scores

    def warnings(self, pixels: NDArray[Any]) -> list[str]:
        """Describe how one decoded image differs from the training images."""
        if pixels.dtype.kind == "f":  # already in 0..1
            return []
        return unlike_training(measure_image(pixels), self._rule)

    @property
    def _rule(self) -> ImagePreprocessing:
        rule = self.record.preprocessing
        assert isinstance(rule, ImagePreprocessing)  # noqa: S101 - `load` has checked it
        return rule

    def _score(self, images: Tensor) -> NDArray[np.float32]:
        with torch.inference_mode():
            logits = self.network(standardise(images.to(self.device), self._rule)).float()
        if logits.shape[1] != len(self.record.classes):
            raise DataError(f"model.json: {len(self.record.classes)} classes, but the network has {logits.shape[1]}")
        logits = logits / (self.record.temperature or 1.0)
        probabilities: NDArray[np.float32] = logits.softmax(dim=1).cpu().numpy()
        return probabilities
