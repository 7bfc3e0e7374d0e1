"""Endpoint configurations and endpoints as records.

An endpoint keeps a copy of all that it runs (`_plan`, while it is updated `_next` too): as on AWS it keeps running
when its model or its configuration is deleted. Only its supervisor changes `_plan` and `_processes`.
"""

from __future__ import annotations

from typing import Any

from medloop.local import processes
from medloop.local.errors import check_name, invalid
from medloop.local.process_identity import Identity
from medloop.local.state.backend import Backend
from medloop.local.state.home import arn, now
from medloop.local.state.models import ENDPOINT, ENDPOINT_CONFIG, MAX_NAME, MODEL
from medloop.local.state.runtime import PROCESS
from medloop.local.state.store import Document, Table, Transaction

IN_PROGRESS = frozenset({"Creating", "Updating", "SystemUpdating", "RollingBack", "Deleting"})
SERVING = frozenset({"InService", "Updating", "SystemUpdating", "RollingBack"})
"""States in which an endpoint responds."""
STARTUP_SECONDS = 480
"""The time of a container until its first successful ping, unless its variant sets another: the service's default."""
_SERVERLESS_MEMORY = range(1024, 6145, 1024)
_MAX_CONCURRENCY = 200


def create_config(write: Transaction, _: Backend, request: Document) -> Document:
    """Record an endpoint configuration.

    Raises:
        ServiceError: ValidationException when the name is taken, or a variant can't be used.
    """
    name = ENDPOINT_CONFIG.new_name(write, request)
    variants = request["ProductionVariants"]
    names = [variant["VariantName"] for variant in variants]
    if len(set(names)) != len(names):
        raise invalid(f"Variant names must be unique: {', '.join(names)}")
    for variant in variants:
        _check_variant(write, variant, serves_queue="AsyncInferenceConfig" in request)
    document = {key: value for key, value in request.items() if key != "Tags"}
    document |= {"EndpointConfigArn": ENDPOINT_CONFIG.arn(name), "CreationTime": now()}
    document["ProductionVariants"] = [{"InitialVariantWeight": 1.0, **variant} for variant in variants]
    write.put(Table.ENDPOINT_CONFIGS, name, document)
    return document


def _check_variant(write: Transaction, variant: Document, *, serves_queue: bool) -> None:
    name = variant["VariantName"]
    check_name("VariantName", name, MAX_NAME)
    if "ModelName" not in variant:
        raise invalid(f"Variant {name} has no ModelName, which the local backend needs")
    MODEL.read(write, variant["ModelName"])
    serverless = variant.get("ServerlessConfig")
    if serverless is None:
        if "InstanceType" not in variant:
            raise invalid(f"Variant {name} needs InstanceType, or a ServerlessConfig")
        return
    if "InstanceType" in variant or "InitialInstanceCount" in variant:
        raise invalid(f"Variant {name} has a ServerlessConfig and an instance; give one of the two")
    if serves_queue:
        raise invalid("AsyncInferenceConfig can't be used with a serverless variant")
    if serverless["MemorySizeInMB"] not in _SERVERLESS_MEMORY:
        raise invalid(f"MemorySizeInMB of variant {name} must be one of {', '.join(map(str, _SERVERLESS_MEMORY))}")
    if not 1 <= serverless["MaxConcurrency"] <= _MAX_CONCURRENCY:
        raise invalid(f"MaxConcurrency of variant {name} must be 1 to {_MAX_CONCURRENCY}")


def create_endpoint(write: Transaction, request: Document, backend: Backend) -> Document:
    """Record a new endpoint, and start its supervisor once the request is valid.

    Args:
        write: The transaction.
        request: CreateEndpoint's.
        backend: The backend; its containers run as its jobs do, after each restart too.

    Raises:
        ServiceError: ValidationException when the name is taken, or there is no such configuration.
    """
    name = ENDPOINT.new_name(write, request)
    plan, time = _plan(write, request["EndpointConfigName"]), now()
    document = {
        "EndpointName": name,
        "EndpointArn": endpoint_arn(name),
        "EndpointConfigName": plan["config"],
        "EndpointStatus": "Creating",
        "CreationTime": time,
        "LastModifiedTime": time,
        "_plan": plan,
        "_next": None,
        "_processes": {},
        "_runtime": backend.runtime,
        "_supervisor": start_supervisor(backend, name, backend.runtime),
    }
    write.put(Table.ENDPOINTS, name, document)
    return document


