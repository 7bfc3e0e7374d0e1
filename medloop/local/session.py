"""A boto3 session whose calls go to the local backend, which responds or refuses: none leaves this computer.

botocore asks the handlers of `before-call` before it sends anything; a handler's return value replaces the response.
By then the request has been checked against the service's own model, as for AWS.
"""

from __future__ import annotations

import datetime
import os
import uuid
from pathlib import Path
from typing import Any

import boto3
import botocore.session
from botocore.awsrequest import AWSResponse
from botocore.compat import HTTPHeaders
from botocore.model import ListShape, OperationModel, Shape, StructureShape

from medloop.definition.service_models import service_models
from medloop.local.api.operations import OPERATIONS
from medloop.local.errors import ServiceError
from medloop.local.state.backend import Backend
from medloop.local.state.home import REGION, Home
from medloop.local.state.store import Document

_PARAMS = "medloop_params"


def local_session(home: Path | None = None) -> boto3.Session:
    """A session of the local account.

    Args:
        home: Where the backend keeps everything: by default `MEDLOOP_HOME`, else `.medloop` in the current folder.

    Raises:
        TargetError: The home can't be written.
    """
    core = botocore.session.Session(session_vars=_own_variables())
    core.register_component("data_loader", service_models())
    responder = _Responder(Home.find(home).root)
    events = core.get_component("event_emitter")
    events.register("before-parameter-build", responder.keep_params)
    events.register("before-call", responder.respond)
    return _LocalSession(
        aws_access_key_id="local",
        aws_secret_access_key="local",  # noqa: S106 (signs nothing: no call is sent)
        region_name=REGION,
        botocore_session=core,
    )


def _own_variables() -> dict[str, tuple[None, None, Any, None]]:
    """Settings that must not come from the developer's own environment or configuration files."""
    return {
        "profile": (None, None, None, None),
        "config_file": (None, None, os.devnull, None),
        "credentials_file": (None, None, os.devnull, None),
        "defaults_mode": (None, None, "legacy", None),
        "ca_bundle": (None, None, None, None),
    }


class _LocalSession(boto3.Session):
    """A session that makes each client once: each takes milliseconds, and a command requests twenty."""

    @property
    def events(self) -> Any:
        """The emitter, for handlers of the clients that are requested after: a client copies them when it is made."""
        self.__dict__.pop("_clients", None)
        return super().events

    def client(self, *arguments: Any, **options: Any) -> Any:
        """See boto3.Session; equal arguments give the same client, which threads may share."""
        key = repr((arguments, sorted(options.items()))) if all(map(_is_plain, options.values())) else None
        clients: dict[str | None, Any] = self.__dict__.setdefault("_clients", {})
        if key is None or key not in clients:
            clients[key] = super().client(*arguments, **options)
        return clients[key]


def _is_plain(value: object) -> bool:
    """True if the text of a value determines it; a Config's doesn't."""
    return value is None or isinstance(value, str | bool)


class _Responder:
    """Responds to the calls of one session's clients.

    Args:
        home: Made when the first call comes.
    """

    def __init__(self, home: Path) -> None:
        self.home = home
        self.backend: Backend | None = None

    def keep_params(self, params: Document, context: Document, **_: Any) -> None:
        """Keep the request's parameters: at before-call they are serialised already."""
        context[_PARAMS] = params

    def respond(
        self, model: OperationModel, params: Document, context: Document, **_: Any
    ) -> tuple[AWSResponse, Document]:
        """The response to a call, as botocore's parser would give it."""
        service, operation = model.service_model.service_name, model.name
        request = dict(context.get(_PARAMS) or {})
        if "Body" in request:
            request["Body"] = params["body"]
        try:
            handler = OPERATIONS.get((service, operation))
            if handler is None:
                raise ServiceError("NotImplemented", f"The local backend doesn't have {service}:{operation}", 501)
            self.backend = self.backend or Backend.open(self.home)
            return _response(present(handler(self.backend, request), model.output_shape), 200)
        except ServiceError as error:
            return _response({"Error": {"Code": error.code, "Message": error.message}, **error.fields}, error.status)


def present(document: Any, shape: Shape | None) -> Any:
    """A record as a response: without fields of our own (`_...`), time stamps as datetimes where the shape has them."""
    if isinstance(shape, StructureShape) and isinstance(document, dict):
        return {
            name: present(value, shape.members.get(name))
            for name, value in document.items()
            if not name.startswith("_")
        }
    if isinstance(shape, ListShape) and isinstance(document, list):
        return [present(item, shape.member) for item in document]
    if shape is not None and shape.type_name == "timestamp" and isinstance(document, int | float):
        return datetime.datetime.fromtimestamp(document, datetime.UTC)
    return document


def _response(parsed: Document, status: int) -> tuple[AWSResponse, Document]:
    identifier = str(uuid.uuid4())
    metadata = {"RequestId": identifier, "HTTPStatusCode": status, "HTTPHeaders": {}, "RetryAttempts": 0}
    # A body of None tells botocore's after-call handlers that there is nothing to parse once more.
    response = AWSResponse("local", status, HTTPHeaders(), None)
    return response, {**parsed, "ResponseMetadata": metadata}
