"""SageMaker's operations on tags."""

from __future__ import annotations

from medloop.local.api.paging import page
from medloop.local.state.backend import Backend
from medloop.local.state.store import Document, Table
from medloop.local.state.tags import put_tags


def add(backend: Backend, params: Document) -> Document:
    """AddTags."""
    with backend.store.write() as write:
        return {"Tags": _listed(put_tags(write, params["ResourceArn"], params["Tags"]))}


def delete(backend: Backend, params: Document) -> Document:
    """DeleteTags."""
    with backend.store.write() as write:
        known = write.get(Table.TAGS, params["ResourceArn"]) or {}
        left = {key: value for key, value in known.items() if key not in params["TagKeys"]}
        write.put(Table.TAGS, params["ResourceArn"], left)
    return {}


def list_(backend: Backend, params: Document) -> Document:
    """ListTags."""
    with backend.store.read() as read:
        known = read.get(Table.TAGS, params["ResourceArn"]) or {}
    # All tags of a resource (50 at most) fit into one page of the service.
    return page(_listed(known), {"MaxResults": 50, **params}, member="Tags", sort=lambda tag: (tag["Key"],))


def _listed(tags: Document) -> list[Document]:
    return [{"Key": key, "Value": value} for key, value in tags.items()]
