"""A classification model behind `/invocations`: the class probabilities of an image."""

from __future__ import annotations

import math
from dataclasses import dataclass

from medloop.documents.model import ModelRecord
from medloop.imaging.classify_predictor import ImagePredictor
from medloop.imaging.files import InMemory
from medloop.imaging.formats import IMAGE_FORMATS
from medloop.serving.media import JSON, find_format, negotiate
from medloop.serving.service import BODY, InferenceRequest, InferenceResponse, RefusalError, describe, to_json
from medloop.serving.settings import ServeSettings


@dataclass(frozen=True)
class ImageService:
    """A classifier behind `/invocations`."""

    predictor: ImagePredictor
    settings: ServeSettings

    @property
    def record(self) -> ModelRecord:
        """model.json."""
        return self.predictor.record

    def respond(self, request: InferenceRequest) -> InferenceResponse:
        """Predict the class probabilities of one image, as JSON."""
        media_type = negotiate(request.accept, [JSON])
        form = find_format(request.body, request.content_type, "classification", IMAGE_FORMATS)
        pixels = form.read(InMemory(BODY, request.body), self.settings.max_pixels)
        scores = self.predictor.score_pixels(pixels).tolist()
        if not all(math.isfinite(score) for score in scores):
            raise RefusalError(400, "the network predicts no finite probabilities for this image; check its values")
        classes = self.record.classes
        content = {
            "classes": classes,
            "probabilities": dict(zip(classes, scores, strict=True)),
            "predicted": classes[scores.index(max(scores))],
            "operating_point": self.record.operating_point,
            "warnings": self.predictor.warnings(pixels),
            "model": describe(self.record),
        }
        return InferenceResponse(to_json(content), media_type)
