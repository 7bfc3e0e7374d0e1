"""Names that are needed where CDK isn't."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from medloop.cloud.layout import pipeline_name

TASKS = ("classification", "segmentation")

STACK_NAME = "medloop"
IMAGES_PROJECT = "medloop-images"
"""CodeBuild's project that builds the containers."""
SOURCE_KEY = "source/medloop.zip"
"""Key of the checkout in the artefact bucket."""

SIMULATIONS = Path(__file__).with_name("simulations.yaml")
"""The table of what each role may do, and may not."""
ROLE_PATHS = {
    "pipeline": "Execution/Pipeline/Role",
    "processing": "Execution/Jobs/Processing",
    "training": "Execution/Jobs/Training",
    "evaluation": "Execution/Jobs/Evaluation",
    "inference": "Execution/Jobs/Inference",
    "champion": "Execution/Champion/Function/Role",
    "engineer": "Execution/Engineer/Role",
    "publisher": "Execution/Publisher/Role",
    "approver": "Execution/Approver/Role",
    "builder": "Builds/Role",
    "mlflow": "Tracking/Role",
    "guard": "Scheduling/Guard/Role",
    "guard-function": "Scheduling/Look/Role",
    "scheduler": "Scheduling/SchedulerRole",
    "deployer": "Deployment/Approval/Role",
    "planner": "Deployment/Plan/Role",
}
"""Paths of the roles in the stack, by their names in the table."""


def list_pipelines(projects: Iterable[str], users_pipelines: Iterable[str] = ()) -> list[str]:
    """List the names of all pipelines: one a task, one a task and project, and the same of the users' own pipelines."""
    return [pipeline_name(name, project) for project in ("", *projects) for name in (*TASKS, *users_pipelines)]
