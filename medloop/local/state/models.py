"""Models as records: the image, the artifact and the environment that an endpoint or a transform job runs."""

from __future__ import annotations

from typing import NamedTuple

from medloop.local.errors import ServiceError, check_name, invalid
from medloop.local.state.backend import Backend
from medloop.local.state.home import arn, now
from medloop.local.state.objects import split_uri
from medloop.local.state.store import Document, Table, Transaction

MAX_NAME = 63


class Hosted(NamedTuple):
    """One type of resource that endpoints are made of: the service's names for it, and the table of its records.

    Args:
        member: With which the members of its requests and responses begin: `EndpointConfig`.
        table: Its records.
        resource: Its type in an ARN.
        label: Its name in the service's messages.
    """

    member: str
    table: Table
    resource: str
    label: str

    def arn(self, name: str) -> str:
        """The ARN of the resource of that name."""
        return arn(f"{self.resource}/{name}")

    def new_name(self, write: Transaction, request: Document) -> str:
        """The name in a create request. Raises ServiceError if it is malformed or taken."""
        name: str = request[f"{self.member}Name"]
        check_name(f"{self.member}Name", name, MAX_NAME)
        if write.get(self.table, name):
            raise invalid(f'Cannot create already existing {self.label} "{self.arn(name)}".')
        return name

    def read(self, transaction: Transaction, name: str) -> Document:
        """The record under a name. Raises ServiceError (ValidationException) if there is none."""
        return transaction.require(self.table, name, invalid(f'Could not find {self.label} "{self.arn(name)}".'))


MODEL = Hosted("Model", Table.MODELS, "model", "model")
ENDPOINT_CONFIG = Hosted("EndpointConfig", Table.ENDPOINT_CONFIGS, "endpoint-config", "endpoint configuration")
ENDPOINT = Hosted("Endpoint", Table.ENDPOINTS, "endpoint", "endpoint")


def create_model(write: Transaction, backend: Backend, request: Document) -> Document:
    """Record a model.

    Raises:
        ServiceError: ValidationException when the name is taken, or its container can't be used.
    """
    name = MODEL.new_name(write, request)
    if "ExecutionRoleArn" not in request:
        raise invalid("ExecutionRoleArn is required")
    document = {key: value for key, value in request.items() if key != "Tags"}
    document |= {"ModelArn": MODEL.arn(name), "CreationTime": now(), "EnableNetworkIsolation": False}
    document |= {"_container": _container(write, backend, request)}
    document |= {key: request[key] for key in ("EnableNetworkIsolation",) if key in request}
    write.put(Table.MODELS, name, document)
    return document


def _container(write: Transaction, backend: Backend, request: Document) -> Document:
    """The one container of a model: image, artefact, environment, and the package that it is of."""
    containers = [
        *([request["PrimaryContainer"]] if "PrimaryContainer" in request else []),
        *request.get("Containers", []),
    ]
    if len(containers) != 1:
        raise invalid(f"The local backend serves models of one container; this one has {len(containers)}")
    definition: Document = containers[0]
    package = definition.get("ModelPackageName")
    source = _approved(write, package) if package else definition
    if "Image" not in source:
        raise invalid("A container must have an Image or a ModelPackageName")
    if "ModelDataSource" in source and "ModelDataUrl" not in source:
        raise invalid("The local backend reads ModelDataUrl (a model.tar.gz), not ModelDataSource")
    url = source.get("ModelDataUrl")
    if url:
        _check_data(backend, url)
    environment = {**source.get("Environment", {}), **definition.get("Environment", {})}
    return {"image": source["Image"], "data": url, "environment": environment, "package": package}


def _approved(write: Transaction, name: str) -> Document:
    package = write.require(Table.PACKAGES, name, invalid(f"ModelPackage {name} does not exist."))
    approval = package["ModelApprovalStatus"]
    if approval != "Approved":
        raise invalid(f"Cannot create a model from {name}: its approval status is {approval}, and must be Approved")
    containers = package.get("InferenceSpecification", {}).get("Containers") or []
    if len(containers) != 1:
        raise invalid(f"{name} has {len(containers)} containers; the local backend serves models of one container")
    return dict(containers[0])


def _check_data(backend: Backend, url: str) -> None:
    try:
        backend.objects.head(*split_uri(url))
    except ServiceError as error:
        raise invalid(f"Could not find model data at {url}.") from error
