"""The deployed stack at work in moto's account: its events, functions, clocks and what moto lacks.

The template is deployed into moto's CloudFormation (deployed.py). State machines are run by moto's interpreter of the
Amazon States Language. Functions run in process, by the handler and environment that they were deployed with. Added to
moto: executions of pipelines that last, start tokens, endpoints that are updated by a canary and rolled back by alarms,
and refusals of what exists already.
"""

from __future__ import annotations

import importlib
import io
import json
import os
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any
from unittest.mock import patch
from urllib.parse import unquote

import boto3
from antlr4 import CommonTokenStream, InputStream
from botocore.awsrequest import AWSResponse
from cryptography.hazmat.primitives.asymmetric import rsa
from moto import mock_aws
from moto.cloudformation.models import Stack
from moto.cloudwatch.models import cloudwatch_backends
from moto.core import DEFAULT_ACCOUNT_ID as ACCOUNT
from moto.core.utils import utcnow
from moto.events.models import EventPattern, EventsBackend
from moto.kms import models as kms
from moto.sagemaker.models import sagemaker_backends
from moto.sns.models import Subscription
from moto.stepfunctions.parser.asl.antlr.runtime.ASLLexer import ASLLexer
from moto.stepfunctions.parser.asl.antlr.runtime.ASLParser import ASLParser
from moto.stepfunctions.parser.asl.component.common.retry import retrier_decl
from moto.stepfunctions.parser.asl.component.state.exec.state_task.service.state_task_service import StateTaskService
from moto.stepfunctions.parser.asl.component.state.exec.state_task.service.state_task_service_aws_sdk import (
    StateTaskServiceAwsSdk,
)
from moto.stepfunctions.parser.asl.component.state.wait.wait_function.wait_function import WaitFunction
from moto.stepfunctions.parser.asl.parse.asl_parser import AmazonStateLanguageParser, SyntaxErrorListener
from moto.stepfunctions.parser.asl.parse.preprocessor import Preprocessor

from infra.names import STACK_NAME
from medloop.definition.requests import operation_problems
from tests.infra.deployed import Deployed
from tests.infra.richer_moto import richer_sagemaker
from tests.infra.template import REGION

BOTO_NAMES = {"applicationautoscaling": "application-autoscaling"}
"""Step Functions' names of services where botocore's, which moto takes, are others."""
ENDED = ("SUCCEEDED", "FAILED", "TIMED_OUT", "ABORTED")


