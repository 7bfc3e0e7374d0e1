"""evaluation.json's schema."""

from __future__ import annotations

import json

import jsonschema

from medloop.documents.evaluation import SCHEMA_FILE
from medloop.evaluation.schema import json_schema


def test_stored_schema_is_the_models() -> None:
    """evaluation.schema.json is what the models give (`python -m medloop.evaluation.schema` writes it)."""
    stored = json.loads(SCHEMA_FILE.read_text())
    assert stored == json_schema()
    jsonschema.Draft202012Validator.check_schema(stored)