def update_endpoint(write: Transaction, request: Document) -> Document:
    """Record that an endpoint is to run another configuration.

    Raises:
        ServiceError: ValidationException when it doesn't exist, is being changed, or failed.
    """
    name = request["EndpointName"]
    document = ENDPOINT.read(write, name)
    if document["EndpointStatus"] in IN_PROGRESS:
        raise invalid(f'Cannot update in-progress endpoint "{endpoint_arn(name)}".')
    if document["EndpointStatus"] != "InService":
        status = document["EndpointStatus"]
        raise invalid(
            f'Cannot update endpoint "{endpoint_arn(name)}" in status {status}; delete it and create it again'
        )
    document |= {"_next": _plan(write, request["EndpointConfigName"]), "EndpointStatus": "Updating"}
    return put_endpoint(write, document)


def delete_endpoint(write: Transaction, name: str) -> Document:
    """Record that an endpoint is to end.

    Raises:
        ServiceError: ValidationException when it doesn't exist or is being changed.
    """
    document = ENDPOINT.read(write, name)
    if document["EndpointStatus"] in IN_PROGRESS:
        raise invalid(f'Cannot update in-progress endpoint "{endpoint_arn(name)}".')
    return put_endpoint(write, {**document, "EndpointStatus": "Deleting"})


def put_endpoint(write: Transaction, document: Document, **fields: Any) -> Document:
    """Write an endpoint's changed record."""
    document |= {**fields, "LastModifiedTime": now()}
    write.put(Table.ENDPOINTS, document["EndpointName"], document)
    return document


def endpoint_arn(name: str) -> str:
    """The ARN of the endpoint of that name; the service writes it in lower case."""
    return arn(f"endpoint/{name.lower()}")


def revive(backend: Backend, document: Document) -> Document:
    """Start the supervisor of an endpoint that should have one again, if it is dead."""
    if document["EndpointStatus"] == "Failed" or processes.alive(document["_supervisor"], backend.home):
        return document
    if not backend.is_writable:
        return document
    with backend.store.write() as write:
        current = write.get(Table.ENDPOINTS, document["EndpointName"])
        if current is None or processes.alive(current["_supervisor"], backend.home):  # another reader was first
            return current or document
        current["_supervisor"] = start_supervisor(backend, current["EndpointName"], current.get("_runtime", PROCESS))
        write.put(Table.ENDPOINTS, current["EndpointName"], current)
    return current


def start_supervisor(backend: Backend, name: str, runtime: str) -> Identity:
    """Start an endpoint's supervisor; it waits until it finds itself in the record."""
    return processes.start_detached(backend.home, f"endpoint/{name}", runtime)


def _plan(write: Transaction, config_name: str) -> Document:
    """All that is needed to run a configuration."""
    config = ENDPOINT_CONFIG.read(write, config_name)
    variants = []
    for variant in config["ProductionVariants"]:
        model = MODEL.read(write, variant["ModelName"])
        startup = variant.get("ContainerStartupHealthCheckTimeoutInSeconds", STARTUP_SECONDS)
        variants.append({**model["_container"], "variant": variant, "model": model["ModelName"], "startup": startup})
    return {"config": config_name, "variants": variants, "async": config.get("AsyncInferenceConfig")}


def describe_endpoint(backend: Backend, name: str) -> Document:
    """DescribeEndpoint's response, its supervisor alive.

    Raises:
        ServiceError: ValidationException: there is none.
    """
    with backend.store.read() as read:
        endpoint = ENDPOINT.read(read, name)
    endpoint = revive(backend, endpoint)
    plan, pending = endpoint["_plan"], endpoint["_next"]
    shown = {**endpoint, "ProductionVariants": [_variant(item, endpoint) for item in plan["variants"]]}
    if plan["async"]:
        shown["AsyncInferenceConfig"] = plan["async"]
    if pending:
        variants = [_variant(item, endpoint) for item in pending["variants"]]
        time = endpoint["LastModifiedTime"]
        summary = {"EndpointConfigName": pending["config"], "ProductionVariants": variants, "StartTime": time}
        shown["PendingDeploymentSummary"] = summary
    return shown


def _variant(plan: Document, endpoint: Document) -> Document:
    variant = plan["variant"]
    image = {
        "SpecifiedImage": plan["image"],
        "ResolvedImage": plan["image"],
        "ResolutionTime": endpoint["CreationTime"],
    }
    weight = variant["InitialVariantWeight"]
    shown = {"VariantName": variant["VariantName"], "DeployedImages": [image]}
    shown |= {"CurrentWeight": weight, "DesiredWeight": weight}
    if "ServerlessConfig" in variant:
        config = variant["ServerlessConfig"]
        return shown | {"CurrentServerlessConfig": config, "DesiredServerlessConfig": config}
    count = variant.get("InitialInstanceCount", 1)
    return shown | {"CurrentInstanceCount": count, "DesiredInstanceCount": count}
