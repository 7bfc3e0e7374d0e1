"""Dockerfiles, requirements and bundles of the containers agree. No image is built here: there may be no Docker."""

from __future__ import annotations

import ast
import io
import json
import re
import shutil
import subprocess
import sys
import tarfile
import tomllib
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from medloop.bundle import REPOSITORY, bundle_files, load_container, make_bundle
from medloop.errors import SettingError
from tests.architecture.source import closure, tree

ALL = sorted(path.parent.name for path in (REPOSITORY / "containers").glob("*/container.toml"))
CONTAINERS = [name for name in ALL if load_container(name).kind != "lambda"]
"""Those that become images; a Lambda function's code is its bundle."""
FUNCTIONS = sorted(set(ALL) - set(CONTAINERS))
PYTHONS = ("3.11", "3.12", "3.13")
"""What a base image may bring; the locks are resolved for the first."""


def instructions(name: str) -> list[tuple[str, str]]:
    """A Dockerfile's instructions with their arguments, continuation lines joined, comments dropped."""
    text = (REPOSITORY / "containers" / name / "Dockerfile").read_text(encoding="utf-8")
    lines = re.sub(r"\\\n", " ", text).splitlines()
    return [
        (w[0], w[1]) for line in lines if line.strip() and not line.startswith("#") and (w := line.split(maxsplit=1))
    ]


def copies(name: str) -> list[tuple[list[str], str]]:
    """Sources and destination of each COPY."""
    return [
        ((paths := argument.split())[:-1], paths[-1]) for keyword, argument in instructions(name) if keyword == "COPY"
    ]


def requirements(path: Path) -> dict[str, Requirement]:
    """A requirements file's entries by normalised name, without hashes."""
    lines = [line.split("#")[0].strip().removesuffix(" \\") for line in path.read_text(encoding="utf-8").splitlines()]
    parsed = [Requirement(line) for line in lines if line and not line.startswith("--")]
    return {canonicalize_name(requirement.name): requirement for requirement in parsed}


def pins(path: Path) -> dict[str, str]:
    """Normalised distribution name to pinned version."""
    return {name: str(requirement.specifier).removeprefix("==") for name, requirement in requirements(path).items()}


def locked(name: str) -> dict[str, str]:
    """The packages that a container's image has beyond its base, with their versions."""
    return pins(REPOSITORY / "containers" / name / "requirements.txt")


BROUGHT_BY_BASE = set(requirements(REPOSITORY / "containers" / "brought-by-base.txt"))


OWNERS = metadata.packages_distributions()


def packages_at_top(path: Path) -> set[str]:
    """Packages of others that a module imports when it is imported."""
    imports = [node for node in tree(path).body if isinstance(node, ast.Import | ast.ImportFrom)]
    modules = {
        module
        for node in imports
        for module in ([node.module or ""] if isinstance(node, ast.ImportFrom) else [name.name for name in node.names])
    }
    return {module.partition(".")[0] for module in modules} - {"medloop", *sys.stdlib_module_names}


def unlocked(name: str, python: str) -> set[str]:
    """What a lock's packages need on a Python version and the lock lacks, by the metadata of the installed ones."""
    lock = set(locked(name)) | BROUGHT_BY_BASE
    environment = {"python_version": python, "python_full_version": f"{python}.0", "extra": ""}
    needed = {
        canonicalize_name(requirement.name)
        for package in set(locked(name))
        for text in metadata.requires(package) or []
        if (requirement := Requirement(text)).marker is None or requirement.marker.evaluate(environment)
    }
    return needed - lock


