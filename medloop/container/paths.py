"""Where SageMaker puts things inside a container. No other module spells `/opt/ml`.

Source of the layout: https://docs.aws.amazon.com/sagemaker/latest/dg/your-algorithms-training-algo.html and
https://docs.aws.amazon.com/sagemaker/latest/dg/byoc-run-image.html (processing),
https://docs.aws.amazon.com/sagemaker/latest/dg/your-algorithms-inference-code.html (hosting).
"""

from __future__ import annotations

import os
from pathlib import Path

PREFIX = "/opt/ml"
"""The root that the service mounts; pipeline definitions spell paths below it."""
CHECKPOINTS = f"{PREFIX}/checkpoints"
"""The folder that the service keeps equal with a prefix of S3 while a training job runs."""
TENSORBOARD = f"{PREFIX}/output/tensorboard"
"""The folder that the service copies to S3 while a training job runs, where it is asked to."""
SCRIPT_CODE = f"{PREFIX}/input/data/code"
"""Where script mode's drivers unpack the job's code."""
WARM_POOL = f"{PREFIX}/sagemaker/warmpoolcache"
"""The volume that outlives a job in a warm pool
(https://docs.aws.amazon.com/sagemaker/latest/dg/train-warm-pools-persistent-cache.html)."""
WARM_POOL_PIP_CACHE = f"{WARM_POOL}/pip"

CACHE_VARIABLE = "MEDLOOP_CACHE_DIR"
"""Names the folder in which training keeps prepared data."""


def ml_root() -> Path:
    """The contract's root: `ML_ROOT` where it is set (runs on one machine), else `/opt/ml`."""
    return Path(os.environ.get("ML_ROOT", PREFIX))


def processing_input(name: str) -> str:
    """A processing input's LocalPath as a pipeline definition spells it."""
    return f"{PREFIX}/processing/input/{name}"


def processing_output(name: str) -> str:
    """A processing output's LocalPath as a pipeline definition spells it."""
    return f"{PREFIX}/processing/output/{name}"


def model_folder() -> Path:
    """Where hosting unpacks model.tar.gz for a serving container."""
    return ml_root() / "model"


def is_local() -> bool:
    """Whether this is a run on one machine, not a container of the service."""
    return "ML_ROOT" in os.environ


def warm_pool_cache() -> Path | None:
    """Where prepared data outlives a job in a warm pool; None outside one."""
    volume = ml_root() / "sagemaker" / "warmpoolcache"
    return volume / "medloop" if volume.is_dir() else None


def failure_file() -> Path:
    """Where a training job says why it failed; becomes FailureReason."""
    return ml_root() / "output" / "failure"


def message_file() -> Path:
    """Where a processing job says how it ended; becomes ExitMessage."""
    return ml_root() / "output" / "message"
