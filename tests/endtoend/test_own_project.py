"""A project of the user's own, made by `medloop init` of an installed wheel: its tests are green."""

from __future__ import annotations

import os
import subprocess
import sys
import venv
from functools import partial
from pathlib import Path

import pytest

from tests.endtoend.test_wheel import install_wheel, medloop
from tests.shared import made_once

NAME = "lung-triage"


def install_project(wheel: Path, folder: Path) -> None:
    """Make a project, and an environment that has it next to the wheel."""
    medloop(wheel / "env/bin/python", "init", NAME, "--folder", str(folder / NAME), folder=folder)
    venv.create(folder / "env", with_pip=False, symlinks=True)
    (site,) = (folder / "env/lib").glob("python*/site-packages")
    (installed,) = (wheel / "env/lib").glob("python*/site-packages")
    sites = [str(installed), *(path for path in sys.path if Path(path).name == "site-packages")]
    (site / "others.pth").write_text("\n".join(sites), encoding="utf-8")
    pip = [sys.executable, "-m", "pip", "--python", str(folder / "env/bin/python"), "install", "--quiet"]
    options = ["--no-deps", "--no-index", "--no-build-isolation"]
    subprocess.run([*pip, *options, str(folder / NAME)], check=True, timeout=120)


@pytest.mark.slow
def test_a_new_projects_tests_are_green(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Its step runs in a local execution, with the container in its package, and medloop from the wheel."""
    wheel = made_once(tmp_path_factory, "wheel", install_wheel)
    made = made_once(tmp_path_factory, "own-project", partial(install_project, wheel))
    foreign = ("PYTHONPATH", "PYTEST", "MEDLOOP_HOME")
    environment = {name: value for name, value in os.environ.items() if not name.startswith(foreign)}
    command = [made / "env/bin/python", "-P", "-m", "pytest", "-q", "-p", "no:cacheprovider"]
    done = subprocess.run(command, cwd=made / NAME, env=environment, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "6 passed" in done.stdout
