"""The AWS target from upsert to approval and schedule, through the command line; moto stands for the account.

What moto can't show (jobs that run) is shown by the requests: every one that a command sends is recorded, in its order.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import boto3
import pytest
from moto import mock_aws

from medloop.bundle import image_containers, load_container
from medloop.cli import main
from medloop.cloud.target import Target
from medloop.commands.options import Services
from medloop.definition.read import read_definition
from medloop.definition.requests import operation_problems
from tests.pipelines.world import keep_versions
from tests.unit.cli.versions import answer_executions, identity, keep_cards, store_evidence

pytestmark = pytest.mark.slow
REGION, ACCOUNT, BUCKET = "eu-west-1", "123456789012", "artefacts"
READS = ("Head", "Get", "List", "Describe")


@dataclass
class Cloud:
    """An AWS account, the command line on it, and the requests that commands sent."""

    target: Target
    capsys: pytest.CaptureFixture[str]
    requests: list[tuple[str, str, dict[str, Any]]] = field(default_factory=list)

    def __call__(self, *argv: str) -> int:
        """Run a command with `--target aws`; keeps what it printed and sent."""
        self.requests.clear()
        fresh = Target("aws", self.target.boto, BUCKET, self.target.role_arn, ACCOUNT, REGION)
        code = main([*argv, "--target", "aws"], Services(open_target=lambda name, home: fresh))
        self.out, self.err = self.capsys.readouterr()
        return code

    @property
    def writes(self) -> list[str]:
        """The requests that change something, `service:Operation`, in their order."""
        return [f"{service}:{name}" for service, name, _ in self.requests if not name.startswith(READS)]

    def request(self, name: str) -> dict[str, Any]:
        """The parameters of the one request of this name."""
        (matching,) = [parameters for _, operation, parameters in self.requests if operation == name]
        return matching


@pytest.fixture
def account() -> Iterator[Target]:
    """An account that infra has prepared: bucket, data, pushed images, the champion's function."""
    with pytest.MonkeyPatch.context() as patch, mock_aws(config={"lambda": {"use_docker": False}}):
        for variable in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            patch.setenv(variable, "none")
        session = boto3.Session(region_name=REGION)
        keep_versions(session)
        trust = {"Version": "2012-10-17", "Statement": []}
        role = session.client("iam").create_role(RoleName="medloop", AssumeRolePolicyDocument=json.dumps(trust))
        target = Target("aws", session, BUCKET, role["Role"]["Arn"], ACCOUNT, REGION)
        s3 = session.client("s3")
        s3.create_bucket(Bucket=BUCKET, CreateBucketConfiguration={"LocationConstraint": REGION})
        s3.put_object(Bucket=BUCKET, Key="data/a/1.png", Body=b"1")
        for name in [*image_containers(), "champion"]:
            _prepare(target, name)
        yield target


def _prepare(target: Target, container: str) -> None:
    """Push a container's image, or make its function."""
    if load_container(container).kind == "lambda":
        target.boto.client("lambda").create_function(
            FunctionName=f"medloop-{container}", Runtime="python3.13", Role=target.role_arn, Handler="main.handler",
            Code={"ZipFile": b"zip"},
        )  # fmt: skip
        return
    ecr = target.boto.client("ecr")
    ecr.create_repository(repositoryName=f"medloop-{container}")
    media = "application/vnd.docker.distribution.manifest.v2+json"
    manifest = {"schemaVersion": 2, "mediaType": media, "config": {"digest": f"sha256:{container}"}, "layers": []}
    tag = target.code_digest(container)
    ecr.put_image(repositoryName=f"medloop-{container}", imageTag=tag, imageManifest=json.dumps(manifest))