class World:
    """An account with the stack, and EventBridge's part, which moto leaves out."""

    def __init__(self, assembly: Path, stack_name: str = STACK_NAME) -> None:
        """Deploy the stack, with a queue that hears what each topic says."""
        self.stack = Deployed(assembly, stack_name)
        self.sagemaker = self.client("sagemaker")
        self.s3 = self.client("s3")
        self.cloudwatch = self.client("cloudwatch")
        self.states = self.client("stepfunctions")
        self.tokens: dict[str, tuple[str, str]] = {}
        self.started: list[dict[str, Any]] = []
        self.updates: list[dict[str, Any]] = []
        self.holds: set[str] = set()
        """Endpoints whose update doesn't end."""
        self.refusals: dict[str, str] = {}
        """What moto's method of this name shall refuse, and how."""
        self.lenient = False
        """True if a known start token is accepted with any other parameters."""
        self._before = set(threading.enumerate())
        self.starting = threading.Lock()
        self._lock = threading.Lock()
        topics = self.stack.by_type("AWS::SNS::Topic")
        self._queues = {logical: self._listen(logical, topic) for logical, topic in topics.items()}
        self.machines = set(self.stack.by_type("AWS::StepFunctions::StateMachine").values())

    def _listen(self, name: str, topic: str) -> str:
        """A new queue's URL."""
        queue = self.client("sqs").create_queue(QueueName=name)["QueueUrl"]
        self.client("sns").subscribe(TopicArn=topic, Protocol="sqs", Endpoint=f"arn:aws:sqs:{REGION}:{ACCOUNT}:{name}")
        return str(queue)

    def send(
        self, source: str, detail_type: str, detail: dict[str, Any], *, sender: str = ACCOUNT, bus: str = "default"
    ) -> list[str]:
        """Deliver an event to every rule of a bus that wants it; returns the executions that it started."""
        event = {
            "version": "0", "id": "e", "source": source, "detail-type": detail_type, "account": sender,
            "time": "2027-01-01T00:00:00Z", "region": REGION, "resources": [], "detail": detail,
        }  # fmt: skip
        rules = self.client("events").list_rules(EventBusName=bus)["Rules"]
        patterns = {rule["Name"]: rule["EventPattern"] for rule in rules if "EventPattern" in rule}
        matching = [rule for rule, pattern in patterns.items() if EventPattern.load(pattern).matches_event(event)]
        targets = [target for rule in matching for target in self.targets(rule, bus)]
        return [self.start(target["Arn"], event) for target in targets if target["Arn"] in self.machines]

    def targets(self, rule: str, bus: str = "default") -> list[dict[str, Any]]:
        """Where a rule sends its events."""
        return list(self.client("events").list_targets_by_rule(Rule=rule, EventBusName=bus)["Targets"])

    def tick(self, rule: str) -> list[str]:
        """What EventBridge does when a day is over, for a daily rule; returns the executions that it started."""
        described = self.client("events").describe_rule(Name=rule)
        assert (described["ScheduleExpression"], described["State"]) == ("rate(1 day)", "ENABLED")
        return [self.start(target["Arn"], json.loads(target["Input"])) for target in self.targets(rule)]

    def fire(self, schedule: str) -> str:
        """What EventBridge Scheduler does when a schedule's time has come."""
        target = self.client("scheduler").get_schedule(Name=schedule)["Target"]
        return self.start(target["Arn"], json.loads(target["Input"]))

    def start(self, machine: str, content: dict[str, Any]) -> str:
        """Start an execution; returns its ARN."""
        name = str(uuid.uuid4())
        return str(
            self.states.start_execution(stateMachineArn=machine, name=name, input=json.dumps(content))["executionArn"]
        )

    def stop(self) -> None:
        """Stop what still waits: moto runs executions in threads, which would continue in the next test's account."""
        for machine in self.machines:
            for execution in self.states.list_executions(stateMachineArn=machine, statusFilter="RUNNING")["executions"]:
                self.states.stop_execution(executionArn=execution["executionArn"])
        self.until(lambda: set(threading.enumerate()) <= self._before)

    def ended(self, execution: str) -> dict[str, Any]:
        """Wait for an execution's end; returns its description."""
        return self.until(
            lambda: (d := self.states.describe_execution(executionArn=execution))["status"] in ENDED and d
        )

    def until(self, holds: Callable[[], Any]) -> Any:
        """Wait until something holds; returns it."""
        end = time.monotonic() + 20
        while time.monotonic() < end:
            if value := holds():
                return value
            time.sleep(0.02)
        raise AssertionError("it never held")

    def visited(self, execution: str) -> list[str]:
        """The states that an execution entered, in order."""
        events = self.states.get_execution_history(executionArn=execution)["events"]
        return [e["stateEnteredEventDetails"]["name"] for e in events if "stateEnteredEventDetails" in e]

    def visited_by(self, execution: str) -> list[str]:
        """The states that an execution entered until its end."""
        self.ended(execution)
        return self.visited(execution)

    def client(self, service: str) -> Any:
        """A client of the account."""
        return boto3.client(service)  # type: ignore[call-overload]

    def mails(self, part: str) -> list[dict[str, str]]:
        """What was published to the topic whose logical name holds this part."""
        (logical,) = [name for name in self._queues if part in name]
        sqs, messages = self.client("sqs"), []
        while batch := sqs.receive_message(QueueUrl=self._queues[logical], MaxNumberOfMessages=10).get("Messages"):
            messages += [json.loads(message["Body"]) for message in batch]
        return messages

    def executions(self, pipeline: str) -> list[Any]:
        """The executions of a pipeline, oldest first."""
        return list(sagemaker_backends[ACCOUNT][REGION].pipelines[pipeline].pipeline_executions.values())

    def finish(self, pipeline: str, status: str = "Succeeded") -> None:
        """Let the newest execution end."""
        self.executions(pipeline)[-1].pipeline_execution_status = status

    def upsert(self, pipeline: str) -> None:
        """Change a pipeline; moto's UpdatePipeline leaves the time of the change as it was."""
        sagemaker_backends[ACCOUNT][REGION].pipelines[pipeline].last_modified_time = utcnow()

    def endpoint(self, name: str) -> Any:
        """An endpoint, None where there is none."""
        return sagemaker_backends[ACCOUNT][REGION].endpoints.get(name)

    def package(self, arn: str) -> Any:
        """A version, as moto keeps it."""
        return sagemaker_backends[ACCOUNT][REGION].model_packages[arn]

    def measured(self) -> list[Any]:
        """The metrics that were put."""
        return list(cloudwatch_backends[ACCOUNT][REGION].metric_data)

    def machine(self, config: str) -> str | None:
        """The kind of machine that an endpoint configuration asks for; None of a serverless one."""
        made = sagemaker_backends[ACCOUNT][REGION].endpoint_configs[config]
        return made.production_variants[0].get("InstanceType")

    def scaled(self, endpoint: str) -> bool:
        """Whether an endpoint is scaled, by a policy."""
        scaling = self.client("application-autoscaling")
        targets = scaling.describe_scalable_targets(ServiceNamespace="sagemaker")["ScalableTargets"]
        return any(target["ResourceId"].startswith(f"endpoint/{endpoint}/") for target in targets)

    def call(self, function: str, payload: Any) -> tuple[Any, bool]:
        """Run a function in process; returns its answer, and whether it is an error."""
        deployed = self.client("lambda").get_function_configuration(FunctionName=function)
        module, _, name = deployed["Handler"].rpartition(".")
        handler = getattr(importlib.import_module(module.replace("/", ".")), name)
        variables = deployed.get("Environment", {}).get("Variables", {})
        with self._lock, patch.dict(os.environ, variables):
            try:
                return json.loads(json.dumps(handler(payload, None))), False
            except Exception as error:
                return {"errorType": type(error).__name__, "errorMessage": str(error)}, True


