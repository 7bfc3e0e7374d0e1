"""SageMaker's operations on models and endpoint configurations: the same four on either."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from medloop.local.api.jobs import Handler
from medloop.local.api.paging import page_of_records
from medloop.local.hosting.endpoints import create_config
from medloop.local.state.backend import Backend
from medloop.local.state.models import ENDPOINT_CONFIG, MODEL, Hosted, create_model
from medloop.local.state.store import Document, Table, Transaction, pick
from medloop.local.state.tags import put_tags


@dataclass(frozen=True)
class ResourceOperations:
    """The operations on one of the two resource types.

    Args:
        type: The resource type.
        record: Records what a create request specifies.
    """

    type: Hosted
    record: Callable[[Transaction, Backend, Document], Document]

    @property
    def name(self) -> str:
        """The member that names one."""
        return f"{self.type.member}Name"

    @property
    def arn(self) -> str:
        """The member that is one's ARN."""
        return f"{self.type.member}Arn"

    def operations(self) -> dict[str, Handler]:
        """The Create, Describe, List and Delete operations, by name."""
        return {
            f"Create{self.type.member}": self.create,
            f"Describe{self.type.member}": self.describe,
            f"List{self.type.member}s": self.list_,
            f"Delete{self.type.member}": self.delete,
        }

    def create(self, backend: Backend, params: Document) -> Document:
        """CreateModel (of a package only when its version is Approved), CreateEndpointConfig."""
        with backend.store.write() as write:
            item = self.record(write, backend, params)
            put_tags(write, item[self.arn], params.get("Tags") or [])
        return pick(item, self.arn)

    def describe(self, backend: Backend, params: Document) -> Document:
        """DescribeModel, DescribeEndpointConfig."""
        with backend.store.read() as read:
            return self.type.read(read, params[self.name])

    def list_(self, backend: Backend, params: Document) -> Document:
        """ListModels, ListEndpointConfigs: unlike most lists of the service, these begin with the newest."""
        with backend.store.read() as read:
            known = read.select(self.type.table)
        return page_of_records(
            known,
            {"SortOrder": "Descending", **params},
            member=f"{self.type.member}s",
            name=self.name,
            show=lambda item: pick(item, self.name, self.arn, "CreationTime"),
        )

    def delete(self, backend: Backend, params: Document) -> Document:
        """DeleteModel, DeleteEndpointConfig; endpoints that run it keep running."""
        with backend.store.write() as write:
            item = self.type.read(write, params[self.name])
            write.delete(self.type.table, item[self.name])
            write.delete(Table.TAGS, item[self.arn])
        return {}


MODELS = ResourceOperations(MODEL, create_model)
CONFIGS = ResourceOperations(ENDPOINT_CONFIG, create_config)
