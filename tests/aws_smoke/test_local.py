"""The smoke test on the local backend, as far as it goes: jobs and executions are real there."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from aws_smoke.account import Stack
from aws_smoke.check import Check, Result
from aws_smoke.checks import CHECKS, STAYS
from aws_smoke.lab import Lab, new_run
from aws_smoke.refusal import MESSAGE, failed_step, follow, refusal_definition
from aws_smoke.runner import run_checks
from medloop.cloud.sessions import open_target
from tests.shared import share_warm_servers

pytestmark = pytest.mark.slow
KEY = "arn:aws:kms:us-east-1:000000000000:key/01234567-89ab-cdef-0123-456789abcdef"
GROUP = "medloop-classification"
WITHOUT = {"role", "job", "schedule"}
"""Kinds that the local backend can't list, or that these checks don't create."""


@pytest.fixture
def lab(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Lab:
    """A run in the local account, whose one bucket is both of the stack's."""
    home = tmp_path / "home"
    share_warm_servers(tmp_path_factory, home)
    target = open_target("local", home)

    def list_versions(context: dict[str, Any], **_: Any) -> Any:
        """Objects have no versions there."""
        request = context["medloop_params"]
        listed = target.boto.client("s3").list_objects_v2(Bucket=request["Bucket"], Prefix=request["Prefix"])
        versions = [{"Key": item["Key"], "VersionId": "null"} for item in listed.get("Contents", [])]
        return SimpleNamespace(status_code=200), {"Versions": versions}

    target.boto.events.register("before-call.s3.ListObjectVersions", list_versions)
    outputs = {"MedloopBucket": target.bucket, "DataBucket": target.bucket, "ArtefactKeyArn": KEY}
    # The stack creates the groups of its pipelines.
    target.boto.client("sagemaker").create_model_package_group(ModelPackageGroupName=GROUP)
    return Lab(
        new_run(datetime.now(UTC)),
        target,
        Stack(outputs),
        lambda seconds: time.sleep(min(seconds, 0.5)),
        lambda: datetime.now(UTC),
    )


def rows(*names: str) -> list[Check]:
    """Rows of the table, which need no images: the local backend has none."""
    return [check for check in CHECKS if check.name in names]


def results(lab: Lab, check: str, monkeypatch: pytest.MonkeyPatch) -> list[Result]:
    """Run a check; what is left of kinds that the backend can't list isn't looked for."""
    from aws_smoke import resources

    kinds = tuple(kind for kind in resources.KINDS if kind.name not in WITHOUT)
    monkeypatch.setattr(resources, "KINDS", kinds)
    monkeypatch.setattr("aws_smoke.runner.find_digest", lambda target, container: "sha256:0")
    return run_checks(lab, rows(check), lambda _: True, lambda _: None).results


@pytest.mark.parametrize("check", ["versions", "run"])
def test_a_check_passes_and_leaves_nothing(lab: Lab, check: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Registry and card by the local backend's own rules; the run with its real jobs, gate and registration."""
    tried = results(lab, check, monkeypatch)
    assert [result for result in tried if result.status != "passed"] == []
    sagemaker = lab.target.boto.client("sagemaker")
    assert sagemaker.list_pipelines()["PipelineSummaries"] == []
    (group,) = sagemaker.list_model_package_groups()["ModelPackageGroupSummaryList"]
    assert group["ModelPackageGroupName"] == GROUP
    assert sagemaker.list_model_packages(ModelPackageGroupName=GROUP)["ModelPackageSummaryList"] == []
    listed = lab.target.boto.client("s3").list_objects_v2(Bucket=lab.target.bucket).get("Contents", [])
    keys = [item["Key"] for item in listed]
    assert [key for key in keys if lab.marker in key] == []
    # The plan names what is kept: nothing else is left, and nothing is named that isn't.
    expected = [prefix for prefixes in STAYS.values() for prefix in prefixes] if check == "run" else []
    assert [key for key in keys if not key.startswith(tuple(expected))] == []
    assert [prefix for prefix in expected if not any(key.startswith(prefix) for key in keys)] == []


def test_the_condition_that_is_not_met_fails_the_execution(lab: Lab) -> None:
    """With the Fail step's reason, in which the parameter is filled in."""
    name = lab.name("clock")
    lab.create_pipeline(name, refusal_definition(), lab.target.role_arn)
    request = {
        "PipelineName": name,
        "ClientRequestToken": "0" * 32,
        "PipelineParameters": [{"Name": "DataVersion", "Value": "2026-11-30T12:02:00Z"}],
    }
    execution = lab.send("sagemaker", "StartPipelineExecution", request)["PipelineExecutionArn"]
    assert follow(lab, execution, seconds=600)["PipelineExecutionStatus"] == "Failed"
    assert failed_step(lab, execution)["FailureReason"] == f"{MESSAGE} 2026-11-30T12:02:00Z"
