"""The commands of README.md work, in their order."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.shared import share_warm_servers

README = Path(__file__).resolve().parents[2] / "README.md"
RUN_BY_CI = ("git clone", "cd medloop", "make ")
"""`.ci/run` makes the environment, the demo and the tests; in this test they would recurse."""


def commands() -> list[str]:
    """The lines of README's bash blocks, except the commands that `.ci/run` runs."""
    blocks = re.findall(r"```bash\n(.*?)```", README.read_text(encoding="utf-8"), flags=re.DOTALL)
    lines = [line.strip() for block in blocks for line in re.sub(r"\\\n", " ", block).splitlines()]
    return [line for line in lines if line and not line.startswith(("#", *RUN_BY_CI))]


@pytest.mark.slow
def test_readme_commands_run(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Each command exits with 0."""
    share_warm_servers(tmp_path_factory, tmp_path / ".medloop")
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("MEDLOOP", "AWS_"))}
    environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    assert len(commands()) >= 8
    for line in commands():
        done = subprocess.run(
            ["bash", "-c", line], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, f"{line}\n{done.stdout}\n{done.stderr}"


def test_readme_names_every_command() -> None:
    """Each command group is mentioned."""
    from typer.main import get_command

    from medloop.cli import app

    text = README.read_text(encoding="utf-8")
    names = get_command(app).commands  # type: ignore[attr-defined]
    assert [name for name in names if f"medloop {name}" not in text] == []
