"""One synthesis for the session: it takes seconds."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from infra.app import make_app
from infra.settings import Settings
from infra.stack import STACK_NAME


@pytest.fixture(scope="session")
def assembly(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the synthesised app, with the defaults of all settings."""
    folder = tmp_path_factory.mktemp("assembly")
    make_app(Settings(), outdir=str(folder), validate=False).synth()
    return folder


@pytest.fixture(scope="session")
def template(assembly: Path) -> dict[str, Any]:
    """The stack's template."""
    return dict(json.loads((assembly / f"{STACK_NAME}.template.json").read_text(encoding="utf-8")))
