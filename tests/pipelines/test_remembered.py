"""A remembered definition is the one that a build makes, byte by byte, and needs no SDK."""

from __future__ import annotations

import math
import os
import subprocess
import sys
from pathlib import Path

import pytest

from medloop.cloud import definition_cache
from medloop.cloud.definition_cache import CACHE_VARIABLE
from medloop.cloud.target import Target
from medloop.cloud.upsert import build_definition
from medloop.presets import load_presets
from medloop.settings import resolve

pytestmark = pytest.mark.slow
PRESETS = load_presets()


@pytest.mark.parametrize("name", PRESETS)
def test_remembered_is_built(name: str, target: Target, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Built, then read; all presets, with script mode's objects (two builds agree: test_definitions)."""
    monkeypatch.setattr(definition_cache, "process_start", lambda: math.inf)
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path))
    resolved = resolve(PRESETS[name].pipeline, name)
    assert build_definition(target, resolved) == build_definition(target, resolved)
    (entry,) = (tmp_path / "definitions").iterdir()
    assert entry.stat().st_size < 500_000


LISTING = """
import sys
from medloop.cli import main
code = main(sys.argv[1:])
print(code, "sagemaker" in sys.modules, "numpy" in sys.modules, file=sys.stderr)
"""


def test_a_hit_loads_no_sdk(tmp_path: Path) -> None:
    """In processes of their own, after one that built."""
    variables = {CACHE_VARIABLE: str(tmp_path / "cache"), "MEDLOOP_HOME": str(tmp_path / "home")}
    seen = []
    for command in ("definition", "definition", "show", "cost", "upsert", "diff"):
        program = [sys.executable, "-c", LISTING, "pipelines", command, "classification", "--preset", "plane-demo"]
        done = subprocess.run(program, capture_output=True, text=True, env={**os.environ, **variables}, check=True)
        seen.append(" ".join(done.stderr.split()[-3:]))
    assert seen == ["0 True True", *["0 False False"] * 5]
