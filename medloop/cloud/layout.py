"""Names of a project's pipelines and model groups; keys and prefixes of the artefact bucket; on either target."""

from __future__ import annotations

import hashlib
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
PIPELINE_PATTERN = r"^[a-z](-?[a-z0-9])*$"
"""A pipeline's name, without project."""
MAX_PIPELINE = 32
"""Characters of a pipeline's name, without project."""
MAX_GROUP = 47
"""Characters of a model group's name: an endpoint's configuration, of 63, is named by it, a version and a digest."""
DIGEST_CHARACTERS = 6


def project_of(data: str) -> str:
    """Derive a project's name from a data set's folder or URI: `My Images/` gives `my-images`.

    A name that is too long, or has a letter that is no variant of a Latin one, ends in a digest: two data sets that
    differ in what is left out have models of their own. Empty for a path without a name.

    Args:
        data: A folder's path, or s3://bucket/prefix; its last part counts.
    """
    last = unicodedata.normalize("NFKD", data.rstrip("/").rpartition("/")[2]).lower()
    name = re.sub(r"[^a-z0-9]+", "-", last.encode("ascii", "ignore").decode()).strip("-")
    if len(name) <= MAX_PROJECT and not any(sign.isalnum() and not sign.isascii() for sign in last):
        return name
    digest = hashlib.sha256(last.encode("utf-8", "surrogateescape")).hexdigest()[:DIGEST_CHARACTERS]
    return f"{name[: MAX_PROJECT - DIGEST_CHARACTERS - 1].strip('-') or 'data'}-{digest}"


def pipeline_name(pipeline: str, project: str) -> str:
    """Return the name of a project's pipeline on the target: `segmentation`, or `segmentation-prostate`."""
    return f"{pipeline}-{project}" if project else pipeline


def group_name(pipeline: str, project: str) -> str:
    """Return the name of a model group: `medloop-segmentation`, or `medloop-segmentation-prostate`.

    A name that is too long ends in a digest.
    """
    name = f"medloop-{pipeline_name(pipeline, project)}"
    if len(name) <= MAX_GROUP:
        return name
    digest = hashlib.sha256(name.encode()).hexdigest()[:DIGEST_CHARACTERS]
    return f"{name[: MAX_GROUP - DIGEST_CHARACTERS - 1].strip('-')}-{digest}"
