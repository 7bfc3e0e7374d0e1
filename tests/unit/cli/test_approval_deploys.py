"""`medloop models approve --deploy` on the local backend, with a serving container of a few lines."""

from __future__ import annotations

import json
from typing import Any

from medloop.cli import main
from medloop.cloud.sessions import Target
from medloop.commands.options import Services
from medloop.commands.registry.decisions import decisions_of
from medloop.local.home import ACCOUNT, BUCKET, REGION, ROLE_ARN
from tests.unit.cli.test_endpoints import GROUP, World, endpoints, local

__all__ = ["endpoints", "local"]


def approve(world: World, *words: str) -> int:
    """Run `models approve`; keeps what it printed."""
    target = Target("local", world.account.boto, BUCKET, ROLE_ARN, ACCOUNT, REGION)
    given = ["--reason", "good", "--home", str(world.account.home), *words]
    code = main(["models", "approve", *given], Services(lambda *_: target))
    world.out, world.err = world.capsys.readouterr()
    return code


def package(world: World, arn: str) -> dict[str, Any]:
    """The version."""
    return dict(world.account.sagemaker.describe_model_package(ModelPackageName=arn))


def test_the_approved_version_is_served(endpoints: World) -> None:
    """One command approves and deploys; its JSON names the endpoint."""
    endpoints.register("two", "PendingManualApproval")
    assert approve(endpoints, f"{GROUP}/2", "--deploy", "--json") == 0
    assert (json.loads(endpoints.out)["approval"], json.loads(endpoints.out)["endpoint"]) == ("Approved", GROUP)
    assert endpoints("list", "--json") == 0
    assert [(row["status"], row["model"]) for row in endpoints.json] == [("InService", f"{GROUP}/2")]


def test_an_approval_stands_where_the_deployment_fails(endpoints: World) -> None:
    """Exit code 1, the endpoint's reason, and the decision on record."""
    arn = endpoints.register("broken", "PendingManualApproval")
    assert approve(endpoints, f"{GROUP}/2", "--deploy") == 1
    assert "is Approved" in endpoints.out
    assert "the model is broken" in endpoints.err
    assert package(endpoints, arn)["ModelApprovalStatus"] == "Approved"
    assert len(decisions_of(package(endpoints, arn))) == 1


def test_nothing_is_deployed_without_being_asked_for(endpoints: World) -> None:
    """Approval alone changes no endpoint; it says how to deploy."""
    endpoints.register("two", "PendingManualApproval")
    assert approve(endpoints, f"{GROUP}/2") == 0
    assert f"medloop endpoints deploy {GROUP}/2" in endpoints.err
    assert endpoints("list", "--json") == 0
    assert endpoints.json == []
