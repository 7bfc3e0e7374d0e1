"""Tags of resources, as records."""

from __future__ import annotations

from medloop.local.state.store import Document, Table, Transaction


def put_tags(write: Transaction, arn: str, tags: list[Document]) -> Document:
    """Add tags to a resource, within a transaction; returns all of its tags by key."""
    known = (write.get(Table.TAGS, arn) or {}) | {tag["Key"]: tag["Value"] for tag in tags}
    if known:
        write.put(Table.TAGS, arn, known)
    return known
