"""The roles of an account's jobs: each job of a definition gets the one that is made for it, where there is one.

Steps name one role, the pipeline's. infra makes a narrower one for each kind of job (docs/deploy.md); which they are is
the account's matter, not a step's, so they are filled in when a definition is built. Without them, and locally,
everything runs with the pipeline's role.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Mapping
from typing import Any, Literal

from medloop.errors import TargetError

Job = Literal["processing", "training", "evaluation", "inference"]
VARIABLES: dict[Job, str] = {
    "processing": "MEDLOOP_PROCESSING_ROLE_ARN",
    "training": "MEDLOOP_TRAINING_ROLE_ARN",
    "evaluation": "MEDLOOP_EVALUATION_ROLE_ARN",
    "inference": "MEDLOOP_INFERENCE_ROLE_ARN",
}
EVALUATES = "evaluate"
"""The container whose job sees the test set and writes the evidence."""
_ROLE = re.compile(r"arn:aws[a-z-]*:iam::\d{12}:role/[\w+=,.@/-]+")
_IMAGE = re.compile(r"/medloop-([a-z]+)[:@]")


def roles_of_environment(environment: Mapping[str, str] | None = None) -> dict[Job, str]:
    """The roles that the environment names; all of them or none.

    Raises:
        TargetError: Some are named and others not, or one is no role's ARN.
    """
    given = os.environ if environment is None else environment
    roles: dict[Job, str] = {job: given[name] for job, name in VARIABLES.items() if given.get(name)}
    for job, role in roles.items():
        if not _ROLE.fullmatch(role):
            raise TargetError(f"target aws: {VARIABLES[job]}: {role!r} is no role's ARN; take it from infra's outputs")
    if missing := [VARIABLES[job] for job in VARIABLES if roles and job not in roles]:
        raise TargetError(f"target aws: {missing[0]} is not set and others like it are; set all four or none")
    return roles


def give_roles(definition: str, roles: Mapping[Job, str]) -> str:
    """The definition with each job's own role in place of the pipeline's.

    Args:
        definition: JSON text.
        roles: By kind of job; empty leaves the definition as it is.
    """
    if not roles:
        return definition
    document = json.loads(definition)
    for step in _steps(document["Steps"]):
        job = _job(step)
        if job is None:
            continue
        arguments = step["Arguments"]
        place = arguments.get("TrainingJobDefinition", arguments)
        place["ExecutionRoleArn" if job == "inference" else "RoleArn"] = roles[job]
    return json.dumps(document)


def _steps(steps: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """All steps, those of branches too."""
    for step in steps:
        yield step
        arguments = step.get("Arguments", {})
        for branch in ("IfSteps", "ElseSteps"):
            yield from _steps(arguments.get(branch, []) if step["Type"] == "Condition" else [])


def _job(step: Mapping[str, Any]) -> Job | None:
    """Which kind of job a step starts; None of one that starts none."""
    kinds: dict[str, Job] = {"Training": "training", "Tuning": "training", "Model": "inference"}
    if step["Type"] == "Processing":
        image = _IMAGE.search(json.dumps(step["Arguments"]["AppSpecification"]["ImageUri"]))
        return "evaluation" if image and image[1] == EVALUATES else "processing"
    return kinds.get(step["Type"])
