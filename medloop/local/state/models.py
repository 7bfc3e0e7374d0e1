"""Models as records: the image, the artifact and the environment that an endpoint or a transform job runs."""

from __future__ import annotations

from medloop.local.errors import ServiceError, check_name, invalid
from medloop.local.state.backend import Backend
from medloop.local.state.home import arn, now
from medloop.local.state.objects import split_uri
from medloop.local.state.store import Document, Table, Transaction

MAX_NAME = 63


def create_model(write: Transaction, backend: Backend, request: Document) -> Document:
    """Record a model.

    Raises:
        ServiceError: ValidationException when the name is taken, or its container can't be used.
    """
    name = request["ModelName"]
    check_name("ModelName", name, MAX_NAME)
    if write.get(Table.MODELS, name):
        raise invalid(f'Cannot create already existing model "{arn(f"model/{name}")}".')
    if "ExecutionRoleArn" not in request:
        raise invalid("ExecutionRoleArn is required")
    document = {key: value for key, value in request.items() if key != "Tags"}
    document |= {"ModelArn": arn(f"model/{name}"), "CreationTime": now(), "EnableNetworkIsolation": False}
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


def read_model(transaction: Transaction, name: str) -> Document:
    """A model's record. Raises ServiceError."""
    return read_resource(transaction, Table.MODELS, name, "model", "model")


def read_resource(transaction: Transaction, table: Table, name: str, what: str, resource: str) -> Document:
    """The record of a model, an endpoint configuration or an endpoint.

    Args:
        transaction: The records.
        table: Its table.
        name: Its name.
        what: The service's words for it, in the ValidationException (ServiceError) that says that there is none.
        resource: Its type in an ARN.
    """
    return transaction.require(table, name, invalid(f'Could not find {what} "{arn(f"{resource}/{name}")}".'))
