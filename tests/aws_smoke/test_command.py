"""The command without an account: its plan, its refusals, its table; and the parts that need none."""

from __future__ import annotations

import io
import json
import re
import signal
import subprocess
import sys
from datetime import UTC, datetime

import boto3
import pytest
from botocore.exceptions import ClientError, EndpointConnectionError, ProfileNotFound
from rich.console import Console

from aws_smoke.__main__ import Services, main
from aws_smoke.account import Stack
from aws_smoke.check import Case, NotTriedError, Result, UnexpectedError, failure, try_case
from aws_smoke.checks import CHECKS
from aws_smoke.execution import JOBS, SETTINGS, replace_text, tiny_images
from aws_smoke.gpu import job_request, read_driver
from aws_smoke.lab import RUN, Lab, new_run
from aws_smoke.refusal import MESSAGE, refusal_definition
from aws_smoke.report import Report, print_report
from aws_smoke.resources import KINDS
from medloop.cloud.target import Target
from medloop.definition.cost import ceiling, load_prices, price_definition
from medloop.definition.read import read_definition
from medloop.definition.requests import operation_problems
from medloop.definition.service_models import service_models
from medloop.definition.service_shape import check_members
from medloop.definition.validate import validate
from medloop.errors import MedloopError, TargetError
from medloop.settings import resolve
from pipelines.variants import variants
from tests.architecture.source import ROOT

NOW = datetime(2026, 11, 30, 20, 51, 3, tzinfo=UTC)
OUTPUTS = {
    "MedloopBucket": "artefacts",
    "DataBucket": "data",
    "ArtefactKeyArn": "arn:aws:kms:eu-central-1:111122223333:key/0a1b2c3d-0000-4000-8000-0a1b2c3d4e5f",
    "Subnets": "subnet-0a1b2c3d,subnet-1a1b2c3d",
    "SecurityGroup": "sg-0a1b2c3d",
}
ROLE = "arn:aws:iam::111122223333:role/training"
DEPLOY = (ROOT / "docs/deploy.md").read_text(encoding="utf-8")


def command(*arguments: str, session: object = None) -> tuple[int, str, str]:
    """Run the command without an account; returns the exit code and both outputs."""
    out, err = io.StringIO(), io.StringIO()

    def opened() -> boto3.Session:
        if isinstance(session, Exception):
            raise session
        return session or boto3.Session("none", "none", region_name="eu-central-1")  # type: ignore[return-value]

    consoles = {"out": Console(file=out, width=9999), "err": Console(file=err, width=9999)}
    services = Services(opened, lambda _: True, lambda _: None, lambda: NOW, {}, **consoles)
    return main(arguments, services), out.getvalue(), err.getvalue()


def test_the_plan_needs_no_credentials() -> None:
    """It lists every check with its price, what it creates, each of its requests; under 60 lines."""
    code, out, err = command("--dry-run", session=ProfileNotFound(profile="none"))
    assert (code, err) == (0, "")
    assert len(out.splitlines()) < 60
    for check in CHECKS:
        assert f"\n{check.name} (" in out
        assert all(call.partition(":")[2] in out for call in check.calls)
        assert all(kind in out for kind in check.makes)
    assert f"pipelines: {len(list(variants()))} definitions" in out
    (total,) = re.findall(r"Estimated (\d\.\d\d) USD, at most (\d\.\d\d) USD", out)
    assert float(total[0]) <= float(total[1]) <= 1.0


def test_the_plan_of_some_checks() -> None:
    """`--only` and `--skip`; an unknown name is refused."""
    code, out, _ = command("--dry-run", "--only", "roles,gpu", "--skip", "gpu")
    assert code == 0
    assert "roles (free)" in out
    assert "gpu (" not in out
    code, _, err = command("--dry-run", "--only", "role")
    assert code == 2
    assert "check 'role' is unknown; one of roles, pipelines" in err


