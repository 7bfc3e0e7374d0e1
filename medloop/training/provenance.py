"""Where a model comes from: what model.json says about data, code and versions."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Sequence
from importlib import metadata
from typing import Literal

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


def make_record(
    *,
    task: Literal["classification", "segmentation"],
    network: Network,
    classes: Sequence[str],
    preprocessing: ImagePreprocessing | VolumePreprocessing,
    inference: Inference | None,
    split: SplitRecord,
    pretrained: ModelRecord | None,
    settings: Hyperparameters,
    best: Best,
    tracking: Sequence[TrackingRun] = (),
    calibration: Calibration | None = None,
) -> ModelRecord:
    """model.json of a finished run; patients that `pretrained` has seen count as seen."""
    return ModelRecord(
        task=task,
        network=network,
        classes=list(classes),
        preprocessing=preprocessing,
        inference=inference,
        temperature=calibration.temperature if calibration else None,
        operating_point=(calibration.operating_point or None) if calibration else None,
        patients=patients_seen(split, pretrained),
        best=best,
        hyperparameters=settings.model_dump(mode="json"),
        data_digest=split.data_digest,
        code_digest=code_digest(),
        versions=versions(),
        tracking=list(tracking),
    )


def run_info(task: Literal["classification", "segmentation"], settings: Hyperparameters, split: SplitRecord) -> RunInfo:
    """What a run tells its trackers, before its first epoch."""
    return RunInfo(task, settings.model_dump(mode="json"), code_digest(), split.data_digest, dict(os.environ))


def run_identity(network: Network, classes: Sequence[str], split: SplitRecord, pretrained: ModelRecord | None) -> str:
    """What a run is beside its hyperparameters: a checkpoint of another one isn't gone on from."""
    weights = pretrained.model_dump_json() if pretrained else None
    return json.dumps([network.model_dump(mode="json"), list(classes), split.data_digest, weights], sort_keys=True)


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
