"""Names that are needed where CDK isn't."""

from __future__ import annotations

from collections.abc import Iterable

from medloop.cloud.layout import pipeline_name

TASKS = ("classification", "segmentation")

STACK_NAME = "medloop"
IMAGES_PROJECT = "medloop-images"
"""CodeBuild's project that builds the containers."""
SOURCE_KEY = "source/medloop.zip"
"""Key of the checkout in the artefact bucket."""


def list_pipelines(projects: Iterable[str]) -> list[str]:
    """List the names of all pipelines: one a task, and one a task and project."""
    return [pipeline_name(task, project) for project in ("", *projects) for task in TASKS]