@pytest.mark.parametrize(
    ("session", "message"),
    [
        (ProfileNotFound(profile="admin"), "admin"),
        (boto3.Session("none", "none"), "no region; set AWS_DEFAULT_REGION"),
    ],
)
def test_a_session_that_reaches_no_account_is_refused(
    session: object, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In one line, with the checks that are not tried."""
    monkeypatch.delenv("AWS_DEFAULT_REGION", raising=False)
    code, out, err = command("--yes", session=session)
    assert (code, out) == (2, "")
    (line,) = err.splitlines()
    assert message in line
    assert "not tried: roles, pipelines" in line


@pytest.mark.parametrize("run", ["", "smoke", "261130-205103", "261130-205103-a1*", "../261130-205103-a1"])
def test_only_a_runs_id_is_cleaned(run: str) -> None:
    """Any other text could match what isn't the smoke test's."""
    code, _, err = command("--clean", run)
    assert code == 2 or run == ""
    assert "is no run's id" in err or run == ""


def test_the_makefile_passes_its_arguments() -> None:
    """`make aws-smoke ARGS=--dry-run`."""
    command = ["make", "--no-print-directory", "-n", "aws-smoke", "ARGS=--dry-run", "STAMP=", "BIN=bin"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.splitlines()[-1] == "bin/python -m aws_smoke --dry-run"


def test_operations_of_the_plan_exist() -> None:
    """Each is an operation of its service."""
    for check in CHECKS:
        for call in check.calls:
            service, _, operation = call.partition(":")
            operations = service_models().load_service_model(service, "service-2")["operations"]
            assert operation in operations, f"{check.name}: {call}"


def test_kinds_are_deleted() -> None:
    """Each kind that a check creates has a way to be found and deleted."""
    assert {kind for check in CHECKS for kind in check.makes} <= {kind.name for kind in KINDS}


def test_each_unknown_of_the_docs_names_its_check() -> None:
    """docs/deploy.md's rows name a check that resolves them, or say that there is none; and the other way round."""
    section = DEPLOY.partition("## Unknown until the first deployment")[2].partition("\n## ")[0]
    rows = [row.split(" | ") for row in re.findall(r"^\| (?!unknown|-)(.*) \|$", section, re.MULTILINE)]
    assert len(rows) == 8
    for unknown, _, shows in rows:
        resolving = {check.name for check in CHECKS if any(text in unknown for text in check.unknown)}
        named = {check.name for check in CHECKS if f"`{check.name}`" in shows}
        assert resolving == named or "no smoke check" in shows or "no other smoke check" in shows, unknown
    texts = [text for check in CHECKS for text in check.unknown]
    assert [text for text in texts if text not in section] == []
    assert [check.name for check in CHECKS if f"| `{check.name}` | " not in DEPLOY] == []


def service_error(message: str = "no\nright \x1b[31m") -> ClientError:
    """A service's refusal."""
    response = {
        "Error": {"Code": "AccessDeniedException", "Message": message},
        "ResponseMetadata": {"RequestId": "0a1b"},
    }
    return ClientError(response, "CreatePipeline")


def wrapped() -> MedloopError:
    """A service's refusal in medloop's own words."""
    try:
        try:
            raise service_error()
        except ClientError as error:
            raise TargetError("can't be stored") from error
    except TargetError as error:
        return error


@pytest.mark.parametrize(
    ("error", "status", "detail"),
    [
        (NotTriedError("no image"), "not tried", "no image"),
        (UnexpectedError("state is X"), "failed", "state is X"),
        (service_error(), "failed", r"CreatePipeline: AccessDeniedException: no right \x1b[31m (request 0a1b)"),
        (wrapped(), "failed", r"CreatePipeline: AccessDeniedException: no right \x1b[31m (request 0a1b)"),
        (ClientError({}, "ListPipelines"), "failed", "ListPipelines: : (request without id)"),
        (
            EndpointConnectionError(endpoint_url="https://x"),
            "failed",
            'Could not connect to the endpoint URL: "https://x"',
        ),
        (KeyError("PipelineArn"), "failed", "unexpected response: KeyError: 'PipelineArn'"),
        (
            TimeoutError("x ended: not after 8 minutes"),
            "failed",
            "x ended: not after 8 minutes",
        ),
    ],
)
def test_any_error_is_one_line(error: Exception, status: str, detail: str) -> None:
    """Never a traceback, a second line or a terminal's code."""

    def run() -> str:
        raise error

    result = try_case("pipelines", Case("a", run))
    assert result.status == status
    assert result.detail.startswith(detail)
    assert "\n" not in result.detail
    assert "\x1b" not in result.detail


@pytest.mark.parametrize("interruption", [KeyboardInterrupt, SystemExit])
def test_an_interruption_is_no_result(interruption: type[BaseException]) -> None:
    """It ends the checks."""

    def run() -> str:
        raise interruption

    with pytest.raises(interruption):
        try_case("pipelines", Case("a", run))


def test_the_table_counts_and_explains() -> None:
    """A row for each check; failures that share a reason in one line; the reason cut, but not in the JSON."""
    long = ClientError({"Error": {"Code": "E", "Message": "x" * 9000}}, "CreateModel")
    results = [
        Result(check="roles", case="pipeline", status="passed", detail="fine"),
        *(Result(check="run", case=str(n), status="not tried", detail="no image") for n in range(12)),
        failure("endpoints", "real-time", long),
    ]
    out = io.StringIO()
    report = Report(run="261130-205103-a1", account="1", region="r", results=results)
    print_report(Console(file=out, width=9999), report)
    lines = out.getvalue().splitlines()
    assert [line.split() for line in lines[:4]] == [
        ["check", "passed", "failed", "not", "tried"],
        ["roles", "1"],
        ["run", "12"],
        ["endpoints", "1"],
    ]
    assert "  run: 0, 1, 2, 3, 4, 5, 6, 7, 8, 9 and 2 more: no image" in lines
    assert max(map(len, lines)) < 700
    assert len(json.loads(report.model_dump_json())["results"][-1]["error"]["message"]) == 9000


def test_a_runs_names_fit_the_services() -> None:
    """The longest names, and a tuning job's 32 characters."""
    run = new_run(NOW)
    assert RUN.fullmatch(run)
    made = lab(run)
    assert made.name("x").startswith("medloop-smoke-261130-205103-")
    assert len(made.name("s")) <= 32
    assert len(f"classification-{made.marker}") <= 63
    assert resolve("classification", project=made.marker).group == f"medloop-classification-{made.marker}"
    assert made.started < NOW


def lab(run: str = "261130-205103-a1") -> Lab:
    """A run in an account that is never reached."""
    session = boto3.Session("none", "none", region_name="eu-central-1")
    roles = {"training": ROLE}
    target = Target("aws", session, "artefacts", ROLE, "111122223333", "eu-central-1", roles)  # type: ignore[arg-type]
    return Lab(run, target, Stack(OUTPUTS), lambda _: None, lambda: NOW)


def test_the_gpus_request_is_the_services() -> None:
    """Within its limits, in the jobs' network, and bounded in time."""
    request = job_request(lab())
    assert list(operation_problems("CreateTrainingJob", request)) == []
    assert request["VpcConfig"]["Subnets"] == ["subnet-0a1b2c3d", "subnet-1a1b2c3d"]
    assert request["StoppingCondition"]["MaxRuntimeInSeconds"] == 600


@pytest.mark.parametrize(
    ("log", "text"),
    [
        ("NVIDIA A10G, 580.65\nsmoke: CUDA 13.0, usable True", "NVIDIA A10G, driver 580.65, CUDA 13 needs 580"),
        ("line\nTesla T4, 470.256.02\nsmoke: CUDA 12.8, usable True\nend", "driver 470.256.02, CUDA 12 needs 525"),
        ("Tesla T4, 570.1\nsmoke: CUDA 14.0, usable True", "CUDA 14 needs None, usable: True"),
    ],
)
def test_the_driver_is_read_from_the_log(log: str, text: str) -> None:
    """With what CUDA needs."""
    assert text in read_driver(log)


@pytest.mark.parametrize(
    "log",
    [
        "",
        "NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver.\nsmoke: CUDA 13.0, usable False",
        "Tesla T4, 535.183.01\nsmoke: CUDA 13.0, usable False",
        "Tesla T4, 580.65\nModuleNotFoundError: No module named 'torch'",
    ],
)
def test_a_driver_that_does_not_do_is_a_failure(log: str) -> None:
    """Also if nothing was printed."""
    with pytest.raises(UnexpectedError):
        read_driver(log)


def test_the_failing_pipeline_is_valid() -> None:
    """By our validation, and with members that definitions are known to have."""
    definition = read_definition(refusal_definition())
    assert validate(refusal_definition()) == []
    assert list(check_members(definition)) == []
    assert MESSAGE in refusal_definition()


def test_texts_of_a_definition_are_replaced_whole() -> None:
    """A value that contains the text stays."""
    text = refusal_definition().replace("yes", "group").replace("refused,", "group,")
    changed = json.loads(replace_text(text, "group", "other"))
    gate = changed["Steps"][0]["Arguments"]
    assert gate["Conditions"][0]["RightValue"] == "other"
    assert "group, as the" in json.dumps(gate["ElseSteps"])


def test_the_tiny_data_set_is_two_classes() -> None:
    """Of distinct images, the same in each run."""
    images = dict(tiny_images())
    assert {name.partition("/")[0] for name in images} == {"bright", "dark"}
    assert len(set(images.values())) == len(images) == 30
    assert images == dict(tiny_images())


@pytest.mark.slow
def test_the_runs_price_is_that_of_its_definition() -> None:
    """The table's numbers, which need no SDK, and those of the definition."""
    from medloop.cloud.upsert import build_definition
    from tests.pipelines.world import unreachable_target

    text = build_definition(unreachable_target([]), resolve("classification", None, SETTINGS))
    definition = read_definition(text)
    values = {p.name: "" if p.default is None else str(p.default) for p in definition.parameters}
    lines = [line for line in price_definition(definition, values, load_prices()) if line.usd_per_month is None]
    assert sorted(line.step.lower() for line in lines) == sorted(JOBS)
    (run,) = [check for check in CHECKS if check.name == "run"]
    # The definition's price has the volumes too: less than a cent.
    assert run.most_usd == pytest.approx(ceiling(lines), abs=0.01)


def test_signals_are_put_back() -> None:
    """A command that is refused changes nothing for the process."""
    before = signal.getsignal(signal.SIGTERM)
    command("--yes", session=ProfileNotFound(profile="x"))
    assert signal.getsignal(signal.SIGTERM) is before


@pytest.mark.slow
def test_help_names_every_check() -> None:
    """`--help` doesn't import the SDK."""
    code = "import atexit, sys, aws_smoke.__main__ as m\natexit.register(lambda: print('sagemaker' in sys.modules))"
    code += "\nm.main(['--help'])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.splitlines()[-1] == "False"
    assert all(check.name in done.stdout for check in CHECKS)
