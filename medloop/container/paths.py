"""The folders of SageMaker's contract inside a container. No other module contains `/opt/ml`.

Source of the layout: https://docs.aws.amazon.com/sagemaker/latest/dg/your-algorithms-training-algo.html and
https://docs.aws.amazon.com/sagemaker/latest/dg/byoc-run-image.html (processing),
https://docs.aws.amazon.com/sagemaker/latest/dg/your-algorithms-inference-code.html (hosting).
"""

from __future__ import annotations

import os
from pathlib import Path

PREFIX = "/opt/ml"
"""The root that the service mounts; paths in pipeline definitions begin with it."""
CHECKPOINTS = f"{PREFIX}/checkpoints"
"""The folder that the service synchronises with an S3 prefix while a training job runs."""
TENSORBOARD = f"{PREFIX}/output/tensorboard"
"""The folder that the service copies to S3 while a training job runs, if the job has TensorBoardOutputConfig."""
SCRIPT_CODE = f"{PREFIX}/input/data/code"
"""The folder that script mode's drivers unpack the code to."""
WARM_POOL = f"{PREFIX}/sagemaker/warmpoolcache"
"""The volume that persists between jobs of a warm pool
(https://docs.aws.amazon.com/sagemaker/latest/dg/train-warm-pools-persistent-cache.html)."""
WARM_POOL_PIP_CACHE = f"{WARM_POOL}/pip"

CACHE_VARIABLE = "MEDLOOP_CACHE_DIR"
"""Environment variable: the folder of prepared data."""


def ml_root() -> Path:
    """Return the contract's root: `ML_ROOT` if it is set (local runs), else `/opt/ml`."""
    return Path(os.environ.get("ML_ROOT", PREFIX))


def processing_input(name: str) -> str:
    """Return a processing input's LocalPath for a pipeline definition."""
    return f"{PREFIX}/processing/input/{name}"


def processing_output(name: str) -> str:
    """Return a processing output's LocalPath for a pipeline definition."""
    return f"{PREFIX}/processing/output/{name}"


def model_folder() -> Path:
    """Return the folder that hosting unpacks model.tar.gz to."""
    return ml_root() / "model"


def is_local() -> bool:
    """True if this is a local run, not a container of the service."""
    return "ML_ROOT" in os.environ


def warm_pool_cache() -> Path | None:
    """Return the folder for prepared data that persists between jobs of a warm pool; None outside one."""
    volume = ml_root() / "sagemaker" / "warmpoolcache"
    return volume / "medloop" if volume.is_dir() else None


def failure_file() -> Path:
    """Return the file of a training job's failure reason (FailureReason)."""
    return ml_root() / "output" / "failure"


def message_file() -> Path:
    """Return the file of a processing job's exit message (ExitMessage)."""
    return ml_root() / "output" / "message"
