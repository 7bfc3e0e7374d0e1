"""The smoke test in a mocked account: what passes, and what is left after faults and interruptions: nothing."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import json
import os
import signal
from collections.abc import Callable
from pathlib import Path

import jsonschema
import pytest

from aws_smoke.__main__ import main
from aws_smoke.check import Check, Result
from aws_smoke.checks import CHECKS
from aws_smoke.definitions import pipeline_cases
from aws_smoke.report import Report
from aws_smoke.runner import run_checks
from aws_smoke.trust import NAMED, NOT_NAMED
from infra.names import ROLE_PATHS
from tests.aws_smoke.mocked import Mocked

pytestmark = pytest.mark.slow
CLEANING = {
    *("sagemaker:List", "sagemaker:Delete", "sagemaker:Stop", "sagemaker:Describe", "iam:List", "iam:Delete"),
    *("scheduler:List", "scheduler:Delete", "s3:ListObjectVersions", "s3:DeleteObjects"),
    *("cloudformation:", "sts:GetCallerIdentity"),
}
"""Beginnings of the operations that open the account and clean it."""
SHORT = tuple(
    dataclasses.replace(check, cases=lambda lab: itertools.islice(pipeline_cases(lab), 2))
    if check.name == "pipelines"
    else check
    for check in CHECKS
)
"""The table, with two of the fifty definitions: tests/pipelines/test_oracles.py builds them all."""


@pytest.fixture(autouse=True)
def _short_table(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("aws_smoke.__main__.CHECKS", SHORT)


def some(*names: str) -> list[Check]:
    """Rows of the table."""
    return [check for check in SHORT if check.name in names]


def run(aws: Mocked, *names: str) -> list[Result]:
    """Run checks; returns their results."""
    return run_checks(aws.lab(), some(*names), lambda check: True, lambda result: None).results


def failures(results: list[Result]) -> list[str]:
    """Details of what failed."""
    return [f"{result.check}: {result.case}: {result.detail}" for result in results if result.status == "failed"]


def test_every_check_passes(aws: Mocked, tmp_path: Path) -> None:
    """Where moto and its adapters respond as AWS's documentation says; the JSON follows its schema."""
    file = tmp_path / "smoke.json"
    aws.trusting = frozenset({"CreateTrainingJob", "StartPipelineExecution"})
    assert main(["--yes", "--json", str(file)], aws.services()) == 0, aws.out.getvalue()
    document = json.loads(file.read_text(encoding="utf-8"))
    jsonschema.validate(document, Report.model_json_schema())
    results = [Result.model_validate(result) for result in document["results"]]
    assert {result.check for result in results} == {check.name for check in CHECKS}
    assert {result.status for result in results} == {"passed"}
    trust = {result.case: result.detail for result in results if result.check == "source-account" and result.learned}
    assert trust.pop("training job") == trust.pop("pipeline") == NAMED
    assert set(trust.values()) == {NOT_NAMED}
    assert "driver 580.95.05" in aws.out.getvalue()
    undeclared = {
        call
        for call in aws.calls
        if call not in {declared for check in CHECKS for declared in check.calls}
        and not call.startswith(tuple(CLEANING))
    }
    assert undeclared == set(), "--dry-run doesn't list these"


def test_a_missing_right_of_a_role_is_named(aws: Mocked) -> None:
    """The row of the table, and which decision was found."""
    iam = aws.world.client("iam")
    role = aws.lab().stack.resources["AWS::IAM::Role", ROLE_PATHS["pipeline"]]
    (name,) = iam.list_role_policies(RoleName=role)["PolicyNames"]
    document = iam.get_role_policy(RoleName=role, PolicyName=name)["PolicyDocument"]
    narrower = [s for s in document["Statement"] if "lambda:InvokeFunction" not in str(s["Action"])]
    wider = [*document["Statement"], {"Effect": "Allow", "Action": "sagemaker:CreateEndpoint", "Resource": "*"}]
    try:
        iam.put_role_policy(
            RoleName=role, PolicyName=name, PolicyDocument=json.dumps(document | {"Statement": narrower})
        )
        (denied,) = failures(run(aws, "roles"))
        iam.put_role_policy(RoleName=role, PolicyName=name, PolicyDocument=json.dumps(document | {"Statement": wider}))
        (allowed,) = failures(run(aws, "roles"))
    finally:
        iam.put_role_policy(RoleName=role, PolicyName=name, PolicyDocument=json.dumps(document))
    assert denied.startswith("roles: pipeline: lambda:InvokeFunction lambda:function:medloop-champion is implicitDeny")
    assert allowed.startswith(
        "roles: pipeline: sagemaker:CreateEndpoint sagemaker:endpoint/medloop-segmentation is allow"
    )


