"""evaluation.json's schema."""

from __future__ import annotations

import json

import jsonschema
import pytest
from pydantic import ValidationError

from medloop.documents.evaluation import SCHEMA_FILE, Metric, json_schema


def test_stored_schema_is_the_models() -> None:
    """evaluation.schema.json is what the models give (`python -m medloop.documents.evaluation` writes it)."""
    stored = json.loads(SCHEMA_FILE.read_text())
    assert stored == json_schema()
    jsonschema.Draft202012Validator.check_schema(stored)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_numbers_are_finite(value: float) -> None:
    """A number that isn't finite can't get into the record."""
    with pytest.raises(ValidationError):
        Metric(value=value, standard_deviation=0.0)
