"""Where a model comes from: what model.json says about data, code and versions."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import metadata

from medloop.documents.hyperparameters import Hyperparameters
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
    """Where a run's model comes from.

    Args:
        network: As `networks.describe` gives it.
        classes: Names by output index.
        split: split.json.
        pretrained: model.json of the weights that it starts from.
        settings: All hyperparameters.
    """

    network: Network
    classes: Sequence[str]
    split: SplitRecord
    pretrained: ModelRecord | None
    settings: Hyperparameters

    def identity(self) -> str:
        """What a run is beside its hyperparameters: another one's checkpoint is refused."""
        weights = self.pretrained.model_dump_json() if self.pretrained else None
        network = self.network.model_dump(mode="json")
        return json.dumps([network, list(self.classes), self.split.data_digest, weights], sort_keys=True)

    def run_info(self) -> RunInfo:
        """What a run tells its trackers, before its first epoch."""
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
        """model.json of the finished run; patients that `pretrained` has seen count as seen."""
        return ModelRecord(
            task=self.split.task,
            network=self.network,
            classes=list(self.classes),
            preprocessing=preprocessing,
            inference=inference,
            temperature=calibration.temperature if calibration else None,
            operating_point=(calibration.operating_point or None) if calibration else None,
            patients=patients_seen(self.split, self.pretrained),
            best=best,
            hyperparameters=self.settings.model_dump(mode="json"),
            data_digest=self.split.data_digest,
            code_digest=code_digest(),
            versions=versions(),
            tracking=list(tracking),
        )


def code_digest() -> str:
    """Names the bundle that this job runs; `unknown` by hand."""
    return os.environ.get("MEDLOOP_CODE_DIGEST", "unknown")


def patients_seen(split: SplitRecord, pretrained: ModelRecord | None) -> TrainedOn:
    """Pseudonyms of this run's patients, united with those of the weights it started from."""
    earlier = pretrained.patients if pretrained else TrainedOn(train=[], val=[])
    return TrainedOn(
        train=sorted({*split.pseudonyms("train"), *earlier.train}),
        val=sorted({*split.pseudonyms("val"), *earlier.val}),
    )


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that results depend on; those not installed are left out."""
    found = {"python": platform.python_version()}
    for name in _PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found