@pytest.mark.parametrize("name", CONTAINERS)
class TestDockerfile:
    """Each container's Dockerfile."""

    def test_base_image_is_an_argument(self, name: str) -> None:
        """The base can be replaced, and its default is the one that container.toml names."""
        first, second = instructions(name)[:2]
        assert first == ("ARG", f"BASE_IMAGE={load_container(name).base}")
        assert second == ("FROM", "${BASE_IMAGE}")

    def test_every_source_exists(self, name: str) -> None:
        """Nothing is copied that the build context (the repository's root) lacks."""
        assert [source for sources, _ in copies(name) for source in sources if not (REPOSITORY / source).exists()] == []

    def test_entry_point_is_exec_form_and_user_is_said(self, name: str) -> None:
        """SIGTERM reaches the job from the first moment; root is a decision, not an accident."""
        by_keyword = dict(instructions(name))
        entry = ["dumb-init", "--single-child", "--", "python", f"/opt/medloop/{load_container(name).entry_point}"]
        assert json.loads(by_keyword["ENTRYPOINT"]) == entry
        assert "dumb-init" in locked(name)
        assert by_keyword["USER"] == "root"

    def test_only_tmp_and_the_services_folders_are_written_to(self, name: str) -> None:
        """What packages keep for a user, Matplotlib among them, goes to /tmp: the root may be read-only."""
        variables = dict(
            assignment.split("=")
            for keyword, assignments in instructions(name)
            if keyword == "ENV"
            for assignment in assignments.split()
        )
        assert (variables["HOME"], variables["MPLCONFIGDIR"]) == ("/tmp", "/tmp/matplotlib")  # noqa: S108

    def test_copies_exactly_the_bundle(self, name: str, tmp_path: Path) -> None:
        """Image and bundle hold the same code."""
        lay_out(name, tmp_path)
        copied = {path.relative_to(tmp_path) for path in tmp_path.rglob("*") if path.is_file()}
        assert copied == set(bundle_files(load_container(name)))

    def test_what_the_job_imports_is_in_the_image(self, name: str) -> None:
        """All modules that the job's code imports at their top, however late it imports the code itself."""
        lock = set(locked(name)) | BROUGHT_BY_BASE
        start = REPOSITORY / load_container(name).entry_point
        absent = {
            f"{path.relative_to(REPOSITORY)} imports {module}"
            for path in closure(start)
            for module in packages_at_top(path)
            if not {canonicalize_name(dist) for dist in OWNERS.get(module, [module])} & lock
        }
        assert absent == set()

    @pytest.mark.slow
    def test_entry_point_runs_from_the_copied_files(self, name: str, tmp_path: Path) -> None:
        """Started on nothing, the job says in one line what it misses: all its imports were there."""
        lay_out(name, tmp_path / "opt")
        ml = tmp_path / "ml"
        (ml / "output").mkdir(parents=True)
        started = {"training": ["train"], "serving": ["serve", "--port", "0"]}
        arguments = started.get(load_container(name).kind, ["--task", "segmentation"])
        done = run_isolated(tmp_path / "opt", load_container(name).entry_point, arguments, {"ML_ROOT": str(ml)})
        assert done.returncode == 2, done.stderr
        assert re.search(r"error: (channel|input|model folder) \w+ is missing", done.stderr)

    def test_lock_has_the_versions_that_are_tested_here(self, name: str) -> None:
        """An image has what constraints.txt pins, down to the last dependency; the base image brings torch."""
        tested = pins(REPOSITORY / "constraints.txt")
        assert {(dist, version) for dist, version in locked(name).items() if tested.get(dist) != version} == set()
        assert not BROUGHT_BY_BASE & set(locked(name))

    def test_lock_has_hashes_of_each_package(self, name: str) -> None:
        """Another file under the same name and version is refused."""
        text = (REPOSITORY / "containers" / name / "requirements.txt").read_text(encoding="utf-8")
        blocks = re.split(r"\n(?=[^\s#])", text.strip())
        assert len(blocks) == len(locked(name))
        with_hashes = re.compile(r"\S+==\S+( \\\n    --hash=sha256:[0-9a-f]{64})+")
        assert [block for block in blocks if not with_hashes.fullmatch(block)] == []
        assert "--require-hashes --requirement /opt/medloop/requirements.txt" in dict(instructions(name))["RUN"]

    def test_lock_follows_from_what_the_container_names(self, name: str) -> None:
        """requirements.in has pyproject.toml's packages, without versions; each of them is in the lock."""
        direct = requirements(REPOSITORY / "containers" / name / "requirements.in")
        assert set(direct) <= set(locked(name)) | BROUGHT_BY_BASE, "run `make lock-images`"
        assert [str(requirement) for requirement in direct.values() if requirement.specifier] == []
        project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["project"]
        known = project["dependencies"] + project["optional-dependencies"]["jobs"]
        assert set(direct) <= {canonicalize_name(Requirement(text).name) for text in known}

    @pytest.mark.parametrize("python", PYTHONS)
    def test_lock_is_complete(self, name: str, python: str) -> None:
        """No package floats, on any Python that a base image may bring; what torch needs comes with the base."""
        assert unlocked(name, python) == set(), "run `make lock-images`"

    def test_metric_definitions_are_regular_expressions(self, name: str) -> None:
        """SageMaker takes the first group of a match as the metric's value."""
        assert all(re.compile(regex).groups == 1 for regex in load_container(name).metrics.values())


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_functions_bundle_imports_what_lambda_has_alone(name: str, tmp_path: Path) -> None:
    """Lambda brings the standard library and boto3; the bundle must hold everything else."""
    for file in bundle_files(load_container(name)):
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(REPOSITORY / file, tmp_path / file)
    module = load_container(name).entry_point.removesuffix(".py").replace("/", ".")
    code = (
        "import sys, types; sys.modules['boto3'] = types.ModuleType('boto3')\n"
        f"sys.path[:] = [{str(tmp_path)!r}] + [p for p in sys.path if 'site-packages' not in p and p]\n"
        "sys.meta_path[:] = [f for f in sys.meta_path if 'editable' not in getattr(f, '__module__', str(f)).lower()]\n"
        f"from {module} import handler; print(callable(handler))"
    )
    done = subprocess.run([sys.executable, "-S", "-c", code], capture_output=True, text=True, cwd=tmp_path, check=False)
    assert done.stdout.strip() == "True", done.stderr


IGNORED = [
    line.removeprefix("**/")
    for line in (REPOSITORY / ".dockerignore").read_text(encoding="utf-8").splitlines()
    if line.startswith("**/")
]
"""Names that builds from the checkout leave out, at any depth."""


