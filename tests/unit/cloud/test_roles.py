"""Which job runs with which role."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from medloop.bundle import Role, load_container
from medloop.cloud.roles import VARIABLES, read_roles
from medloop.cloud.sessions import open_target
from medloop.errors import SettingError, TargetError

ROLES: dict[Role, str] = {role: f"arn:aws:iam::111122223333:role/{role}" for role in VARIABLES}
ENVIRONMENT = {VARIABLES[role]: arn for role, arn in ROLES.items()}


def test_each_container_gets_the_role_that_it_declares(tmp_path: Path) -> None:
    """Split and evaluation are both processing jobs; the function runs with the pipeline's role locally."""
    target = replace(open_target("local", tmp_path), job_roles=ROLES)
    assert target.container_role("split") == ROLES["processing"]
    assert target.container_role("classify") == target.container_role("segment") == ROLES["training"]
    assert target.container_role("evaluate") == ROLES["evaluation"]
    assert target.container_role("serve") == target.inference_role_arn == ROLES["inference"]
    assert target.container_role("champion") == target.role_arn


def test_without_roles_everything_runs_with_the_pipelines(tmp_path: Path) -> None:
    """An account without infra's roles, and this machine."""
    target = open_target("local", tmp_path)
    assert {target.container_role(name) for name in ("split", "classify", "evaluate", "serve")} == {target.role_arn}


@pytest.mark.parametrize(
    ("lines", "reason"),
    [
        ('kind = "processing"', 'a container of kind "processing" has a role'),
        ('kind = "lambda"\nrole = "training"', 'a container of kind "lambda" has no role'),
        ('kind = "training"\nrole = "split"', "role: Input should be"),
    ],
)
def test_a_role_that_does_not_fit_is_refused(tmp_path: Path, lines: str, reason: str) -> None:
    """When container.toml is read, not when AWS refuses a job."""
    folder = tmp_path / "containers" / "lungs"
    folder.mkdir(parents=True)
    (folder / "container.toml").write_text(f'name = "lungs"\nbase = "python"\ninclude = []\n{lines}\n')
    with pytest.raises(SettingError, match=rf"containers/lungs/container.toml: .*{reason}"):
        load_container("lungs", tmp_path)


def test_the_environment_names_all_or_none() -> None:
    """Half of them would let the other jobs run with the pipeline's rights, unnoticed."""
    assert read_roles({}) == {}
    assert read_roles(ENVIRONMENT) == ROLES
    with pytest.raises(TargetError, match="MEDLOOP_TRAINING_ROLE_ARN is not set"):
        read_roles({name: role for name, role in ENVIRONMENT.items() if name != VARIABLES["training"]})
    with pytest.raises(TargetError, match=r"MEDLOOP_INFERENCE_ROLE_ARN: 'inference' is no role's ARN"):
        read_roles({**ENVIRONMENT, VARIABLES["inference"]: "inference"})
