"""The roles of an account's jobs: infra makes a narrower one than the pipeline's for each kind of job (docs/deploy.md).

A container declares which of them its jobs run with (`role` in container.toml). Without them, and locally, everything
runs with the pipeline's role.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping

from medloop.bundle import Role
from medloop.errors import TargetError

VARIABLES: dict[Role, str] = {
    "processing": "MEDLOOP_PROCESSING_ROLE_ARN",
    "training": "MEDLOOP_TRAINING_ROLE_ARN",
    "evaluation": "MEDLOOP_EVALUATION_ROLE_ARN",
    "inference": "MEDLOOP_INFERENCE_ROLE_ARN",
}
_ROLE = re.compile(r"arn:aws[a-z-]*:iam::\d{12}:role/[\w+=,.@/-]+")


def read_roles(environment: Mapping[str, str] | None = None) -> dict[Role, str]:
    """The roles that the environment names; all of them or none.

    Raises:
        TargetError: Some are named and others not, or one is no role's ARN.
    """
    environment = os.environ if environment is None else environment
    roles: dict[Role, str] = {role: environment[name] for role, name in VARIABLES.items() if environment.get(name)}
    for role, arn in roles.items():
        if not _ROLE.fullmatch(arn):
            raise TargetError(f"target aws: {VARIABLES[role]}: {arn!r} is no role's ARN; take it from infra's outputs")
    if missing := [VARIABLES[role] for role in VARIABLES if roles and role not in roles]:
        raise TargetError(f"target aws: {missing[0]} is not set and others like it are; set all four or none")
    return roles