@contextmanager
def world(assembly: Path, stack_name: str = STACK_NAME) -> Iterator[World]:
    """Open the world; every wait of a state machine and every pause before a repetition takes a moment only."""
    keys = {"AWS_ACCESS_KEY_ID": "testing", "AWS_SECRET_ACCESS_KEY": "testing", "AWS_DEFAULT_REGION": REGION}
    # Reading a thousand images of machines, or JSON as YAML, would take longer than the flow itself.
    hastily = {"MOTO_EC2_LOAD_DEFAULT_AMIS": "false"}
    with (
        patch.dict(os.environ, keys | hastily),
        mock_aws(config={"stepfunctions": {"execute_state_machine": True}, "lambda": {"use_docker": False}}),
        patch.object(Stack, "parse_template", staticmethod(json.loads)),
        patch.object(WaitFunction, "_wait_interval", _wait_a_moment),
        patch.object(AmazonStateLanguageParser, "parse", staticmethod(_parse)),
        patch.object(retrier_decl, "time", _Hasty()),
        patch.object(StateTaskServiceAwsSdk, "_eval_service_task", _as_json(StateTaskServiceAwsSdk._eval_service_task)),
        patch.dict(StateTaskService._SERVICE_NAME_SFN_TO_BOTO_OVERRIDES, BOTO_NAMES),
        patch.object(Subscription, "private_key", _signing_key),
        patch.object(kms, "generate_private_key", _kms_key),
        patch.object(EventsBackend, "_normalize_event_bus_arn", _name_of_bus),
        patch.object(boto3, "client", _remembering({})),
    ):
        boto3.DEFAULT_SESSION = _session()
        made = World(assembly, stack_name)
        invoke = _invoking(made)
        with richer_sagemaker(made):
            _session().events.register("before-call.lambda.Invoke", invoke)
            BEYOND_LIMITS.clear()
            try:
                yield made
                assert BEYOND_LIMITS == []
            finally:
                made.stop()
                _session().events.unregister("before-call.lambda.Invoke", invoke)
                boto3.DEFAULT_SESSION = None


