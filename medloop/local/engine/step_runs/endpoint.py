"""Runner of Endpoint steps, which wait until the endpoint is InService."""

from __future__ import annotations

import time

from medloop.local.engine.step_runs.base import StepResult, StepRun, StepRunner
from medloop.local.errors import invalid
from medloop.local.hosting import endpoints
from medloop.local.state.store import Document, Table

_POLL_SECONDS = 0.2


class Endpoint(StepRunner):
    """Creates an endpoint, or updates the endpoint of that name."""

    def run(self, run: StepRun) -> StepResult:
        """See StepRunner."""
        request = run.request()
        _put(run, request)
        metadata = {"Endpoint": {"Arn": endpoints.endpoint_arn(request["EndpointName"])}}
        run.show(Metadata=metadata)
        return _wait(run, request, metadata)


def _put(run: StepRun, request: Document) -> None:
    """Create or update the endpoint, or resume what a dead engine started."""
    name, config = request["EndpointName"], request["EndpointConfigName"]
    with run.backend.store.write() as write:
        endpoint = write.get(Table.ENDPOINTS, name)
        if endpoint is None:
            endpoints.create_endpoint(write, request, run.backend)
            return
        coming = (endpoint["_next"] or endpoint["_plan"])["config"]
        if endpoint["EndpointStatus"] == "Failed" or coming != config:
            endpoint = endpoints.update_endpoint(write, request)
    endpoints.revive(run.backend, endpoint)


def _wait(run: StepRun, request: Document, metadata: Document) -> StepResult:
    """Wait until the endpoint serves the configuration; a stopped execution doesn't wait, and leaves the endpoint."""
    name, config = request["EndpointName"], request["EndpointConfigName"]
    while not run.stop.is_set():
        endpoint = endpoints.describe_endpoint(run.backend, name)
        if endpoint["EndpointStatus"] not in endpoints.IN_PROGRESS:
            break
        time.sleep(_POLL_SECONDS)
    else:
        return StepResult("Stopped", metadata=metadata)
    if endpoint["EndpointStatus"] == "InService" and endpoint["EndpointConfigName"] == config:
        return StepResult("Succeeded", endpoint, metadata)
    reason = endpoint.get("FailureReason") or f"another configuration came first: {endpoint['EndpointConfigName']}"
    error = invalid(f"Endpoint {name} is {endpoint['EndpointStatus']}: {reason}")
    return StepResult("Failed", endpoint, metadata, f"ClientError: {error.message}")
