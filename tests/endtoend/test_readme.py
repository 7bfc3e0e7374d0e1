"""The commands of README.md work, in their order."""

from __future__ import annotations

import io
import os
import re
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import pytest

from medloop.cli import main
from medloop.cloud.definition_cache import CACHE_VARIABLE
from tests.shared import share_warm_servers

README = Path(__file__).resolve().parents[2] / "README.md"
RUN_BY_CI = ("git clone", "cd medloop", "make ")
"""`.ci/run` makes the environment, the demo and the tests; in this test they would recurse."""


def commands() -> list[str]:
    """The lines of README's bash blocks, except the commands that `.ci/run` runs."""
    blocks = re.findall(r"```bash\n(.*?)```", README.read_text(encoding="utf-8"), flags=re.DOTALL)
    lines = [line.strip() for block in blocks for line in re.sub(r"\\\n", " ", block).splitlines()]
    return [line for line in lines if line and not line.startswith(("#", *RUN_BY_CI))]


def run_in_shell(line: str) -> tuple[int, str]:
    """Run a line in bash; its exit code and output."""
    done = subprocess.run(["bash", "-c", line], capture_output=True, text=True, check=False)
    return done.returncode, done.stdout + done.stderr


def run_here(line: str) -> tuple[int, str]:
    """Run a line that is one `medloop` command in this process; its arguments are those that bash makes of it."""
    code, arguments = run_in_shell(f"medloop() {{ printf '%s\\0' \"$@\"; }}\n{line}")
    assert code == 0, arguments
    output = io.StringIO()
    with redirect_stdout(output), redirect_stderr(output):
        return main(arguments.split("\0")[:-1]), output.getvalue()


@pytest.mark.slow
def test_readme_commands_run(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each command exits with 0; lines with more than one command, or with a redirection, run in a shell."""
    share_warm_servers(tmp_path_factory, tmp_path / ".medloop")
    for name in os.environ:
        if name.startswith(("MEDLOOP", "AWS_")) and name != CACHE_VARIABLE:
            monkeypatch.delenv(name)
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.chdir(tmp_path)
    single = [not re.search(r"[|&;<>]", re.sub(r"\$\([^)]*\)", "", line)) for line in commands()]
    assert sum(single) >= 8
    assert not all(single), "the installed program isn't run"
    for line, is_single in zip(commands(), single, strict=True):
        code, output = (run_here if is_single else run_in_shell)(line)
        assert code == 0, f"{line}\n{output}"


def test_readme_names_every_command() -> None:
    """Each command group is mentioned."""
    from typer.main import get_command

    from medloop.cli import app

    text = README.read_text(encoding="utf-8")
    names = get_command(app).commands  # type: ignore[attr-defined]
    assert [name for name in names if f"medloop {name}" not in text] == []
