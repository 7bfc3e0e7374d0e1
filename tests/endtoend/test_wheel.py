"""The wheel: installed outside a checkout, it builds the same definitions and runs the same pipelines."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import venv
from pathlib import Path
from typing import Any

import pytest

from medloop.cli import main
from tests.shared import made_once

ROOT = Path(__file__).resolve().parents[2]
SOURCES = ("medloop", "pipelines", "steps", "containers", "pyproject.toml", "README.md", "LICENSE")


def install_wheel(folder: Path) -> None:
    """Build the wheel from a copy of the sources, and install it into a new environment next to this one's packages."""
    for name in SOURCES:
        source, copy = ROOT / name, folder / "sources" / name
        copy.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, copy, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copyfile(source, copy)
    pip = [sys.executable, "-m", "pip"]
    options = ["--quiet", "--no-deps", "--no-index"]
    command = [*pip, "wheel", *options, "--no-build-isolation", "--wheel-dir", str(folder), str(folder / "sources")]
    subprocess.run(command, check=True, timeout=120)
    venv.create(folder / "env", with_pip=False, symlinks=True)
    (site,) = (folder / "env/lib").glob("python*/site-packages")
    sites = [path for path in sys.path if Path(path).name == "site-packages"]
    (site / "others.pth").write_text("\n".join(sites), encoding="utf-8")
    (wheel,) = folder.glob("medloop-*.whl")
    python = str(folder / "env/bin/python")
    subprocess.run([*pip, "--python", python, "install", *options, str(wheel)], check=True, timeout=120)
    shutil.rmtree(folder / "sources")


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: Any) -> Path:
    """The interpreter of an environment that has the wheel."""
    return made_once(tmp_path_factory, "wheel", install_wheel) / "env/bin/python"


def medloop(python: Path | str, *arguments: str, folder: Path) -> str:
    """Run a command in `folder`, which is no checkout; its output."""
    env = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "MEDLOOP_HOME")}
    command = [python, "-m", "medloop.cli", *arguments]
    process = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, timeout=900)
    assert process.returncode == 0, process.stderr
    return process.stdout


def _definition(text: str) -> Any:
    document = json.loads(text)
    commits = _named(document, "git_commit")
    assert commits
    for metadata in commits:
        del metadata["git_commit"]
    return document


def _named(document: Any, name: str) -> list[Any]:
    """The objects in a document that have a member of this name."""
    if isinstance(document, list):
        return [holder for item in document for holder in _named(item, name)]
    if not isinstance(document, dict):
        return []
    below = [holder for item in document.values() for holder in _named(item, name)]
    return [document, *below] if name in document else below


@pytest.mark.slow
@pytest.mark.parametrize("pipeline", ["classification", "segmentation"])
def test_an_installed_wheel_builds_the_checkouts_definitions(
    wheel: Path, tmp_path: Path, pipeline: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Definitions name code by digest, so equal ones mean that every container travelled whole."""
    assert medloop(wheel, "--version", folder=tmp_path).startswith("medloop ")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MEDLOOP_HOME", raising=False)
    assert main(["pipelines", "definition", pipeline]) == 0
    expected = capsys.readouterr().out
    installed = medloop(wheel, "pipelines", "definition", pipeline, folder=tmp_path)
    assert _definition(installed) == _definition(expected)


@pytest.mark.soak
@pytest.mark.parametrize(
    ("pipeline", "sample"), [("classification", "plane"), ("segmentation", "brain-tissue")], ids=["2d", "3d"]
)
def test_an_installed_wheel_runs_a_pipeline_to_an_endpoint(
    wheel: Path, tmp_path: Path, pipeline: str, sample: str
) -> None:
    """Sample, run, approval, endpoint, answer: all from the wheel."""
    medloop(wheel, "samples", sample, "data", folder=tmp_path)
    medloop(wheel, "run", pipeline, "--data", "data", "--preset", f"smoke-{pipeline}", folder=tmp_path)
    (version,) = json.loads(medloop(wheel, "models", "list", "--json", folder=tmp_path))
    medloop(wheel, "models", "approve", version["arn"], "--as", "a reviewer", "--reason", "a test", folder=tmp_path)
    medloop(wheel, "endpoints", "deploy", version["arn"], "--name", "from-wheel", folder=tmp_path)
    medloop(wheel, "endpoints", "delete", "from-wheel", folder=tmp_path)
