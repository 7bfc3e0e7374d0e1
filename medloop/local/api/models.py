"""SageMaker's operations on models and endpoint configurations."""

from __future__ import annotations

from medloop.local.api.paging import created_between, page, pick
from medloop.local.api.tags import put_tags
from medloop.local.backend import Backend
from medloop.local.hosting import records
from medloop.local.store import Document, Table


def create(backend: Backend, params: Document) -> Document:
    """CreateModel; of a package only when its version is Approved."""
    with backend.store.write() as write:
        model = records.create_model(write, backend, params)
        put_tags(write, model["ModelArn"], params.get("Tags") or [])
    return pick(model, "ModelArn")


def describe(backend: Backend, params: Document) -> Document:
    """DescribeModel."""
    with backend.store.read() as read:
        return records.read_model(read, params["ModelName"])


def list_(backend: Backend, params: Document) -> Document:
    """ListModels."""
    return _list(backend, params, Table.MODELS, "Model", "Models")


def delete(backend: Backend, params: Document) -> Document:
    """DeleteModel; endpoints that run it go on."""
    with backend.store.write() as write:
        model = records.read_model(write, params["ModelName"])
        write.delete(Table.MODELS, model["ModelName"])
        write.delete(Table.TAGS, model["ModelArn"])
    return {}


def create_config(backend: Backend, params: Document) -> Document:
    """CreateEndpointConfig."""
    with backend.store.write() as write:
        config = records.create_config(write, params)
        put_tags(write, config["EndpointConfigArn"], params.get("Tags") or [])
    return pick(config, "EndpointConfigArn")


def describe_config(backend: Backend, params: Document) -> Document:
    """DescribeEndpointConfig."""
    with backend.store.read() as read:
        return records.read_config(read, params["EndpointConfigName"])


def list_configs(backend: Backend, params: Document) -> Document:
    """ListEndpointConfigs."""
    return _list(backend, params, Table.ENDPOINT_CONFIGS, "EndpointConfig", "EndpointConfigs")


def delete_config(backend: Backend, params: Document) -> Document:
    """DeleteEndpointConfig; endpoints that run it go on."""
    with backend.store.write() as write:
        config = records.read_config(write, params["EndpointConfigName"])
        write.delete(Table.ENDPOINT_CONFIGS, config["EndpointConfigName"])
        write.delete(Table.TAGS, config["EndpointConfigArn"])
    return {}


def _list(backend: Backend, params: Document, table: Table, kind: str, member: str) -> Document:
    name = f"{kind}Name"
    with backend.store.read() as read:
        found = [
            pick(item, name, f"{kind}Arn", "CreationTime")
            for item in read.select(table)
            if params.get("NameContains", "") in item[name]
            and created_between(item, params, "CreationTimeAfter", "CreationTimeBefore")
        ]
    by = name if params.get("SortBy") == "Name" else "CreationTime"
    # Unlike most lists of the service, these begin with the newest.
    given = {"SortOrder": "Descending", **params}
    return page(found, given, member=member, sort=lambda item: (item[by], item[name]))