def test_a_stack_that_isolates_training_is_simulated_as_such(aws: Mocked) -> None:
    """By its output; the deployed one's tracking needs connections, which its role allows."""
    lab = aws.lab()
    assert lab.stack.outputs["IsolatedJobs"] == "processing"
    lab.stack = dataclasses.replace(lab.stack, outputs={**lab.stack.outputs, "IsolatedJobs": "all"})
    (failed,) = failures(run_checks(lab, some("roles"), lambda check: True, lambda result: None).results)
    assert failed.startswith(
        "roles: pipeline: sagemaker:CreateTrainingJob sagemaker:training-job/pipelines-e1-train when"
    )
    assert failed.count("is allowed") == 3


CREATING = [
    ("pipelines", "CreatePipeline"),
    ("pipelines", "DeletePipeline"),
    ("versions", "CreateModelPackageGroup"),
    ("versions", "CreateModelPackage"),
    ("versions", "UpdateModelPackage"),
    ("versions", "PutObject"),
    ("endpoints", "CreateModel"),
    ("endpoints", "CreateEndpointConfig"),
    ("schedule", "CreateRole"),
    ("schedule", "PutRolePolicy"),
    ("schedule", "CreateSchedule"),
    ("source-account", "StartPipelineExecution"),
    ("source-account", "CreateProcessingJob"),
    ("run", "PutObject"),
    ("run", "UpdatePipeline"),
    ("run", "StartPipelineExecution"),
    ("gpu", "CreateTrainingJob"),
]
CODES = ("AccessDeniedException", "ValidationException", "ThrottlingException")
IDS = [f"{check} {operation}" for check, operation in CREATING]
FAULTS = [(*row, CODES[number % 3]) for number, row in enumerate(CREATING)]


@pytest.mark.parametrize(("check", "operation", "code"), FAULTS, ids=IDS)
def test_a_refused_request_fails_in_one_line_and_leaves_nothing(
    aws: Mocked, check: str, operation: str, code: str
) -> None:
    """Operation, code, message, request id; what follows is tried, or says why not."""
    aws.faults = {operation: (code, f"not now\nfor {operation}")}
    results = run(aws, check)
    aws.faults = {}
    assert any(f"{operation}: {code}: not now for {operation} (request 0a1b2c3d)" in f for f in failures(results))
    assert all("\n" not in result.detail for result in results)
    problem = next(result.error for result in results if result.error)
    assert (problem.operation, problem.code, problem.request_id) == (operation, code, "0a1b2c3d")
    if operation == "DeletePipeline":  # it couldn't be deleted meanwhile
        assert main(["--clean", aws.last_run], aws.services()) == 0


@pytest.mark.parametrize(("check", "operation"), CREATING, ids=IDS)
def test_an_interruption_leaves_nothing(aws: Mocked, check: str, operation: str, tmp_path: Path) -> None:
    """Even if the response of what was created never arrives; the rest is reported as not tried."""
    file = tmp_path / "smoke.json"
    aws.interruptions = {operation: KeyboardInterrupt()}
    assert main(["--yes", "--only", f"{check},gpu", "--json", str(file)], aws.services()) == 130
    report = Report.model_validate_json(file.read_text(encoding="utf-8"))
    assert report.interrupted == 130
    assert failures(report.results) == []
    assert "interrupted" in {result.detail for result in report.results if result.status == "not tried"}


def test_a_signal_is_an_interruption(aws: Mocked) -> None:
    """SIGTERM, sent while the smoke test waits."""
    services = dataclasses.replace(aws.services(), sleep=lambda _: os.kill(os.getpid(), signal.SIGTERM))
    assert main(["--yes", "--only", "schedule"], services) == 143
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


@pytest.mark.parametrize("check", [check.name for check in CHECKS if check.makes])
def test_what_a_killed_run_left_is_deleted_by_its_id(aws: Mocked, check: str) -> None:
    """Another process knows the id alone."""
    aws.fires = False
    before = aws.contents()
    lab = aws.lab()
    lab.sleep = aws.die_when_asleep
    (row,) = some(check)
    cases = list(row.cases(lab))
    try:
        for case in cases[:3]:
            if check == "pipelines":
                aws.faults = {"DeletePipeline": ("Killed", "before it was sent")}
            _ignoring(case.run)
    finally:
        aws.faults = {}
    left = aws.contents()
    assert left != before or check == "gpu", "nothing was created"
    assert main(["--clean", lab.run], aws.services()) == 0, aws.out.getvalue()


def _ignoring(run: Callable[[], str]) -> None:
    with contextlib.suppress(Exception, SystemExit):
        run()


def test_a_resource_that_cannot_be_deleted_is_reported(aws: Mocked) -> None:
    """With the command that deletes it later."""
    aws.faults = {"DeleteModelPackageGroup": ("AccessDeniedException", "no right")}
    services = aws.services()
    assert main(["--yes", "--only", "versions"], services) == 1
    assert "cleanup: model group medloop-smoke-" in aws.out.getvalue()
    assert f"make aws-smoke ARGS='--clean {aws.last_run}'" in aws.err.getvalue()
    aws.faults = {}
    assert main(["--clean", aws.last_run], aws.services()) == 0


