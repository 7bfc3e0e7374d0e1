"""The account of tests: the deployed stack in moto, the operations that moto lacks, faults, and a clock.

Requests are checked against botocore's lengths and patterns. What moto lacks is answered by handlers of one session;
time passes only while the smoke test sleeps, and then schedules start and executions end.
"""

from __future__ import annotations

import io
import json
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cache, partial
from types import SimpleNamespace
from typing import Any

import boto3
from moto.core import DEFAULT_ACCOUNT_ID as ACCOUNT
from moto.sagemaker.models import sagemaker_backends
from rich.console import Console

from aws_smoke.__main__ import Services
from aws_smoke.account import open_account
from aws_smoke.checks import STAYS
from aws_smoke.lab import Lab, new_run
from aws_smoke.refusal import MESSAGE
from medloop.cloud.layout import group_name
from medloop.definition.requests import operation_problems
from tests.infra.flows import World
from tests.infra.iam import Request, as_list, decide
from tests.infra.template import REGION

GPU_LOG = "Tesla T4, 580.95.05\nsmoke: CUDA 13.0, usable True"
_RUN = re.compile(r"smoke-(\d{6}-\d{6}-[0-9a-f]{2})")
_CHECKED = {"sagemaker", "scheduler", "iam", "logs", "lambda", "ecr", "cloudformation"}


class SharedSession(boto3.Session):
    """A session that makes each client once: that takes longer than a whole run of the smoke test.

    Its handlers are those of the account that was opened last.
    """

    def __init__(self) -> None:
        super().__init__(aws_access_key_id="testing", aws_secret_access_key="testing", region_name=REGION)  # noqa: S106
        self.handlers: dict[str, Callable[..., Any]] = {}
        self.made: dict[str, Any] = {}
        for event in ("before-parameter-build", "before-call", "after-call"):
            self.events.register(event, partial(self._handle, event))

    def _handle(self, event: str, **arguments: Any) -> Any:
        return self.handlers[event](**arguments)

    def client(self, service_name: str, **_: Any) -> Any:  # type: ignore[override]
        """Return the client of a service."""
        if service_name not in self.made:
            self.made[service_name] = super().client(service_name)  # type: ignore[call-overload]
        return self.made[service_name]


@cache
def shared_session() -> SharedSession:
    """The one of this process."""
    return SharedSession()


