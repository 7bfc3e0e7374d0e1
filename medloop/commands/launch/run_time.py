"""An estimate of the time of a local run, from the split's counts and the network's measured computing time.

The rule: training takes a network's measured CPU time for its pixels or voxels (`NetworkSpec.cpu_seconds`), divided
among the cores; a case that is only predicted takes a quarter of that; starting the steps takes half a minute. Early
stopping makes a run shorter. A GPU makes it much shorter, by a factor that is not estimated.
"""

from __future__ import annotations

import math
import os
from collections import Counter
from typing import TYPE_CHECKING, Any

from medloop.container.cluster import count_gpus
from medloop.documents.hyperparameters import (
    MAX_SIZE,
    AnyHyperparameters,
    ClassificationHyperparameters,
    Hyperparameters,
    SegmentationHyperparameters,
)
from medloop.documents.networks import NETWORKS

if TYPE_CHECKING:
    from medloop.imaging.validation import DatasetReport
    from medloop.settings import Resolved

START_SECONDS = 30.0
PREDICTION_SHARE = 0.25
"""Computing time of a prediction, relative to training on the same pixels."""
_BY_TASK: dict[str, type[AnyHyperparameters]] = {
    "classification": ClassificationHyperparameters,
    "segmentation": SegmentationHyperparameters,
}


def default_hyperparameters(task: str) -> AnyHyperparameters:
    """The hyperparameters of a run without settings, without the time that building their validator takes."""
    return _BY_TASK[task].model_construct()


def run_hyperparameters(resolved: Resolved) -> Hyperparameters | None:
    """The hyperparameters of a run, with its pipeline parameters; None if trials vary them, or there are none."""
    prefix = "train.hyperparameters."
    settings: Any = resolved.settings
    configured = getattr(getattr(settings, "train", None), "hyperparameters", None)
    if not isinstance(configured, Hyperparameters) or getattr(getattr(settings, "tune", None), "enabled", False):
        return None
    chosen = {
        parameter.setting.removeprefix(prefix): resolved.parameters[parameter.name]
        for parameter in resolved.spec.parameters
        if parameter.name in resolved.parameters and (parameter.setting or "").startswith(prefix) and parameter.setting
    }
    return type(configured).model_validate(configured.model_dump() | chosen)


def time_text(report: DatasetReport | None, settings: Hyperparameters | None) -> str:
    """One line with the estimated time of a local run; empty if it can't be estimated.

    Args:
        report: The checked data set, with its planned split; None if it was not checked.
        settings: The run's hyperparameters; None if they are not known.
    """
    seconds = run_seconds(report, settings)
    if settings is None or seconds is None:
        return ""
    where = "on a CPU; with the GPU of this machine less" if count_gpus(os.environ) else "on this machine"
    return f"about {about(seconds)} {where} ({getattr(settings, 'model_name', '')}, {settings.epochs} epochs)"


def run_seconds(report: DatasetReport | None, settings: Hyperparameters | None) -> float | None:
    """Estimate the seconds of a run with all cores of this machine; None if something is not known."""
    if report is None or settings is None:
        return None
    return estimate_seconds(report, settings, len(os.sched_getaffinity(0)))


def about(seconds: float) -> str:
    """A time with one or two digits, as an estimate has: `40 s`, `3 min`, `25 min`, `6 h`."""
    for unit, size, step in (("s", 1, 10), ("min", 60, 1), ("h", 3600, 1)):
        if seconds < 90 * size or unit == "h":
            return f"{max(step, round(seconds / size / step) * step)} {unit}"
    raise AssertionError


def estimate_seconds(report: DatasetReport, settings: Hyperparameters, num_cores: int) -> float | None:
    """Estimate the seconds of a local run; None if the split is not known or the network's time was not measured."""
    counts = Counter(report.split_of.values())
    network = NETWORKS.get(getattr(settings, "model_name", ""))
    if not counts or network is None or not network.cpu_seconds:
        return None
    trained, predicted = _million_values(report, settings)
    validations = math.ceil(settings.epochs / settings.val_interval)
    work = settings.epochs * counts["train"] * trained
    work += PREDICTION_SHARE * predicted * (validations * counts["val"] + counts["test"])
    width = network.relative_width(dict(settings))
    return START_SECONDS + work * network.cpu_seconds * width / max(1, num_cores)


def _million_values(report: DatasetReport, settings: Hyperparameters) -> tuple[float, float]:
    """Pixels or voxels, in millions, that a case has in one epoch of training, and in a prediction."""
    if isinstance(settings, ClassificationHyperparameters):
        size = settings.image_size
        edge = report.images.edge if report.images else MAX_SIZE
        pixels = (settings.image_size_for(edge) if size == "auto" else size) ** 2 / 1e6
        return pixels, pixels
    if not isinstance(settings, SegmentationHyperparameters):
        return 0.0, 0.0
    if settings.mode == "resize":
        voxels = math.prod(settings.size) / 1e6
        return voxels, voxels
    voxels = sum(case.grid.num_voxels for case in report.cases if case.grid) / max(1, len(report.cases)) / 1e6
    patch = min(math.prod(settings.patch_size) / 1e6, voxels)
    windows = (1 - settings.overlap) ** -3 if voxels > patch else 1.0
    return settings.patches_per_volume * patch, windows * voxels * (8 if settings.mirroring else 1)