def lay_out(name: str, folder: Path) -> None:
    """Do what the Dockerfile's COPY instructions do, requirements.txt of the first layer aside."""
    for sources, destination in copies(name):
        if destination.startswith("/"):
            continue
        for source in sources:
            path = REPOSITORY / source
            if path.is_dir():
                shutil.copytree(path, folder / destination, dirs_exist_ok=True, ignore=shutil.ignore_patterns(*IGNORED))
            else:
                (folder / destination).mkdir(parents=True, exist_ok=True)
                shutil.copy(path, folder / destination)


def run_isolated(root: Path, entry: str, arguments: list[str], env: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """Run an entry point that can import third-party packages and `root`, but not the checkout."""
    code = (
        "import sys, runpy\n"
        "sys.meta_path[:] = [f for f in sys.meta_path if 'editable' not in getattr(f, '__module__', str(f)).lower()]\n"
        f"sys.path[:] = [{str(root)!r}] + [p for p in sys.path if p not in ('', {str(REPOSITORY)!r})]\n"
        f"sys.argv = {[entry, *arguments]!r}\n"
        f"runpy.run_path({str(root / entry)!r}, run_name='__main__')\n"
    )
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=env, cwd=root, check=False)


class TestBundle:
    """medloop.bundle."""

    def test_same_files_give_the_same_bytes(self) -> None:
        """Two packings are one image."""
        assert make_bundle("split") == make_bundle("split")

    @pytest.mark.parametrize("name", ALL)
    def test_documentation_is_no_code(self, name: str) -> None:
        """A corrected sentence makes no other image; licences of what is bundled stay."""
        assert [file for file in bundle_files(load_container(name)) if file.suffix.lower() in {".md", ".rst"}] == []

    def test_notices_are_bundled_with_what_they_speak_of(self) -> None:
        """The report contains a viewer of others."""
        files = {file.as_posix() for file in bundle_files(load_container("evaluate"))}
        assert "medloop/evaluation/report/viewer/LICENSE" in files

    def test_an_archive_is_what_tarfile_writes(self, tmp_path: Path) -> None:
        """Members are packed one by one: long names, names of other scripts, empty files and whole blocks."""
        files = {"a" * 120 + ".py": b"1", "é/ü.txt": b"", "block": bytes(512), "d/__init__.py": b"x" * 513}
        folder = tmp_path / "containers" / "tiny"
        for name, content in {**files, "__pycache__/a.py": b"", "d/a.pyc": b""}.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(content)
        files["container.toml"] = b'name="tiny"\nkind="lambda"\nbase="b"\ninclude=["containers/tiny"]\n'
        (folder / "container.toml").write_bytes(files["container.toml"])
        expected = io.BytesIO()
        with tarfile.open(fileobj=expected, mode="w", format=tarfile.PAX_FORMAT) as archive:
            for name, content in sorted(files.items()):
                member = tarfile.TarInfo(f"containers/tiny/{name}")
                member.size, member.mode = len(content), 0o644
                archive.addfile(member, io.BytesIO(content))
        assert make_bundle("tiny", tmp_path).archive == expected.getvalue()

    def test_another_byte_gives_another_digest(self, tmp_path: Path) -> None:
        """The digest names the content, not the time of a file."""
        folder = tmp_path / "containers" / "tiny"
        folder.mkdir(parents=True)
        (folder / "container.toml").write_text(
            'name = "tiny"\nkind = "processing"\nrole = "processing"\nbase = "python"\ninclude = ["containers/tiny"]\n'
        )
        (folder / "main.py").write_text("print(1)\n")
        first = make_bundle("tiny", tmp_path)
        (folder / "main.py").write_text("print(1)\n")
        assert make_bundle("tiny", tmp_path).digest == first.digest
        (folder / "main.py").write_text("print(2)\n")
        assert make_bundle("tiny", tmp_path).digest != first.digest

    @pytest.mark.parametrize(
        ("toml", "word"),
        [
            ("name = ", "Invalid value"),
            ('name = "tiny"\nkind = "cooking"\nbase = "b"\ninclude = []\n', "kind"),
            ('name = "other"\nkind = "lambda"\nbase = "b"\ninclude = []\n', "write 'tiny'"),
            ('name = "tiny"\nkind = "lambda"\nbase = "b"\ninclude = ["nowhere"]\n', "'nowhere' doesn't exist"),
        ],
    )
    def test_broken_container_is_refused_by_name(self, tmp_path: Path, toml: str, word: str) -> None:
        """One line that names container.toml and the field."""
        folder = tmp_path / "containers" / "tiny"
        folder.mkdir(parents=True)
        (folder / "container.toml").write_text(toml)
        with pytest.raises(SettingError, match=r"containers/tiny/container\.toml") as caught:
            make_bundle("tiny", tmp_path)
        assert word in str(caught.value)

    def test_unknown_container_is_refused(self) -> None:
        """Named, with where it was looked for."""
        with pytest.raises(SettingError, match="container nowhere"):
            load_container("nowhere")
