"""SageMaker's operations on endpoints."""

from __future__ import annotations

from medloop.local.api.paging import page_of_records
from medloop.local.hosting import endpoints
from medloop.local.state.backend import Backend
from medloop.local.state.store import Document, Table, pick
from medloop.local.state.tags import put_tags

_SUMMARY = ("EndpointName", "EndpointArn", "CreationTime", "LastModifiedTime", "EndpointStatus")


def create(backend: Backend, params: Document) -> Document:
    """CreateEndpoint."""
    with backend.store.write() as write:
        endpoint = endpoints.create_endpoint(write, params, backend)
        put_tags(write, endpoint["EndpointArn"], params.get("Tags") or [])
    return pick(endpoint, "EndpointArn")


def update(backend: Backend, params: Document) -> Document:
    """UpdateEndpoint: the old containers respond until the new ones are healthy."""
    with backend.store.write() as write:
        endpoint = endpoints.update_endpoint(write, params)
    endpoints.revive(backend, endpoint)
    return pick(endpoint, "EndpointArn")


def describe(backend: Backend, params: Document) -> Document:
    """DescribeEndpoint."""
    return endpoints.describe_endpoint(backend, params["EndpointName"])


def delete(backend: Backend, params: Document) -> Document:
    """DeleteEndpoint."""
    with backend.store.write() as write:
        endpoint = endpoints.delete_endpoint(write, params["EndpointName"])
    endpoints.revive(backend, endpoint)
    return {}


def list_(backend: Backend, params: Document) -> Document:
    """ListEndpoints, the newest first by default."""
    with backend.store.read() as read:
        known = read.select(Table.ENDPOINTS)
    return page_of_records(
        known,
        {"SortOrder": "Descending", **params},
        member="Endpoints",
        name="EndpointName",
        status="EndpointStatus",
        show=lambda item: pick(endpoints.revive(backend, item), *_SUMMARY),
    )
