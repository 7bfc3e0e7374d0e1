"""This repository's own workflow, by the template of `medloop init`: `python -m tests.workflow` writes it."""

from __future__ import annotations

from pathlib import Path

from infra.delivery.commands import REPOSITORY_VALUES
from medloop.commands.init import render_workflow

FILE = Path(__file__).resolve().parents[1] / ".github/workflows/medloop.yml"


def workflow() -> str:
    """The file's text."""
    return render_workflow(REPOSITORY_VALUES)


if __name__ == "__main__":
    FILE.parent.mkdir(parents=True, exist_ok=True)
    FILE.write_text(workflow(), encoding="utf-8")
