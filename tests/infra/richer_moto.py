"""SageMaker's and Application Auto Scaling's rules that moto lacks, for the flows' world."""

from __future__ import annotations

import inspect
import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

from moto.applicationautoscaling.exceptions import AWSValidationException
from moto.applicationautoscaling.models import ApplicationAutoscalingBackend
from moto.sagemaker.exceptions import ValidationError
from moto.sagemaker.models import SageMakerModelBackend, sagemaker_backends
from moto.sagemaker.responses import SageMakerResponse

if TYPE_CHECKING:
    from tests.infra.flows import World


@contextmanager
def richer_sagemaker(made: World) -> Iterator[None]:
    """SageMaker's rules that moto lacks."""
    backend = SageMakerModelBackend
    tags = backend.list_tags
    start, model, config, create = (
        backend.start_pipeline_execution, backend.create_model, backend.create_endpoint_config, backend.create_endpoint,
    )  # fmt: skip

    def start_once(self: Any, *positional: Any, **named: Any) -> dict[str, str]:
        request = _bound(start, self, positional, named)
        token, content = request["client_request_token"], json.dumps(request, sort_keys=True)
        with made.starting:
            if token in made.tokens:
                arn, before = made.tokens[token]
                if before != content and not made.lenient:
                    raise ValidationError(message="ClientRequestToken was used with other parameters")
                return {"PipelineExecutionArn": arn}
            response = dict(start(self, **request))
            made.tokens[token] = (response["PipelineExecutionArn"], content)
            made.executions(request["pipeline_name"])[-1].pipeline_execution_status = "Executing"
            made.started.append(request)
        return response

    def once(make: Callable[..., Any], key: str, attribute: str) -> Callable[..., Any]:
        def refuse(self: Any, *positional: Any, **named: Any) -> Any:
            request = _bound(make, self, positional, named)
            if make.__name__ in made.refusals:
                raise ValidationError(message=made.refusals[make.__name__])
            if request[key] in getattr(self, attribute):
                raise ValidationError(message=f"Cannot create already existing {key} {request[key]}.")
            return make(self, **request)

        return refuse

    def list_tags(self: Any, arn: str, **page: Any) -> Any:
        if ":endpoint-config/" in arn and arn.rpartition("/")[2] not in self.endpoint_configs:
            raise ValidationError(message=f"Could not find {arn}.")
        return tags(self, arn=arn, **page)

    with (
        patch.object(ApplicationAutoscalingBackend, "register_scalable_target", _scaling(made)),
        patch.object(backend, "describe_model_package", _describing(backend.describe_model_package)),
        patch.object(backend, "list_tags", list_tags),
        patch.object(backend, "start_pipeline_execution", start_once),
        patch.object(backend, "create_model", once(model, "model_name", "_models")),
        patch.object(backend, "create_endpoint_config", once(config, "endpoint_config_name", "endpoint_configs")),
        patch.object(backend, "create_endpoint", once(create, "endpoint_name", "endpoints")),
        patch.object(SageMakerResponse, "update_endpoint", _updating(made), create=True),
    ):
        yield


def _describing(describe: Callable[..., Any]) -> Callable[..., Any]:
    """DescribeModelPackage, of another account too: policies that allow it are simulated (test_production.py)."""

    def describe_model_package(self: Any, model_package_name: str) -> Any:
        owner = [*model_package_name.split(":"), *[""] * 5][4] or self.account_id
        return describe(sagemaker_backends[owner][self.region_name], model_package_name)

    return describe_model_package


def _scaling(made: World) -> Callable[..., Any]:
    """RegisterScalableTarget, which may be refused."""
    scale = ApplicationAutoscalingBackend.register_scalable_target

    def register_scalable_target(self: Any, *positional: Any, **named: Any) -> Any:
        if "register_scalable_target" in made.refusals:
            raise AWSValidationException(made.refusals["register_scalable_target"])
        return scale(self, *positional, **named)

    return register_scalable_target


def _bound(function: Callable[..., Any], self: Any, positional: Any, named: Any) -> dict[str, Any]:
    """A call's arguments by name."""
    arguments = dict(inspect.signature(function).bind(self, *positional, **named).arguments)
    del arguments["self"]
    return arguments


def _updating(made: World) -> Callable[[Any], str]:
    """UpdateEndpoint: refused while another lasts, or to another machine while it is scaled; ends by the alarms."""

    def update_endpoint(self: Any) -> str:
        request = json.loads(self.body)
        made.updates.append(request)
        endpoint = self.sagemaker_backend.endpoints[request["EndpointName"]]
        if endpoint.endpoint_status != "InService":
            raise ValidationError(message=f'Cannot update in-progress endpoint "{endpoint.arn}".')
        if "update_endpoint" in made.refusals:
            raise ValidationError(message=made.refusals["update_endpoint"])
        kinds = [made.machine(name) for name in (endpoint.endpoint_config_name, request["EndpointConfigName"])]
        if kinds[0] != kinds[1] and made.scaled(endpoint.endpoint_name):
            raise ValidationError(message="The variant is registered as a scalable target: its instance type stays.")
        endpoint.endpoint_status = "Updating"
        threading.Thread(target=_bake, args=(made, endpoint, request), daemon=True).start()
        return json.dumps({"EndpointArn": endpoint.arn})

    return update_endpoint


def _bake(made: World, endpoint: Any, request: dict[str, Any]) -> None:
    while endpoint.endpoint_name in made.holds:
        time.sleep(0.02)
    time.sleep(0.05)
    alarms = [a["AlarmName"] for a in request["DeploymentConfig"]["AutoRollbackConfiguration"]["Alarms"]]
    states = made.cloudwatch.describe_alarms(AlarmNames=alarms)["MetricAlarms"]
    if any(alarm["StateValue"] == "ALARM" for alarm in states):
        endpoint.endpoint_status = "RollingBack"
        time.sleep(0.05)
        endpoint.failure_reason = "One or more configured alarm(s) breached"
    else:
        endpoint.endpoint_config_name = request["EndpointConfigName"]
        endpoint.failure_reason = None
    endpoint.endpoint_status = "InService"