@cache
def _session() -> boto3.Session:
    """One for all worlds: it reads each service's model once. Each request is checked, moto's own for a state too."""
    session = boto3.Session(region_name=REGION)
    session.events.register("provide-client-params", _check)
    return session


def _check(params: dict[str, Any], model: Any, **_: Any) -> None:
    """Note what the service would refuse; moto takes any length and any pattern."""
    problems = operation_problems(model.name, params, model.service_model)
    BEYOND_LIMITS.extend(f"{model.service_model.service_name}:{model.name}: {problem}" for problem in problems)


BEYOND_LIMITS: list[str] = []
"""Problems of the requests of the world that is open."""


def _remembering(remembered: dict[Any, Any]) -> Callable[..., Any]:
    """`boto3.client`, which takes a while to make one: all worlds share clients, except those that a world answers."""

    def client(service_name: str, **more: Any) -> Any:
        known, key = (remembered if service_name == "lambda" else _CLIENTS), (service_name, *sorted(more))
        if key not in known:
            known[key] = _session().client(service_name, **more)
        return known[key]

    return client


_CLIENTS: dict[Any, Any] = {}


_kms_key = cache(kms.generate_private_key)
"""One for all keys of a kind: nothing is signed by them, and each takes 0.1 s."""


@cache
def _key() -> Any:
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


def _signing_key(self: Subscription) -> Any:
    """One for all topics' messages; moto makes one for each subscription."""
    return _key()


@cache
def _tree(definition: str) -> Any:
    """A definition's parse tree, which takes moto half a second and is the same in every world."""
    parser = ASLParser(CommonTokenStream(ASLLexer(InputStream(definition))))
    parser.removeErrorListeners()
    errors = SyntaxErrorListener()
    parser.addErrorListener(errors)
    tree = parser.state_machine()
    assert errors.errors == []
    return tree


def _parse(definition: str) -> tuple[Any, Any]:
    """Parse as moto does, except for the tree: its components are built again, because they may keep state."""
    return Preprocessor().visit(_tree(definition)), _tree(definition)


def _as_json(evaluate: Callable[..., None]) -> Callable[..., None]:
    """Times in a service's answer as text, as Step Functions has them; moto leaves them as they are."""

    def evaluated(self: Any, env: Any, **arguments: Any) -> None:
        evaluate(self, env=env, **arguments)
        env.stack[-1] = json.loads(json.dumps(env.stack[-1], default=str))

    return evaluated


class _Hasty:
    """`time`, for a module that only pauses by it."""

    @staticmethod
    def sleep(_: float) -> None:
        """Don't."""


def _name_of_bus(self: Any, bus: Any) -> str:
    """The name in a bus's ARN; moto gets the bus itself, where a template refers to one."""
    return "default" if bus is None else str(getattr(bus, "name", bus)).rpartition("/")[2]


def _wait_a_moment(self: Any, env: Any, wait_seconds: int) -> None:
    env.program_state_event.wait(0.02)


def _invoking(made: World) -> Callable[..., Any]:
    def invoke(params: dict[str, Any], **_: Any) -> tuple[AWSResponse, dict[str, Any]]:
        function = unquote(params["url_path"].split("/functions/")[1].split("/")[0])
        response, failed = made.call(function, json.loads(params["body"]))
        error = {"FunctionError": "Unhandled"} if failed else {}
        body = io.BytesIO(json.dumps(response).encode())
        return AWSResponse("https://lambda", 200, {}, None), {"StatusCode": 200, "Payload": body, **error}

    return invoke
