"""Ways to run commands: against an account whose content the test writes down, the local backend, and moto."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import boto3
import pytest

from medloop.cli import main
from medloop.commands.options import Services
from medloop.local.session import local_session
from medloop.local.state.home import BUCKET
from tests.unit.cli.account import ARN, START, Account
from tests.unit.cli.versions import DEFINITION, EVALUATION, answer_executions, keep_cards


@dataclass
class CommandLine:
    """Runs commands against the account; `on_sleep` plays what happens while a command waits."""

    account: Account
    home: Path
    capsys: pytest.CaptureFixture[str]
    on_sleep: Callable[[], None] = lambda: None
    built: str = '{"Version": "2020-12-01", "Parameters": [], "Steps": []}'
    version: int | None = 7
    out: str = ""
    err: str = ""
    opened: list[tuple[str, Path]] = field(default_factory=list)

    def __call__(self, *argv: str) -> int:
        """Run one command; keeps what it printed."""
        services = Services(
            open_target=self._open,
            upsert=self._upsert,
            find_published=lambda target, resolved: None,
            build=lambda target, resolved: self.built,
            sleep=lambda seconds: self.on_sleep(),
        )
        code = main([*argv], services)
        self.out, self.err = self.capsys.readouterr()
        return code

    @property
    def json(self) -> Any:
        """The last command's stdout, which must be one JSON document."""
        return json.loads(self.out)

    def _open(self, name: str, home: Path) -> Any:
        self.opened.append((name, home))
        return SimpleNamespace(name=name, boto=self.account.boto, bucket="bucket")

    def _upsert(self, target: Any, resolved: Any) -> Any:
        self.account.calls.append(("upsert", {"name": resolved.spec.name}))
        return SimpleNamespace(arn=f"{ARN}:pipeline/{resolved.spec.name}", version=self.version)


@dataclass
class Desk:
    """An approver's command line, and the client that tests look with."""

    boto: Any
    sagemaker: Any
    capsys: pytest.CaptureFixture[str]
    target: str = "local"
    built: str = DEFINITION
    """What the checkout builds."""
    out: str = ""
    err: str = ""

    def __call__(self, *argv: str) -> int:
        """Run one command."""
        opened = SimpleNamespace(name=self.target, boto=self.boto, bucket="bucket")
        services = Services(open_target=lambda name, home: opened, build=lambda target, resolved: self.built)  # type: ignore[arg-type,return-value]
        code = main([*argv, "--target", self.target], services)
        self.out, self.err = self.capsys.readouterr()
        return code

    def package(self, arn: str) -> dict[str, Any]:
        """DescribeModelPackage."""
        return dict(self.sagemaker.describe_model_package(ModelPackageName=arn))


@pytest.fixture
def account(tmp_path: Path) -> Account:
    """An empty account."""
    return Account(tmp_path / "account")


@pytest.fixture
def medloop(
    account: Account, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> CommandLine:
    """The command line on that account, with a home folder of its own that does not exist yet."""
    home = tmp_path / "home"
    monkeypatch.setenv("MEDLOOP_HOME", str(home))
    monkeypatch.delenv("MEDLOOP_TARGET", raising=False)
    return CommandLine(account, home, capsys)


@pytest.fixture
def finished(account: Account) -> str:
    """ARN of an execution that trained, evaluated and registered a model."""
    arn = account.add_execution("abc123abc123", "Succeeded")
    train, evaluate, package = f"{ARN}:training-job/t-1", f"{ARN}:processing-job/e-1", f"{ARN}:model-package/g/1"
    account.add_step(arn, "Train", "Succeeded", {"TrainingJob": {"Arn": train}})
    account.add_step(arn, "Evaluate", "Succeeded", {"ProcessingJob": {"Arn": evaluate}})
    account.add_step(arn, "Gate", "Succeeded", {"Condition": {"Outcome": "True"}})
    account.add_step(arn, "Register-RegisterModel", "Succeeded", {"RegisterModel": {"Arn": package}})
    output = {"OutputName": "evaluation", "S3Output": {"S3Uri": "s3://bucket/e"}}
    account.jobs["e-1"] = {"ProcessingOutputConfig": {"Outputs": [output]}}
    account.objects["s3://bucket/e/evaluation.json"] = json.dumps(EVALUATION).encode()
    account.objects["s3://bucket/e/report.html"] = b"<html>report</html>"
    account.logs["t-1/algo-1"] = ["hello", "epoch=1; val_auroc=0.5;", "epoch=2; val_auroc=0.7;"]
    account.logs["e-1/algo-1"] = ["scored"]
    account.packages.append(
        {
            "ModelPackageArn": package,
            "ModelPackageGroupName": "g",
            "ModelPackageVersion": 1,
            "ModelApprovalStatus": "PendingManualApproval",
            "ModelPackageStatus": "Completed",
            "CreationTime": START,
            "CustomerMetadataProperties": {"data_version": "d1"},
            "ModelMetrics": {"ModelQuality": {"Statistics": {"S3Uri": "s3://bucket/e/evaluation.json"}}},
            "InferenceSpecification": {"Containers": [{"Image": "image:tag", "ModelDataUrl": "s3://bucket/m.tar.gz"}]},
        }
    )
    return arn


@pytest.fixture
def desk(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Desk:
    """A desk on a fresh local backend."""
    monkeypatch.setenv("MEDLOOP_HOME", str(tmp_path / "home"))
    boto = local_session(tmp_path / "home")
    answer_executions(boto)
    return Desk(boto, boto.client("sagemaker"), capsys)


@pytest.fixture
def aws(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> Iterator[Desk]:
    """The desk in moto's account."""
    from moto import mock_aws

    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "testing")
    with mock_aws():
        desk.boto = boto3.Session(region_name="us-east-1")
        desk.sagemaker, desk.target = desk.boto.client("sagemaker"), "aws"
        answer_executions(desk.boto)
        keep_cards(desk.boto)
        desk.boto.client("s3").create_bucket(Bucket=BUCKET)
        yield desk
