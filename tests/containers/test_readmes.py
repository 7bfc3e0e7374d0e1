"""The training containers' README files document every hyperparameter."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from medloop.documents.hyperparameters import (
    ClassificationHyperparameters,
    Hyperparameters,
    SegmentationHyperparameters,
)

CONTAINERS = Path(__file__).parents[2] / "containers"


@pytest.mark.parametrize(
    ("name", "model"), [("classify", ClassificationHyperparameters), ("segment", SegmentationHyperparameters)]
)
def test_every_hyperparameter_is_in_the_table_with_its_default(name: str, model: type[Hyperparameters]) -> None:
    """Rows of one hyperparameter or several: names and defaults in the same order."""
    text = (CONTAINERS / name / "README.md").read_text(encoding="utf-8").partition("## Hyperparameters")[2]
    documented: dict[str, str] = {}
    for names, defaults in re.findall(r"^\| (`[^|]*`) \| ([^|]*?) \|", text.partition("\n## ")[0], re.MULTILINE):
        values = re.findall(r"\[[^\]]*\]|[^,\s]+", defaults)
        documented |= dict(zip(re.findall(r"`(\w+)`", names), [value.strip("`") for value in values], strict=True))
    assert documented.keys() == model.model_fields.keys()
    for key, value in model().model_dump(mode="json").items():
        assert documented[key] == value or json.loads(documented[key]) == value, key