@dataclass
class Mocked:
    """A session in the world, with its adapters.

    Args:
        world: The deployed stack.
    """

    world: World
    faults: dict[str, tuple[str, str]] = field(default_factory=dict)
    """Code and message by operation: the service refuses."""
    interruptions: dict[str, BaseException] = field(default_factory=dict)
    """What ends the process once the service has done this operation."""
    trusting: frozenset[str] = frozenset()
    """Operations that name the account when they assume a role."""
    time: datetime = datetime(2026, 11, 30, 12, 0, 0, tzinfo=UTC)
    calls: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    cards: dict[str, str] = field(default_factory=dict)
    runs: list[str] = field(default_factory=list)
    """Ids of runs in requests."""
    failures: dict[str, str] = field(default_factory=dict)
    """Reason by execution."""
    gpu_log: str = GPU_LOG
    late_reads: int = 0
    """Reads of the log until it is there."""
    later: dict[str, tuple[str, str]] = field(default_factory=dict)
    """Code and message by operation: refused once the role was assumed."""
    run_status: str = "Succeeded"
    """The end of the CPU run's execution."""
    has_images: bool = True
    """True if `make images` has pushed an image of each container."""
    fires: bool = True
    """True if schedules start."""

    def __post_init__(self) -> None:
        """Register the handlers."""
        self.session = shared_session()
        self.backend = sagemaker_backends[ACCOUNT][REGION]
        for event, handler in (
            ("before-parameter-build", self._keep),
            ("before-call", self._respond),
            ("after-call", self._finish),
        ):
            self.session.handlers[event] = handler

    def _keep(self, params: dict[str, Any], model: Any, context: dict[str, Any], **_: Any) -> None:
        context["params"] = params
        self.runs += [run for run in _RUN.findall(str(params)) if run not in self.runs]
        service = model.service_model.service_name
        self.calls.append(f"{service}:{model.name}")
        if service in _CHECKED:
            self.problems += [f"{model.name}: {p}" for p in operation_problems(model.name, params, model.service_model)]

    def _respond(self, model: Any, context: dict[str, Any], **_: Any) -> Any:
        params = context.get("params", {})
        fault = self.faults.get(model.name) or self._refused_role(model.name, params) or self.later.get(model.name)
        if fault:
            return _error(*fault)
        adapter = getattr(self, f"_on_{model.name}", None)
        parsed = adapter(params) if adapter else None
        return None if parsed is None else (SimpleNamespace(status_code=200), parsed)

    def _finish(self, model: Any, parsed: dict[str, Any], context: dict[str, Any], **_: Any) -> None:
        params = context.get("params", {})
        if model.name == "DescribeModelPackage" and "ModelPackageArn" in parsed:
            status = self.cards.get(parsed["ModelPackageArn"], "Draft")
            parsed["ModelCard"] = {"ModelCardStatus": status, "ModelCardContent": '{"model_overview": {}}'}
        if model.name == "DescribePipelineExecution":
            parsed["FailureReason"] = self.failures.get(params["PipelineExecutionArn"], "")
        if model.name == "StartPipelineExecution" and "PipelineExecutionArn" in parsed:
            self._started(params["PipelineName"], parsed["PipelineExecutionArn"])
        if interruption := self.interruptions.pop(model.name, None):
            raise interruption

    def _refused_role(self, operation: str, params: dict[str, Any]) -> tuple[str, str] | None:
        """SageMaker's refusal of a role whose trust the request doesn't satisfy; pipelines fail later."""
        role = params.get("ExecutionRoleArn") or params.get("RoleArn")
        role = role or params.get("TrainingJobDefinition", {}).get("RoleArn", "")
        if operation == "CreatePipeline" or not self._is_refused(operation, role):
            return None
        return "ValidationException", f"Could not assume role {role}. Please ensure that the role exists"

    def _is_refused(self, operation: str, role: str) -> bool:
        return role.endswith("-n") or (role.endswith("-s") and operation not in self.trusting)

    def _started(self, pipeline: str, arn: str) -> None:
        execution = self.world.executions(pipeline)[-1]
        role = self.backend.pipelines[pipeline].role_arn
        execution.pipeline_execution_status = "Executing"
        if "/medloop-smoke/" in role:
            refused = self._is_refused("StartPipelineExecution", role)
            self.failures[arn] = f"Unable to assume role {role}" if refused else f"Step Refuse failed: {MESSAGE} none"
            execution.pipeline_execution_status = "Failed"

    def _on_SimulatePrincipalPolicy(self, params: dict[str, Any]) -> dict[str, Any]:  # noqa: N802
        name = params["PolicySourceArn"].rpartition("/")[2]
        iam = self.world.client("iam")
        statements = []
        for policy in iam.list_role_policies(RoleName=name)["PolicyNames"]:
            document = iam.get_role_policy(RoleName=name, PolicyName=policy)["PolicyDocument"]
            statements += as_list(document["Statement"])
        context = {entry["ContextKeyName"]: entry["ContextKeyValues"] for entry in params["ContextEntries"]}
        context = {name: value if len(value) != 1 else value[0] for name, value in context.items()}
        action, resource = params["ActionNames"][0], params["ResourceArns"][0]
        decision = decide(Request(params["PolicySourceArn"], action, resource, context), statements)
        decision = {"allowed": "allowed", "denied": "implicitDeny"}.get(decision, "explicitDeny")  # type: ignore[assignment]
        return {"EvaluationResults": [{"EvalActionName": action, "EvalDecision": decision}]}

    def _on_UpdateModelPackage(self, params: dict[str, Any]) -> dict[str, Any] | None:  # noqa: N802
        if "ModelCard" not in params:
            return None
        self.cards[params["ModelPackageArn"]] = params["ModelCard"]["ModelCardStatus"]
        return {"ModelPackageArn": params["ModelPackageArn"]}

    def _on_DeleteModelPackage(self, params: dict[str, Any]) -> Any:  # noqa: N802
        if self.backend.model_packages.pop(params["ModelPackageName"], None) is None:
            raise_absent(f"ModelPackage {params['ModelPackageName']} does not exist.")
        return {}

    def _on_DeleteModelPackageGroup(self, params: dict[str, Any]) -> Any:  # noqa: N802
        name = params["ModelPackageGroupName"]
        if any(package.model_package_group_name == name for package in self.backend.model_packages.values()):
            raise AssertionError(f"group {name} has versions")
        self.backend.model_package_groups.pop(name, None)
        return {}

    def _on_ListPipelineExecutionSteps(self, params: dict[str, Any]) -> dict[str, Any]:  # noqa: N802
        reason = self.failures.get(params["PipelineExecutionArn"], "")
        status = {"StepStatus": "Failed", "FailureReason": reason} if reason else {"StepStatus": "Succeeded"}
        return {"PipelineExecutionSteps": [{"StepName": "Refuse", **status}]}

    def _on_FilterLogEvents(self, params: dict[str, Any]) -> dict[str, Any]:  # noqa: N802
        self.late_reads -= 1
        return {"events": [{"message": line} for line in self.gpu_log.splitlines() if self.late_reads < 0]}

    def _on_DescribeImages(self, params: dict[str, Any]) -> dict[str, Any] | None:  # noqa: N802
        return {"imageDetails": [{"imageDigest": f"sha256:{'0' * 64}"}]} if self.has_images else None

    def _on_ListPipelineVersions(self, params: dict[str, Any]) -> dict[str, Any]:  # noqa: N802
        return {"PipelineVersionSummaries": [{"PipelineVersionId": 1}]}

    def sleep(self, seconds: float) -> None:
        """Let time pass: schedules start, executions end."""
        self.time += timedelta(seconds=seconds)
        for schedule in self.schedules():
            self._fire(schedule)
        for name in list(self.backend.pipelines):
            if name.startswith("classification-smoke-"):
                self._end_run(name)

    def schedules(self) -> list[str]:
        """Names of this account's schedules of smoke tests."""
        listed = self.world.client("scheduler").list_schedules(NamePrefix="medloop-smoke-")["Schedules"]
        return [item["Name"] for item in listed]

    def _fire(self, name: str) -> None:
        schedule = self.world.client("scheduler").get_schedule(Name=name)
        start = schedule["ScheduleExpression"].removeprefix("at(").removesuffix(")")
        if not self.fires or self.time < datetime.fromisoformat(start).replace(tzinfo=UTC):
            return
        pipeline = json.loads(schedule["Target"]["Input"])["PipelineName"]
        if not self.backend.pipelines[pipeline].pipeline_executions:
            request = json.loads(schedule["Target"]["Input"].replace("<aws.scheduler.scheduled-time>", f"{start}Z"))
            arn = self.world.sagemaker.start_pipeline_execution(**request)["PipelineExecutionArn"]
            self.world.executions(pipeline)[-1].pipeline_execution_status = "Failed"
            self.failures[arn] = f"{MESSAGE} {start}Z"

    def _end_run(self, name: str) -> None:
        for execution in self.world.executions(name):
            if execution.pipeline_execution_status == "Executing":
                execution.pipeline_execution_status = self.run_status
                if self.run_status == "Failed":
                    self.failures[execution.arn] = "ClientError: CannotPullContainerError"
                    return
                self.world.sagemaker.create_model_package(
                    ModelPackageGroupName=group_name("classification", ""),
                    ModelApprovalStatus="Rejected",
                    CustomerMetadataProperties={"execution": execution.arn},
                )

    @property
    def last_run(self) -> str:
        """The id of the run that was started last, by its resources' tag or the clock."""
        return self.runs[-1]

    def die_when_asleep(self, seconds: float) -> None:
        """End as a killed process does."""
        raise SystemExit(137)

    def lab(self) -> Lab:
        """Open a run of the smoke test."""
        target, stack = open_account(self.session, {})
        return Lab(new_run(self.time), target, stack, self.sleep, lambda: self.time)

    def services(self, confirmed: bool = True, environment: dict[str, str] | None = None) -> Services:
        """The command's outside; results and progress go to `out` and `err`."""
        self.out, self.err, self.questions = io.StringIO(), io.StringIO(), list[str]()

        def confirm(question: str) -> bool:
            self.questions.append(question)
            return confirmed

        consoles = {"out": Console(file=self.out, width=9999), "err": Console(file=self.err, width=9999)}
        return Services(lambda: self.session, confirm, self.sleep, lambda: self.time, environment or {}, **consoles)

    def contents(self) -> dict[str, list[str]]:
        """List what the account has, by kind."""
        client, backend = self.world.client, self.backend
        buckets = [self.world.stack.outputs[name] for name in ("MedloopBucket", "DataBucket")]
        objects = []
        for bucket in buckets:
            listed = client("s3").list_object_versions(Bucket=bucket)
            objects += [
                f"{bucket}/{item['Key']}" for item in [*listed.get("Versions", []), *listed.get("DeleteMarkers", [])]
            ]
        stays = tuple(prefix for prefixes in STAYS.values() for prefix in prefixes)
        objects = [name for name in objects if not name.partition("/")[2].startswith(stays)]
        running = [e for p in backend.pipelines.values() for e in p.pipeline_executions.values()]
        return {
            "pipelines": sorted(backend.pipelines),
            "groups": sorted(backend.model_package_groups),
            "versions": sorted(backend.model_packages),
            "models": sorted(backend._models),
            "configurations": sorted(backend.endpoint_configs),
            "schedules": self.schedules(),
            "roles": sorted(role["RoleName"] for role in client("iam").list_roles(MaxItems=1000)["Roles"]),
            "objects": sorted(objects),
            "executions": [e.arn for e in running if e.pipeline_execution_status == "Executing"],
        }


def _error(code: str, message: str) -> tuple[SimpleNamespace, dict[str, Any]]:
    metadata = {"RequestId": "0a1b2c3d", "HTTPStatusCode": 400}
    return SimpleNamespace(status_code=400), {"Error": {"Code": code, "Message": message}, "ResponseMetadata": metadata}


def raise_absent(message: str) -> None:
    """Raise botocore's error for something that isn't there."""
    from botocore.exceptions import ClientError

    raise ClientError({"Error": {"Code": "ValidationException", "Message": message}}, "DeleteModelPackage")
