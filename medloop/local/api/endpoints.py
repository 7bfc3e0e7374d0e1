"""SageMaker's operations on endpoints."""

from __future__ import annotations

from medloop.local.api.paging import created_between, epoch, page, pick
from medloop.local.api.tags import put_tags
from medloop.local.hosting import records
from medloop.local.state.backend import Backend
from medloop.local.state.store import Document, Table

_SORTS = {"Name": "EndpointName", "Status": "EndpointStatus"}


def create(backend: Backend, params: Document) -> Document:
    """CreateEndpoint."""
    with backend.store.write() as write:
        name = params["EndpointName"]
        endpoint = records.create_endpoint(write, params, lambda: records.spawn_supervisor(backend, name))
        put_tags(write, endpoint["EndpointArn"], params.get("Tags") or [])
    return pick(endpoint, "EndpointArn")


def update(backend: Backend, params: Document) -> Document:
    """UpdateEndpoint: the endpoint answers as before until the new containers are healthy."""
    with backend.store.write() as write:
        endpoint = records.update_endpoint(write, params)
    records.revive(backend, endpoint)
    return pick(endpoint, "EndpointArn")


def describe(backend: Backend, params: Document) -> Document:
    """DescribeEndpoint."""
    with backend.store.read() as read:
        endpoint = records.read_endpoint(read, params["EndpointName"])
    return _described(records.revive(backend, endpoint))


def delete(backend: Backend, params: Document) -> Document:
    """DeleteEndpoint."""
    with backend.store.write() as write:
        endpoint = records.delete_endpoint(write, params["EndpointName"])
    records.revive(backend, endpoint)
    return {}


def list_(backend: Backend, params: Document) -> Document:
    """ListEndpoints, the newest first by default."""
    with backend.store.read() as read:
        found = [item for item in read.select(Table.ENDPOINTS) if _wanted(item, params)]
    names = ("EndpointName", "EndpointArn", "CreationTime", "LastModifiedTime", "EndpointStatus")
    shown = [pick(records.revive(backend, item), *names) for item in found]
    by = _SORTS.get(params.get("SortBy", ""), "CreationTime")
    given = {"SortOrder": "Descending", **params}
    return page(shown, given, member="Endpoints", sort=lambda item: (item[by], item["EndpointName"]))


def _wanted(item: Document, params: Document) -> bool:
    modified = item["LastModifiedTime"]
    return (
        params.get("NameContains", "") in item["EndpointName"]
        and params.get("StatusEquals", item["EndpointStatus"]) == item["EndpointStatus"]
        and created_between(item, params, "CreationTimeAfter", "CreationTimeBefore")
        and not ("LastModifiedTimeAfter" in params and modified <= epoch(params["LastModifiedTimeAfter"]))
        and not ("LastModifiedTimeBefore" in params and modified >= epoch(params["LastModifiedTimeBefore"]))
    )


def _described(endpoint: Document) -> Document:
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
