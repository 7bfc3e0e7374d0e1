"""Request and response of the champion function. Standard library only: the function's runtime has nothing else.

`steps/champion.py` sends the request, `medloop.champion` responds, the evaluate step takes the response as arguments.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from medloop.documents.names import normalise
from medloop.errors import SettingError

NO_VERSION = "none"
"""The ARN of no version: an argument's text that no shell or service drops, as it might an empty one."""

DEFAULT_MARGIN = 0.02
"""How much a candidate may score below the champion."""

CLASSES_DIGEST = "classes_digest"
"""The metadata entry of a version that tells which classes its model was trained for."""
CLASSES_DIGEST_LENGTH = 20


@dataclass(frozen=True)
class ChampionRequest:
    """The step's inputs, all text."""

    group: str
    """Model package group."""
    model: str
    """s3:// URI of the candidate's model.tar.gz."""
    split: str
    """s3:// folder of split.json."""
    none: str
    """s3:// folder that stands for a model where there is none."""
    uses: str
    """s3:// folder of the records of test sets' uses."""

    @classmethod
    def read(cls, event: Mapping[str, Any]) -> ChampionRequest:
        """Read the step's inputs.

        Raises:
            SettingError: One is missing or is no text.
        """
        names = tuple(cls.__dataclass_fields__)
        for name in names:
            if not isinstance(event.get(name), str) or not event[name]:
                raise SettingError(f"{name}: is missing among the step's inputs; upsert the pipeline again")
        return cls(**{name: event[name] for name in names})


@dataclass(frozen=True)
class ChampionResponse:
    """The step's outputs, all text. A version is NO_VERSION, and its model `none`, where there is none."""

    champion_arn: str
    """The newest Approved version of the same classes besides the candidate itself."""
    champion_model: str
    first_arn: str
    """The oldest one, where it is another than the champion."""
    first_model: str
    test_uses: str
    """How many candidates this test set was used for, this one included; the same for every request."""


def digest_of_classes(classes: Sequence[str]) -> str:
    """Compute the digest that models of the same classes share: order counts; form of names does not."""
    return hashlib.sha256(json.dumps([*map(normalise, classes)]).encode()).hexdigest()[:CLASSES_DIGEST_LENGTH]


RESPONSE = tuple(ChampionResponse.__dataclass_fields__)
"""Fields of the response."""