@pytest.fixture
def cloud(account: Target, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Iterator[Cloud]:
    """The command line on that account."""
    monkeypatch.setenv("MEDLOOP_HOME", "/nonexistent/medloop-home")
    recorded = Cloud(account, capsys)

    beyond_limits: list[str] = []

    def keep(params: dict[str, Any], model: Any, **_: Any) -> None:
        service = model.service_model
        recorded.requests.append((service.service_name, model.name, params))
        problems = operation_problems(model.name, params, service)
        beyond_limits.extend(f"{service.service_name}:{model.name}: {problem}" for problem in problems)

    account.boto.events.register("provide-client-params", keep, unique_id="record")
    yield recorded
    account.boto.events.unregister("provide-client-params", keep, unique_id="record")
    assert beyond_limits == [], "moto takes any length and any pattern, the services don't"


def test_run_uploads_upserts_and_starts_in_that_order_and_once(cloud: Cloud) -> None:
    """A first run makes everything; a second one starts an execution and changes nothing else."""
    run = ("run", "classification", "--data", f"s3://{BUCKET}/data", "--param", "Epochs=2", "--no-wait", "--yes")
    assert cloud(*run) == 0, cloud.err
    kinds = [name for index, name in enumerate(cloud.writes) if name not in cloud.writes[:index]]
    assert kinds == [
        "s3:PutObject", "sagemaker:CreateModelPackageGroup", "sagemaker:CreatePipeline",
        "sagemaker:StartPipelineExecution",
    ]  # fmt: skip
    parameters = {item["Name"]: item["Value"] for item in cloud.request("StartPipelineExecution")["PipelineParameters"]}
    assert cloud.request("StartPipelineExecution")["PipelineVersionId"] == 1
    assert (parameters["InputData"], parameters["Epochs"], len(parameters["DataVersion"])) == (
        f"s3://{BUCKET}/data/",
        "2",
        64,
    )
    assert cloud(*run) == 0, cloud.err
    assert "nothing changes on aws" in cloud.err
    assert [name for name in cloud.writes if name != "sagemaker:CreatePipeline"] == ["sagemaker:StartPipelineExecution"]


def test_the_stored_definition_names_images_by_digest_and_the_accounts_own_role(cloud: Cloud) -> None:
    """Nothing of the local backend's is in it."""
    assert cloud("pipelines", "upsert", "classification", "--yes") == 0, cloud.err
    stored = cloud.target.boto.client("sagemaker").describe_pipeline(PipelineName="classification")
    text = stored["PipelineDefinition"]
    definition = read_definition(text)
    image = definition.step("Train").arguments["AlgorithmSpecification"]["TrainingImage"]
    assert image.startswith(f"{ACCOUNT}.dkr.ecr.{REGION}.amazonaws.com/medloop-classify@sha256:")
    assert definition.step("Train").arguments["RoleArn"] == cloud.target.role_arn
    assert "medloop-local" not in text
    assert "000000000000" not in text


def test_changed_settings_are_shown_and_wait_for_a_yes(cloud: Cloud) -> None:
    """The pipeline stays as it is until then."""
    assert cloud("pipelines", "upsert", "classification", "--yes") == 0
    assert cloud("pipelines", "upsert", "classification", "--set", "gate.min_score=0.9") == 2
    assert "Parameters.MinScore.DefaultValue" in cloud.err
    assert cloud.writes == []
    assert cloud("pipelines", "diff", "classification", "--json") == 0
    assert json.loads(cloud.out)["changes"] == []


def test_over_budget_nothing_is_changed(cloud: Cloud) -> None:
    """The refusal comes before anything is uploaded."""
    code = cloud("run", "classification", "--data", f"s3://{BUCKET}/data", "--no-wait", "--yes", "--budget", "1")
    assert code == 2
    assert "--budget 1" in cloud.err
    assert cloud.writes == []


def test_a_version_is_listed_approved_and_shown(cloud: Cloud) -> None:
    """The approver's ARN is recorded, as the account tells it, where another person's session started the run."""
    boto = cloud.target.boto
    client = boto.client("sagemaker")
    keep_cards(boto)
    client.create_model_package_group(ModelPackageGroupName="medloop-approvals")
    client.create_model_package(
        ModelPackageGroupName="medloop-approvals",
        ModelApprovalStatus="PendingManualApproval",
        **store_evidence(boto.client("s3"), bucket=BUCKET),
    )
    me = boto.client("sts").get_caller_identity()["Arn"]
    answer_executions(boto, identity(me.rpartition("/")[2]))
    approve = ("models", "approve", "medloop-approvals/1", "--reason", "good enough")
    assert cloud(*approve) == 2
    assert "must not approve their own training; another person approves" in cloud.err
    assert cloud("pipelines", "upsert", "classification", "--set", "split.seed=3", "--yes") == 0, cloud.err
    stored = client.describe_pipeline(PipelineName="classification")["PipelineDefinition"]
    answer_executions(boto, definition=stored.replace("--margin", "--margins"))
    assert cloud(*approve) == 2
    assert "Steps.Evaluate.Arguments.AppSpecification.ContainerArguments.--margin" in cloud.err
    answer_executions(boto, definition=stored)
    assert cloud(*approve) == 0, cloud.err
    request = cloud.request("UpdateModelPackage")
    assert request["ModelApprovalStatus"] == "Approved"
    assert cloud("models", "show", "medloop-approvals/1", "--json") == 0
    shown = json.loads(cloud.out)
    assert shown["approval"] == "Approved"
    assert f":{ACCOUNT}:" in json.dumps(shown["decisions"])
    assert shown["decisions"][0]["definition"].startswith("as built by commit ")


def test_a_schedule_starts_the_stored_pipeline(cloud: Cloud, tmp_path: Path) -> None:
    """With the data that is there then, under the role given."""
    assert cloud("pipelines", "upsert", "classification", "--yes") == 0
    create = ("schedules", "create", "weekly", "--pipeline", "classification", "--when", "rate(7 days)")
    assert cloud(*create, "--data", f"s3://{BUCKET}/data", "--role", "arn:aws:iam::123456789012:role/clock") == 0
    assert cloud.request("CreateSchedule")["Target"]["RoleArn"].endswith("role/clock")
    assert cloud("schedules", "list", "--json") == 0
    (schedule,) = json.loads(cloud.out)
    assert (schedule["pipeline"], schedule["parameters"]["InputData"]) == ("classification", f"s3://{BUCKET}/data/")
    assert cloud("schedules", "delete", "weekly") == 0
