"""The interface of a served model, and its requests and responses."""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from medloop.documents.model import ModelRecord
from medloop.errors import DataError

BODY = "body"
"""The name of a request's file in error messages."""


class RefusalError(DataError):
    """A request that gets no prediction.

    Args:
        status: HTTP status: 4xx if the client can fix the request, 503 if sending it again later helps.
        message: One line: what is wrong and what to send. It must contain no text of the request: headers of medical
            files name patients.
    """

    def __init__(self, status: int, message: str) -> None:
        """Store status and message."""
        super().__init__(message)
        self.status = status


@dataclass(frozen=True)
class InferenceRequest:
    """A request of one prediction, read completely.

    Attributes:
        body: One file.
        content_type: The header; "" where there is none.
        accept: The header; "" where there is none.
        attributes: The header X-Amzn-SageMaker-Custom-Attributes; "" where there is none.
        stop: Set when the client has disconnected, or the prediction has taken too long.
    """

    body: bytes
    content_type: str = ""
    accept: str = ""
    attributes: str = ""
    stop: threading.Event = field(default_factory=threading.Event)

    def check_stop(self) -> None:
        """End a prediction that was stopped; called between two windows.

        Raises:
            RefusalError: 413: `stop` is set.
        """
        if self.stop.is_set():
            raise RefusalError(413, "the prediction takes too long; cut the volume, or raise --predict-seconds")


@dataclass(frozen=True)
class InferenceResponse:
    """A prediction.

    Attributes:
        body: In the media type that the client accepts.
        content_type: Media type of the body.
        attributes: For X-Amzn-SageMaker-Custom-Attributes; "" sends none.
    """

    body: bytes
    content_type: str
    attributes: str = ""


class Service(Protocol):
    """A loaded model that responds to requests; `respond` is called from worker threads."""

    @property
    def record(self) -> ModelRecord:
        """model.json."""

    def respond(self, request: InferenceRequest) -> InferenceResponse:
        """Predict.

        Raises:
            DataError: There is no prediction; a `RefusalError` has the status, a `TooLargeError` means 413.
        """


def describe(record: ModelRecord) -> dict[str, str]:
    """Identify the model of a response."""
    return {
        "task": record.task,
        "network": record.network.name,
        "data_digest": record.data_digest,
        "code_digest": record.code_digest,
    }


def to_json(content: Mapping[str, object]) -> bytes:
    """Write standard JSON: no NaN, no infinity."""
    return json.dumps(content, allow_nan=False).encode()
