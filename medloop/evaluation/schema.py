"""The JSON schema of evaluation.json, of which medloop/documents/evaluation.schema.json is the stored copy."""

from __future__ import annotations

import json
from typing import Any

from medloop.documents.evaluation import SCHEMA_FILE, Evaluation
from medloop.evaluation.metrics import METRICS


def json_schema() -> dict[str, Any]:
    """Make the schema of the record's models, with the names that the score and a floor's metric may have."""
    schema = Evaluation.model_json_schema(mode="validation")
    names = {
        ("Score", "name"): [metric.name for metric in METRICS if metric.pair],
        ("Floor", "metric"): [metric.name for metric in METRICS if metric.is_floor],
    }
    for (model, field), allowed in names.items():
        properties = schema["$defs"][model]["properties"]
        properties[field] = {"enum": allowed, **properties[field]}
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}


if __name__ == "__main__":  # python -m medloop.evaluation.schema, after a change of the models or of these names
    SCHEMA_FILE.write_text(json.dumps(json_schema(), indent=2) + "\n", encoding="utf-8")