def test_a_run_leaves_what_is_not_its_own(aws: Mocked) -> None:
    """Resources of another run, and others with a similar name."""
    client = aws.world.sagemaker
    names = ["medloop-smoke-250101-000000-00-versions", "medloop-smoke", "smoke-detector"]
    for name in names:
        client.create_model_package_group(ModelPackageGroupName=name)
    try:
        run(aws, "versions")
        assert set(names) <= set(aws.contents()["groups"])
    finally:
        for name in names:
            aws.backend.model_package_groups.pop(name, None)


def test_without_images_their_checks_are_not_tried(aws: Mocked) -> None:
    """And nothing is created for them."""
    aws.has_images = False
    results = run(aws, "endpoints", "run")
    assert {result.status for result in results} == {"not tried"}
    assert {result.detail for result in results} == {
        "no image of containers/serve as it is now; make images",
        "no image of containers/split as it is now; make images",
    }


def test_the_gpu_is_confirmed_by_itself(aws: Mocked) -> None:
    """With its price; a no leaves it out and is no failure."""
    services = aws.services()
    said = iter([True, False])
    services = dataclasses.replace(services, confirm=lambda question: aws.questions.append(question) or next(said))
    assert main(["--only", "roles,gpu"], services) == 0
    assert len(aws.questions) == 2
    assert "about 0.07 USD, at most 0.12" in aws.questions[1]
    assert "not confirmed" in aws.out.getvalue()
    assert "CreateTrainingJob" not in str(aws.calls)


def test_without_consent_nothing_is_created(aws: Mocked) -> None:
    """Only the account and its stack are read."""
    assert main([], aws.services(confirmed=False)) == 2
    assert [call for call in aws.calls if not call.startswith(tuple(CLEANING))] == []


@pytest.mark.parametrize(
    ("arguments", "environment", "message"),
    [
        (["--account", "999999999999"], {}, "--account names 999999999999; set AWS_PROFILE"),
        ([], {"MEDLOOP_ROLE_ARN": "arn:aws:iam::999999999999:role/x"}, "MEDLOOP_ROLE_ARN names 999999999999"),
        ([], {"MEDLOOP_BUCKET": "the-bucket-of-another-region"}, "MEDLOOP_BUCKET is the-bucket-of-another-region"),
    ],
)
def test_another_account_or_region_is_refused(
    aws: Mocked, arguments: list[str], environment: dict[str, str], message: str
) -> None:
    """In one line, which names the checks that are not tried."""
    assert main([*arguments, "--yes"], aws.services(environment=environment)) == 2
    (line,) = aws.err.getvalue().splitlines()
    assert message in line
    assert line.endswith("not tried: " + ", ".join(check.name for check in CHECKS))
    assert [call for call in aws.calls if not call.startswith(tuple(CLEANING))] == []


def test_an_account_without_the_stack_is_refused(aws: Mocked, tmp_path: Path) -> None:
    """In one line, and in the JSON."""
    aws.faults = {"DescribeStacks": ("ValidationError", "Stack with id medloop does not exist")}
    file = tmp_path / "smoke.json"
    assert main(["--yes", "--json", str(file)], aws.services()) == 2
    (line,) = aws.err.getvalue().splitlines()
    assert "deploy it: make deploy; not tried: roles, pipelines" in line
    report = Report.model_validate_json(file.read_text(encoding="utf-8"))
    assert {result.status for result in report.results} == {"not tried"}


@pytest.mark.parametrize(
    ("check", "change", "message"),
    [
        ("gpu", {"gpu_log": ""}, "the job's log has no driver"),
        (
            "gpu",
            {"gpu_log": "Tesla T4, 535.183.01\nsmoke: CUDA 13.0, usable False"},
            "driver 535.183.01, CUDA 13 needs",
        ),
        ("run", {"run_status": "Failed"}, "step Refuse: ClientError: CannotPullContainerError"),
        ("schedule", {"fires": False}, "the schedule started an execution: not after 8 minutes"),
    ],
)
def test_an_unexpected_end_is_one_line(aws: Mocked, check: str, change: dict[str, object], message: str) -> None:
    """The job's or the step's own reason."""
    for name, value in change.items():
        setattr(aws, name, value)
    (failed,) = failures(run(aws, check))
    assert message in failed


def test_a_log_that_comes_late_is_waited_for(aws: Mocked) -> None:
    """CloudWatch has a job's last lines after the job's end."""
    aws.late_reads = 3
    (result,) = run(aws, "gpu")
    assert (result.status, result.learned) == ("passed", True)


def test_a_request_that_is_refused_after_its_role_was_assumed_shows_that(aws: Mocked) -> None:
    """A quota of zero, for example: no job is made, and none is there to be stopped."""
    aws.trusting = frozenset({"CreateTrainingJob"})
    aws.later = {"CreateTrainingJob": ("ResourceLimitExceeded", "the quota is 0")}
    results = {result.case: result for result in run(aws, "source-account")}
    assert (results["training job"].status, results["training job"].detail) == ("passed", NAMED)
