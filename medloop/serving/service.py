"""What an endpoint asks of a model, and the one for images. From a request's bytes to an answer's."""

from __future__ import annotations

import json
import math
import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from medloop.documents.model import ModelRecord
from medloop.imaging.files import InMemory
from medloop.imaging.formats import IMAGE_FORMATS
from medloop.serving.media import JSON, choose, format_of
from medloop.serving.refusals import RefusalError
from medloop.serving.settings import ServeSettings

if TYPE_CHECKING:
    from medloop.imaging.classify_predictor import ImagePredictor

BODY = "body"
"""What error messages call a request's file, which has no name."""


@dataclass(frozen=True)
class Inquiry:
    """A request, read whole.

    Attributes:
        body: One file.
        content_type: The header; "" where there is none.
        accept: Likewise.
        attributes: X-Amzn-SageMaker-Custom-Attributes, likewise.
        stop: Set when nobody waits for the answer any more, or it has taken too long.
    """

    body: bytes
    content_type: str = ""
    accept: str = ""
    attributes: str = ""
    stop: threading.Event = field(default_factory=threading.Event)

    def proceed(self) -> None:
        """Go on, or don't.

        Raises:
            RefusalError: 413: told to stop.
        """
        if self.stop.is_set():
            raise RefusalError(413, "the prediction takes too long here; cut the volume, or raise --predict-seconds")


@dataclass(frozen=True)
class Answer:
    """A prediction.

    Attributes:
        body: In the form that the client chose.
        content_type: Of the body.
        attributes: For X-Amzn-SageMaker-Custom-Attributes; "" sends none.
    """

    body: bytes
    content_type: str
    attributes: str = ""


class Service(Protocol):
    """A loaded model that answers requests; `answer` is called from worker threads."""

    @property
    def record(self) -> ModelRecord:
        """model.json."""

    def answer(self, inquiry: Inquiry) -> Answer:
        """Predict.

        Raises:
            DataError: The request can't be answered; a `RefusalError` brings its status, a `TooLargeError` means 413.
        """


@dataclass(frozen=True)
class ImageService:
    """A classifier behind `/invocations`."""

    predictor: ImagePredictor
    settings: ServeSettings

    @property
    def record(self) -> ModelRecord:
        """model.json."""
        return self.predictor.record

    def answer(self, inquiry: Inquiry) -> Answer:
        """Class probabilities of one image, as JSON."""
        form = choose(inquiry.accept, [JSON])
        image = format_of(inquiry.body, inquiry.content_type, "classification", IMAGE_FORMATS)
        pixels = image.read(InMemory(BODY, inquiry.body), self.settings.max_pixels)
        scores = self.predictor.score_pixels(pixels).tolist()
        if not all(math.isfinite(score) for score in scores):
            raise RefusalError(400, "the network gives no finite answer to this image; check its values")
        classes = self.record.classes
        content = {
            "classes": classes,
            "probabilities": dict(zip(classes, scores, strict=True)),
            "predicted": classes[scores.index(max(scores))],
            "operating_point": self.record.operating_point,
            "model": describe(self.record),
        }
        return Answer(as_json(content), form)


def describe(record: ModelRecord) -> dict[str, Any]:
    """Which model answered."""
    return {
        "task": record.task,
        "network": record.network.name,
        "data_digest": record.data_digest,
        "code_digest": record.code_digest,
    }


def as_json(content: dict[str, Any]) -> bytes:
    """Standard JSON: no NaN, no infinity."""
    return json.dumps(content, allow_nan=False).encode()
