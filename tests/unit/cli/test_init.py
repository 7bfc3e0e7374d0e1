"""`medloop init`: names, files, and the workflow. What the project does is in tests/endtoend/test_own_project.py."""

from __future__ import annotations

import json
import subprocess
import sys
import tomllib
from importlib.metadata import requires
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft7Validator
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from medloop.commands.init import render
from tests.workflow import FILE, workflow


def written(medloop: Any, folder: Path, name: str = "lung-triage") -> Path:
    """A new project."""
    assert medloop("init", name, "--folder", str(folder / name)) == 0, medloop.err
    return folder / name


def test_a_project_has_its_own_package_and_entry_point(medloop: Any, tmp_path: Path) -> None:
    """No name of the template is left in paths or texts."""
    project = written(medloop, tmp_path)
    declared = tomllib.loads((project / "pyproject.toml").read_text())["project"]
    assert declared["entry-points"]["medloop.pipelines"] == {"lung-triage": "lung_triage.pipeline:PIPELINE"}
    files = {path.relative_to(project).as_posix(): path.read_text() for path in project.rglob("*") if path.is_file()}
    assert {"lung_triage/presets/smoke-lung-triage.yaml", ".github/workflows/medloop.yml", ".gitignore"} <= {*files}
    left = ("<<", ">>", "<%", "%>", "PACKAGE")
    assert [name for name, text in files.items() if any(s in text.replace('>> "$GITHUB', "") for s in left)] == []
    assert len(files["README.md"].splitlines()) <= 30


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("Lung", "is no name of a project"),
        ("lung_triage", "is no name of a project"),
        ("3d-lungs", "is no name of a project"),
        ("lung-", "is no name of a project"),
        ("x" * 33, "is no name of a project"),
        ("../lungs", "is no name of a project"),
        ("class", "a Python package is named class"),
        ("json", "a Python package is named json"),
        ("steps", "a Python package is named steps"),
        ("pipelines", "a Python package is named pipelines"),
        ("medloop", "a Python package is named medloop"),
        ("classification", "is the pipeline classification"),
        ("segmentation-lungs", "is the pipeline segmentation, or that of a project of it"),
    ],
)
def test_a_name_that_something_else_has_is_refused(medloop: Any, tmp_path: Path, name: str, reason: str) -> None:
    """In one line, before anything is written."""
    assert medloop("init", name, "--folder", str(tmp_path / "new")) == 2
    assert reason in medloop.err
    assert medloop.err.count("\n") == 1
    assert not (tmp_path / "new").exists()


def test_a_folder_with_files_is_left_as_it_is(medloop: Any, tmp_path: Path) -> None:
    """A new repository, with `.git` alone, is empty enough."""
    (tmp_path / "lungs" / ".git").mkdir(parents=True)
    written(medloop, tmp_path, "lungs")
    assert medloop("init", "lungs", "--folder", str(tmp_path / "lungs")) == 2
    assert "contains .github; give a new or empty folder" in medloop.err


def requirements_of(name: str) -> set[str]:
    """A package and those that it needs, directly or indirectly."""
    needed = [Requirement(line) for line in requires(name) or ()]
    direct = {canonicalize_name(r.name) for r in needed if r.marker is None or r.marker.evaluate({"extra": ""})}
    return {name}.union(*(requirements_of(requirement) for requirement in direct))


def test_a_container_installs_what_is_locked() -> None:
    """Each package that requirements.in needs, with hashes, at the version of medloop's own containers."""
    files = {path.name: text for path, text in render("lungs").items() if "census" in path.parts}
    needed = set().union(*(requirements_of(name) for name in files["requirements.in"].split()))
    pinned = [line.partition("==")[0] for line in files["requirements.txt"].splitlines() if not line.startswith(" ")]
    assert pinned == sorted(needed)
    assert files["requirements.txt"].count("--hash=sha256:") >= 2 * len(needed)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["lungs", "a-name-of-thirty-two-characters1"])
def test_a_projects_code_is_clean(medloop: Any, tmp_path: Path, name: str) -> None:
    """By its own settings of ruff, as its workflow checks it."""
    project = written(medloop, tmp_path, name)
    for command in (["check"], ["format", "--check"]):
        ruff = [sys.executable, "-m", "ruff", *command, "."]
        done = subprocess.run(ruff, cwd=project, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout


def workflows() -> list[str]:
    """The texts of this repository's workflow, and of a project's."""
    return [workflow(), *(text for path, text in render("lung-triage").items() if path.suffix == ".yml")]


def test_this_repositorys_workflow_is_the_templates() -> None:
    """`python -m tests.workflow` writes it."""
    assert FILE.read_text(encoding="utf-8") == workflow()


@pytest.mark.parametrize("text", workflows(), ids=["repository", "project"])
def test_a_workflow_is_one_by_githubs_schema(text: str) -> None:
    """The schema of schemastore.org, as check-jsonschema carries it; one that it must refuse is refused."""
    import check_jsonschema

    file = Path(check_jsonschema.__file__).parent / "builtin_schemas/vendor/github-workflows.json"
    validator = Draft7Validator(json.loads(file.read_text(encoding="utf-8")))
    document = yaml.safe_load(text)
    document["on"] = document.pop(True)  # YAML 1.1's word for it
    assert [error.message for error in validator.iter_errors(document)] == []
    document["jobs"]["check"]["needs"] = {"no": "list"}
    assert [*validator.iter_errors(document)] != []


@pytest.mark.parametrize("text", workflows(), ids=["repository", "project"])
def test_a_workflow_has_no_keys_and_gives_rights_to_reviewed_code_only(text: str) -> None:
    """Roles by OIDC; a pull request's code gets one that reads; actions are pinned; inputs aren't part of a script."""
    document = yaml.safe_load(text)
    jobs, events = document["jobs"], document[True]
    assert "secrets." not in text
    assert events["push"] == {"branches": ["main"]}
    assert "pull_request_target" not in events
    assert document["permissions"] == {"contents": "read"}
    roles = {
        name: [step["with"]["role-to-assume"] for step in job["steps"] if "role-to-assume" in step.get("with", {})]
        for name, job in jobs.items()
    }
    assert roles["check"] == []
    assert roles["differences"] == ["${{ vars.READER_ROLE_ARN }}"]
    for name in ("images", "publish", "staging", "production"):
        assert jobs[name]["environment"]
        assert jobs[name]["if"].startswith(("github.event_name == 'push'", "github.event_name == 'workflow_dispatch'"))
    assert {name for name, job in jobs.items() if "permissions" in job and "pull-requests" in job["permissions"]} == {
        "comment"
    }
    # The right to comment is that of a job that runs no code of the pull request.
    assert not any("uses" in step for step in jobs["comment"]["steps"])
    assert {name: job.get("needs") for name, job in jobs.items()} == {
        **{"check": None, "differences": "check", "comment": "differences", "images": "check", "publish": "images"},
        **{"staging": None, "production": "staging"},
    }
    steps = [step for job in jobs.values() for step in job["steps"]]
    assert all(len(step["uses"].partition("@")[2]) == 40 for step in steps if "uses" in step)
    assert [step["run"] for step in steps if "${{" in step.get("run", "")] == []
