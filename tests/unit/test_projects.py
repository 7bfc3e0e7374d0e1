"""Users' projects: their presets and containers are in the package that their pipeline's entry point names."""

from __future__ import annotations

import io
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from medloop.bundle import image_containers, load_container, make_bundle
from medloop.checkout import REPOSITORY
from medloop.errors import SettingError
from medloop.local.jobs.job_site import BundleFinder
from medloop.presets import load_presets
from medloop.projects import package_folders, pipeline_points, source_folder

TOML = """name = "{name}"
kind = "processing"
role = "evaluation"
base = "python"
include = ["containers/{name}", "lungs/counting.py", "medloop/errors.py"]
"""


def forget() -> None:
    """Forget which projects are installed."""
    pipeline_points.cache_clear()
    package_folders.cache_clear()


@pytest.fixture
def lungs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An installed project with the package `lungs`; the folder that contains the package."""
    files = {
        "lungs-1.0.dist-info/METADATA": "Metadata-Version: 2.1\nName: lungs\nVersion: 1.0\n",
        "lungs-1.0.dist-info/entry_points.txt": "[medloop.pipelines]\nlungs = lungs.pipeline:PIPELINE\n",
        "lungs/__init__.py": "",
        "lungs/counting.py": "COUNT = 1\n",
        "lungs/secret.py": "",
        "lungs/presets/lungs-small.yaml": "description: Small.\npipeline: lungs\n",
        "lungs/containers/census/container.toml": TOML.format(name="census"),
        "lungs/containers/census/main.py": "import lungs.counting\n",
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    forget()
    yield tmp_path
    sys.modules.pop("lungs", None)  # reading presets imports it
    monkeypatch.undo()
    forget()


def members(name: str) -> set[str]:
    """Names of a bundle's files."""
    with tarfile.open(fileobj=io.BytesIO(make_bundle(name).archive)) as archive:
        return set(archive.getnames())


def test_a_projects_container_is_found_by_its_name(lungs: Path) -> None:
    """As medloop's own; its image is listed, and its presets too."""
    assert load_container("census").entry_point == "containers/census/main.py"
    assert "census" in image_containers()
    assert "classify" in image_containers()
    assert "lungs-small" in load_presets()


def test_a_projects_bundle_contains_its_own_files_and_medloops(lungs: Path) -> None:
    """Only what is included: the job's code is reviewed file by file."""
    assert members("census") == {
        *("containers/census/container.toml", "containers/census/main.py"),
        *("lungs/counting.py", "medloop/errors.py"),
    }


def test_another_byte_of_a_projects_file_gives_another_digest(lungs: Path) -> None:
    """Images are named by what is in them."""
    before = make_bundle("census").digest
    (lungs / "lungs" / "counting.py").write_text("COUNT = 2\n")
    assert make_bundle("census").digest != before


def test_medloops_bundles_are_the_same_with_a_project_installed(lungs: Path) -> None:
    """Definitions don't depend on what else is in the environment."""
    assert make_bundle("split") == make_bundle("split", REPOSITORY)


@pytest.mark.parametrize("name", ["split", "champion"])
def test_a_container_named_as_one_of_medloops_is_refused(lungs: Path, name: str) -> None:
    """Both would be the image medloop-split: a job could run the wrong code."""
    folder = lungs / "lungs" / "containers" / name
    folder.mkdir()
    (folder / "container.toml").write_text(TOML.format(name=name))
    with pytest.raises(SettingError, match=f"container {name}: is in .*; rename your project's"):
        load_container(name)


def test_a_missing_file_of_a_project_is_refused_by_path(lungs: Path) -> None:
    """As the bundle names it."""
    (lungs / "lungs" / "counting.py").unlink()
    with pytest.raises(SettingError, match=r"include 'lungs/counting\.py' doesn't exist"):
        make_bundle("census")


def test_a_job_gets_a_projects_modules_from_its_bundle_or_not_at_all(lungs: Path) -> None:
    """Here as on AWS: the installed package would otherwise supply what the bundle lacks."""
    code = lungs / "code"
    (code / "lungs").mkdir(parents=True)
    (code / "lungs" / "__init__.py").write_text("")
    finder = BundleFinder(str(code), [*package_folders()])
    spec = finder.find_spec("lungs")
    assert spec is not None
    assert spec.origin == str(code / "lungs" / "__init__.py")
    with pytest.raises(ModuleNotFoundError, match=r"lungs\.secret"):
        finder.find_spec("lungs.secret", [str(code / "lungs")])
    assert finder.find_spec("json") is None


@pytest.mark.parametrize(
    ("module", "folder"), [("lungs.pipeline", None), ("pipelines.classification", REPOSITORY), ("x", REPOSITORY)]
)
def test_a_definitions_commit_is_its_projects(lungs: Path, module: str, folder: Path | None) -> None:
    """The folder that contains the package is the checkout; without one it is medloop's."""
    assert source_folder(module) == (folder or lungs.resolve())
