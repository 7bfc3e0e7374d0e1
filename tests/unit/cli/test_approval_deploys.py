"""`medloop models approve --deploy` on the local backend, with a serving container of a few lines."""

from __future__ import annotations

import json
from typing import Any

import pytest

from medloop.cli import main
from medloop.cloud.target import Target
from medloop.commands.options import Services
from medloop.commands.registry.decisions import decisions_of
from medloop.local.state.home import ACCOUNT, BUCKET, REGION, ROLE_ARN, arn
from tests.unit.cli.test_endpoints import GROUP, World, endpoints, local
from tests.unit.cli.versions import DEFINITION, answer_executions, store_evidence

__all__ = ["endpoints", "local"]


def waiting(world: World, word: str) -> str:
    """A version whose model answers with this word, with evidence, compared with the champion; returns its ARN."""
    answer_executions(world.account.boto)
    champion = arn(f"model-package/{GROUP}/1")
    url = world.hosting.store(word)
    request = store_evidence(world.account.s3, gate={"champion": champion})
    request["CustomerMetadataProperties"]["champion"] = champion
    del request["CustomerMetadataProperties"]["artefact_digest"], request["CustomerMetadataProperties"]["image"]
    request["InferenceSpecification"]["Containers"] = [{"Image": world.hosting.image, "ModelDataUrl": url}]
    made = world.account.sagemaker.create_model_package(ModelPackageGroupName=GROUP, **request)
    return str(made["ModelPackageArn"])


def approve(world: World, *options: str) -> int:
    """Run `models approve`; keeps what it printed."""
    target = Target("local", world.account.boto, BUCKET, ROLE_ARN, ACCOUNT, REGION)
    arguments = ["--reason", "good", "--home", str(world.account.home), *options]
    code = main(["models", "approve", *arguments], Services(lambda *_: target, build=lambda *_: DEFINITION))
    world.out, world.err = world.capsys.readouterr()
    return code


def package(world: World, version: str) -> dict[str, Any]:
    """The version."""
    return dict(world.account.sagemaker.describe_model_package(ModelPackageName=version))


@pytest.mark.slow
def test_the_approved_version_is_served(endpoints: World) -> None:
    """One command approves and deploys; its JSON names the endpoint."""
    waiting(endpoints, "two")
    assert approve(endpoints, f"{GROUP}/2", "--deploy", "--json") == 0
    assert (json.loads(endpoints.out)["approval"], json.loads(endpoints.out)["endpoint"]) == ("Approved", GROUP)
    assert endpoints("list", "--json") == 0
    assert [(row["status"], row["model"]) for row in endpoints.json] == [("InService", f"{GROUP}/2")]


@pytest.mark.slow
def test_an_approval_stands_where_the_deployment_fails(endpoints: World) -> None:
    """Exit code 1, the endpoint's reason, and the decision on record."""
    version = waiting(endpoints, "broken")
    assert approve(endpoints, f"{GROUP}/2", "--deploy") == 1
    assert "is Approved" in endpoints.out
    assert "the model is broken" in endpoints.err
    assert package(endpoints, version)["ModelApprovalStatus"] == "Approved"
    assert len(decisions_of(package(endpoints, version))) == 1


def test_nothing_is_deployed_without_a_request(endpoints: World) -> None:
    """Approval alone changes no endpoint; it says how to deploy."""
    waiting(endpoints, "two")
    assert approve(endpoints, f"{GROUP}/2") == 0
    assert f"medloop endpoints deploy {GROUP}/2" in endpoints.err
    assert endpoints("list", "--json") == 0
    assert endpoints.json == []
