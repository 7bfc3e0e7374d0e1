"""The commands of a project's CI: `medloop init` writes them into a workflow, infra into builds of CodeBuild."""

from __future__ import annotations

from typing import Any

INSTALL_SAMPLES = 'python -c "import medloop.samples.sources as s; print(s.INSTALL)" | bash'
"""Line of a shell: the packages that the sample images come from, which can't be resolved next to the others."""


def workflow_values(name: str) -> dict[str, Any]:
    """Return the commands of a project's CI: lines of shell, the pipelines with their presets, the endpoint.

    `path` is a folder of the checkout that contains the installed commands; empty if they are found without it.
    """
    return {
        "install": ["python -m pip install wheels/medloop-*.whl", "python -m pip install --editable '.[dev]'"],
        "path": "",
        "checks": ["ruff check .", "ruff format --check .", "pytest"],
        "smoke": [f"medloop samples plane data && medloop run {name} --data data --preset smoke-{name}"],
        "images": ["medloop images push census"],
        "pipelines": [(name, name)],
        "endpoint": name,
    }
