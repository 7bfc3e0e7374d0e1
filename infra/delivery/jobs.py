"""The jobs of delivery with CodePipeline: what each runs, and the one role that it assumes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from medloop.ci import INSTALL_SAMPLES

PUBLISHER = "Publisher"
"""The stack's role of publication; the others are in DeliveryRoles."""
_ACCOUNT = 'eval "set -- $MEDLOOP_SETTINGS"'
"""The settings of pipelines in this account, as arguments of the shell: their values are quoted."""


@dataclass(frozen=True)
class Job:
    """A build of CodeBuild.

    Args:
        name: Of the project, after `medloop-delivery-`.
        role: The role that its commands assume; None: they have no rights.
        commands: Lines of one shell.
        description: What it does.
        builds_images: Whether it runs Docker.
        minutes: After which it is stopped.
    """

    name: str
    role: str | None
    commands: Sequence[str]
    description: str
    builds_images: bool = False
    minutes: int = 60


def make_jobs(values: Mapping[str, Any], *, promotes: bool) -> dict[str, Job]:
    """Make the jobs, by name.

    Args:
        values: `infra.delivery.commands`.
        promotes: Whether production is in another account.
    """
    pipelines = values["pipelines"]
    diffs = [f'medloop pipelines diff {name} --preset {preset} "$@"' for name, preset in pipelines]
    upserts = [f'medloop pipelines upsert {name} --preset {preset} --yes "$@"' for name, preset in pipelines]
    checks = [*values["checks"], INSTALL_SAMPLES, *values["smoke"]]
    staging = f'medloop endpoints deploy "$VERSION" --name {values["endpoint"]}-staging "$@"'
    jobs = [
        Job("check", None, checks, "Checks, tests and the smoke sizes on the local backend", minutes=90),
        Job("differences", "Reader", [_ACCOUNT, *diffs], "Differences from the published definitions"),
        Job("images", "Images", values["images"], "Builds images that aren't there", builds_images=True, minutes=120),
        Job("publish", PUBLISHER, [_ACCOUNT, *upserts], "Publishes the definitions, which name images by digest"),
        Job("staging", "Staging", [_ACCOUNT, staging], "Serves an Approved version on the staging endpoint"),
    ]
    if promotes:
        promote = ['medloop endpoints promote "$VERSION"']
        jobs.append(Job("production", "Promoter", promote, "Promotes the version to production's account"))
    return {job.name: job for job in jobs}


def buildspec(job: Job, values: Mapping[str, Any]) -> dict[str, Any]:
    """CodeBuild's specification of a job: without a role, its commands have no rights to AWS."""
    path = [f'export PATH="$PWD/{values["path"]}:$PATH"'] if values.get("path") else []
    # A profile that assumes the job's role with the build's own credentials.
    sign_in = [
        'aws configure set profile.medloop.role_arn "$JOB_ROLE_ARN"',
        "aws configure set profile.medloop.credential_source EcsContainer",
        "export AWS_PROFILE=medloop",
    ]
    return {
        "version": "0.2",
        "phases": {
            "install": {"runtime-versions": {"python": "3.11"}, "commands": [*values["install"], *path]},
            "build": {"commands": [*path, *(sign_in if job.role else []), *job.commands]},
        },
    }
