"""Names of a project's pipelines and model groups; keys and prefixes of the artefact bucket; on either target."""

from __future__ import annotations

import re
import unicodedata

PSEUDONYM_KEY = "keys/pseudonyms.key"
"""The secret behind patients' pseudonyms: made once, never overwritten."""
EXECUTIONS = "executions"
"""Outputs of jobs: executions/<pipeline>/<execution id>/<step>/<output>."""
NO_MODEL = "champion/none"
"""The folder that stands for a champion where there is none: an input can't be empty or left out."""
NO_MODEL_FILE = f"{NO_MODEL}/no-model.txt"
"""Its one file, put there by upsert."""
TENSORBOARD = "tensorboard"
"""TensorBoard's event files: tensorboard/<pipeline>/<training job>/tensorboard-output."""
TEST_USES = "test-uses"
"""The ledger of test sets' uses: test-uses/<task>/<digest of the test set>/<number of the use>."""

PROJECT_PATTERN = r"^([a-z0-9](-?[a-z0-9])*)?$"
"""A project's name: lower case, digits and inner hyphens; empty for the pipelines without project."""
MAX_PROJECT = 24
"""Characters of a project's name: names of 63 are made of it, such as that of an endpoint's configuration."""


def project_of(data: str) -> str:
    """Derive a project's name from a data set's folder or URI: `My Images/` gives `my-images`; empty if no letter fits.

    Args:
        data: A folder's path, or s3://bucket/prefix; its last part counts.
    """
    last = unicodedata.normalize("NFKD", data.rstrip("/").rpartition("/")[2]).encode("ascii", "ignore").decode()
    return re.sub(r"[^a-z0-9]+", "-", last.lower())[:MAX_PROJECT].strip("-")


def pipeline_name(pipeline: str, project: str) -> str:
    """Return the name of a project's pipeline on the target: `segmentation`, or `segmentation-prostate`."""
    return f"{pipeline}-{project}" if project else pipeline


def group_name(task: str, project: str) -> str:
    """Return the name of a project's model group: `medloop-segmentation`, or `medloop-segmentation-prostate`."""
    return f"medloop-{pipeline_name(task, project)}"
