"""Definitions for an account with a role for each kind of job: nothing runs with the pipeline's own."""

from __future__ import annotations

import dataclasses

import pytest

from medloop.bundle import Role
from medloop.cloud.roles import VARIABLES
from medloop.cloud.target import Target
from medloop.cloud.upsert import build_definition
from medloop.settings import resolve

pytestmark = pytest.mark.slow
ROLES: dict[Role, str] = {job: f"arn:aws:iam::111122223333:role/{job}" for job in VARIABLES}


@pytest.mark.parametrize("sets", [["deploy.mode=pipeline"], ["tune.enabled=true", "deploy.mode=pipeline"]])
def test_no_job_runs_with_the_pipelines_role(target: Target, sets: list[str]) -> None:
    """Of training, tuning, both kinds of processing and a model."""
    narrow = dataclasses.replace(target, job_roles=ROLES)
    text = build_definition(narrow, resolve("segmentation", None, sets))
    assert target.role_arn not in text
    assert [job for job, role in ROLES.items() if role not in text] == []
    assert target.role_arn in build_definition(target, resolve("segmentation", None, sets))
