"""The commands of CI: this repository's own, or those of a project of `medloop init`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from medloop.ci import workflow_values

REPOSITORY_VALUES: Mapping[str, Any] = {
    "install": ["make install"],
    "path": ".venv/bin",
    "checks": ["make check", "make test-fast"],
    "smoke": [
        "medloop samples plane plane && medloop run classification --data plane --preset smoke-classification",
        "medloop samples brain-tissue tissue && medloop run segmentation --data tissue --preset smoke-segmentation",
    ],
    "pipelines": [("classification", "chest-xray"), ("segmentation", "small-volumes")],
    "images": ["medloop images push"],
    "endpoint": "medloop",
}
"""The same values as `workflow_values` gives."""


def delivery_values(project: str) -> Mapping[str, Any]:
    """Values of the workflow's template, for GitHub Actions and CodePipeline alike; empty: this repository's."""
    return workflow_values(project) if project else REPOSITORY_VALUES
