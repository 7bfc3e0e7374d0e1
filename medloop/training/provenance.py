"""The provenance of a model: data, code and versions, for model.json."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import metadata

from medloop.documents.hyperparameters import Hyperparameters, SegmentationHyperparameters
from medloop.documents.model import (
    Best,
    ImagePreprocessing,
    Inference,
    ModelRecord,
    Network,
    TrackingRun,
    TrainedOn,
    VolumePreprocessing,
)
from medloop.documents.split import SplitRecord
from medloop.training.calibration import Calibration
from medloop.training.tracking.base import RunInfo

_PACKAGES = ("medloop", "torch", "torchvision", "monai", "numpy", "nibabel", "pillow", "safetensors")


@dataclass(frozen=True)
class Provenance:
    """The origin of a run's model.

    Args:
        network: The result of `networks.describe`.
        classes: Names by output index.
        split: split.json.
        pretrained: model.json of the first weights.
        settings: All hyperparameters.
    """

    network: Network
    classes: Sequence[str]
    split: SplitRecord
    pretrained: ModelRecord | None
    settings: Hyperparameters

    def identity(self) -> str:
        """Identify a run in addition to its hyperparameters; checkpoints of other runs are refused."""
        weights = self.pretrained.model_dump_json() if self.pretrained else None
        network = self.network.model_dump(mode="json")
        return json.dumps([network, list(self.classes), self.split.data_digest, weights], sort_keys=True)

    def run_info(self) -> RunInfo:
        """Describe the run for its trackers."""
        hyperparameters = self.settings.model_dump(mode="json")
        return RunInfo(self.split.task, hyperparameters, code_digest(), self.split.data_digest, dict(os.environ))

    def record(
        self,
        preprocessing: ImagePreprocessing | VolumePreprocessing,
        best: Best,
        tracking: Sequence[TrackingRun],
        *,
        inference: Inference | None = None,
        calibration: Calibration | None = None,
    ) -> ModelRecord:
        """Make model.json of the finished run; it includes the patients of `pretrained`."""
        return ModelRecord(
            task=self.split.task,
            network=self.network,
            classes=list(self.classes),
            preprocessing=preprocessing,
            inference=inference,
            temperature=calibration.temperature if calibration else None,
            operating_point=(calibration.operating_point or None) if calibration else None,
            length_unit=self.settings.length_unit if isinstance(self.settings, SegmentationHyperparameters) else None,
            patients=patients_seen(self.split, self.pretrained),
            best=best,
            hyperparameters=self.settings.model_dump(mode="json"),
            data_digest=self.split.data_digest,
            code_digest=code_digest(),
            versions=versions(),
            tracking=list(tracking),
        )


def code_digest() -> str:
    """Return the digest of the bundle that this job runs; `unknown` by hand."""
    return os.environ.get("MEDLOOP_CODE_DIGEST", "unknown")


def patients_seen(split: SplitRecord, pretrained: ModelRecord | None) -> TrainedOn:
    """Collect the pseudonyms of this run's patients and of those of its first weights."""
    earlier = pretrained.patients if pretrained else TrainedOn(train=[], val=[])
    return TrainedOn(
        train=sorted({*split.pseudonyms("train"), *earlier.train}),
        val=sorted({*split.pseudonyms("val"), *earlier.val}),
    )


def versions() -> dict[str, str]:
    """Collect the versions of Python and of the packages that results depend on, if they are installed."""
    by_name = {"python": platform.python_version()}
    for name in _PACKAGES:
        try:
            by_name[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return by_name
