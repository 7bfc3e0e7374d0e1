"""This repository's own workflow, by the template of `medloop init`: `python -m tests.workflow` writes it."""

from __future__ import annotations

from pathlib import Path

from medloop.commands.init import render_workflow

FILE = Path(__file__).resolve().parents[1] / ".github/workflows/medloop.yml"
VALUES = {
    "install": ["make install", 'echo "$PWD/.venv/bin" >> "$GITHUB_PATH"'],
    "checks": ["make check", "make test-fast"],
    "smoke": [
        "medloop samples plane plane && medloop run classification --data plane --preset smoke-classification",
        "medloop samples brain-tissue tissue && medloop run segmentation --data tissue --preset smoke-segmentation",
    ],
    "pipelines": [("classification", "chest-xray"), ("segmentation", "small-volumes")],
    "images": ["make images", 'medloop images list | tee -a "$GITHUB_STEP_SUMMARY"'],
    "endpoint": "medloop",
}


def workflow() -> str:
    """The file's text."""
    return render_workflow(VALUES)


if __name__ == "__main__":
    FILE.parent.mkdir(parents=True, exist_ok=True)
    FILE.write_text(workflow(), encoding="utf-8")
