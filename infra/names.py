"""Names that are needed where CDK isn't."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from medloop.cloud.layout import group_name, pipeline_name

TASKS = ("classification", "segmentation")

STACK_NAME = "medloop"
PRODUCTION_STACK_NAME = "medloop-production"
PROMOTIONS_BUS = "medloop-promotions"
"""Production's event bus, to which the registry's account sends what is promoted and what is rejected."""
PROMOTER_ROLE = "medloop-promoter"
WITHDRAWAL_ROLE = "medloop-withdrawals"
"""Roles of the registry's account that production's bus takes events from; they have names because it names them."""
HOSTING_ROLE = "medloop-production-hosting"
DEPLOYER_ROLE = "medloop-production-deployer"
PLANNER_ROLE = "medloop-production-planner"
"""Roles of production's account that the registry's policies name."""
IMAGES_PROJECT = "medloop-images"
"""CodeBuild's project that builds the containers."""
SOURCE_KEY = "source/medloop.zip"
"""Key of the checkout in the artefact bucket."""

TAG = ("medloop:part-of", "infra")
"""Tag of everything in the stack; with the tag of pipelines' jobs, what budgets and costs go by."""

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
DELIVERY_SIMULATIONS = Path(__file__).with_name("simulations-delivery.yaml")
"""The same table of CI's roles, which are there by a setting."""
DELIVERY_ROLE_PATHS = {
    "reader": "Delivery/Roles/Reader",
    "images": "Delivery/Roles/Images",
    "staging": "Delivery/Roles/Staging",
    "promoter": "Delivery/Roles/Promoter",
    "check-build": "Delivery/ProjectRoles/Check",
    "differences-build": "Delivery/ProjectRoles/Differences",
    "publish-build": "Delivery/ProjectRoles/Publish",
    "delivery": "Delivery/Pipelines/Role",
    "withdrawals": "Sharing/Withdrawals/Role",
}
"""Paths of these roles, by their names in the table."""


def list_pipelines(projects: Iterable[str], users_pipelines: Iterable[str] = ()) -> list[str]:
    """List the names of all pipelines: one a task, one a task and project, and the same of the users' own pipelines."""
    return [pipeline_name(name, project) for project in ("", *projects) for name in (*TASKS, *users_pipelines)]


def list_groups(projects: Iterable[str], users_pipelines: Iterable[str] = ()) -> list[str]:
    """List the names of all model package groups: one a pipeline."""
    return [group_name(name, project) for project in ("", *projects) for name in (*TASKS, *users_pipelines)]
