"""A pipeline of the user's own has model groups, endpoint and hosting of its own, unless it shares those of another."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from medloop.cloud.hosting import Hosting, content_name, version_of_config
from medloop.cloud.layout import MAX_GROUP, MAX_PIPELINE, MAX_PROJECT, group_name
from medloop.commands.hosting.deployment import default_hosting
from medloop.errors import SettingError
from medloop.projects import package_folders, pipeline_points
from medloop.settings import resolve
from pipelines.classification import PIPELINE as CLASSIFICATION
from steps.common import Context

MODULE = """
from medloop.settings import PipelineSpec
from pipelines.classification import ClassificationSettings
from steps.deploy import ClassificationDeploySettings

class Deploy(ClassificationDeploySettings):
    endpoint_name: str = "medloop-lungs"
    instance_type: str = "ml.c5.4xlarge"

class Settings(ClassificationSettings):
    deploy: Deploy = Deploy()

class Shared(ClassificationSettings):
    GROUP = "classification"

OWN = PipelineSpec("lungs", "classification", Settings, None, ())
SHARED = PipelineSpec("skin", "classification", Shared, None, ())
"""


@pytest.fixture
def lungs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """An installed project with two pipelines."""
    points = "[medloop.pipelines]\nlungs = own_lungs.pipeline:OWN\nskin = own_lungs.pipeline:SHARED\n"
    files = {
        "own_lungs-1.0.dist-info/METADATA": "Metadata-Version: 2.1\nName: own-lungs\nVersion: 1.0\n",
        "own_lungs-1.0.dist-info/entry_points.txt": points,
        "own_lungs/__init__.py": "",
        "own_lungs/pipeline.py": MODULE,
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    _forget()
    yield
    for name in ("own_lungs", "own_lungs.pipeline"):
        sys.modules.pop(name, None)
    monkeypatch.undo()
    _forget()


def _forget() -> None:
    pipeline_points.cache_clear()
    package_folders.cache_clear()


def package(group: str, **metadata: str) -> dict[str, Any]:
    """DescribeModelPackage's response."""
    return {"ModelPackageGroupName": group, "CustomerMetadataProperties": metadata}


@pytest.mark.parametrize(
    ("pipeline", "project", "group"),
    [
        ("classification", "", "medloop-classification"),
        ("segmentation", "prostate", "medloop-segmentation-prostate"),
        ("lungs", "", "medloop-lungs"),
        ("lungs", "ct", "medloop-lungs-ct"),
        ("skin", "", "medloop-classification"),
        ("skin", "ct", "medloop-classification-ct"),
    ],
)
def test_a_group_is_a_pipelines_own(lungs: None, pipeline: str, project: str, group: str) -> None:
    """Or that of the pipeline whose champions it is compared with; the command line and the build agree."""
    resolved = resolve(pipeline, project=project)
    assert resolved.group == group
    build: Any = {"target": None, "session": None, "parameters": {}}
    settings: Any = resolved.settings
    assert Context(resolved.pipeline, resolved.spec.task, settings=settings, **build).group == group
    assert settings.deploy.endpoint_name == group, "an approval deploys to the endpoint that is named as the group"


def test_a_deploy_setting_leaves_the_endpoints_name(lungs: None) -> None:
    """The rest of the section has the pipeline's own defaults."""
    settings: Any = resolve("lungs", None, ("deploy.kind=async",)).settings
    assert (settings.deploy.endpoint_name, settings.deploy.instance_type) == ("medloop-lungs", "ml.c5.4xlarge")


@pytest.mark.parametrize(
    ("version", "instance_type"),
    [
        (package("medloop-lungs", pipeline="lungs"), "ml.c5.4xlarge"),
        (package("medloop-lungs-ct", pipeline="lungs-ct"), "ml.c5.4xlarge"),
        (package("medloop-classification", pipeline="lungs"), "ml.c5.4xlarge"),
        (package("medloop-lungs", pipeline="classification"), "ml.m5.xlarge"),
        (package("medloop-lungs"), "ml.c5.4xlarge"),
        (package("medloop-classification"), "ml.m5.xlarge"),
        ({"ModelPackageGroupName": "medloop-lungs"}, "ml.c5.4xlarge"),
        (package("others"), Hosting().instance_type),
        (package("medloop-lungs", pipeline="removed"), Hosting().instance_type),
    ],
)
def test_the_hosting_is_that_of_the_pipeline_that_registered_the_version(
    lungs: None, version: dict[str, Any], instance_type: str
) -> None:
    """By the version's metadata; of an older version, by its group's name."""
    assert default_hosting(version).instance_type == instance_type


@pytest.mark.parametrize(
    ("metadata", "message"),
    [
        ({"pipeline": "removed"}, "is of pipeline removed, which isn't installed; install its package, or leave"),
        ({}, "group others is of no pipeline; leave --preset and --set out"),
    ],
)
def test_settings_of_a_pipeline_that_is_not_installed_are_refused(metadata: dict[str, str], message: str) -> None:
    """They would be another's."""
    with pytest.raises(SettingError, match=message):
        default_hosting(package("others", **metadata), sets=("deploy.kind=async",))


def test_a_long_name_of_a_group_leaves_room_for_a_version() -> None:
    """In an endpoint configuration's 63 characters: the deployed version is read from there."""
    longest, similar = "a" * MAX_PIPELINE, "a" * (MAX_PIPELINE - 1) + "b"
    names = {group_name(name, "p" * MAX_PROJECT) for name in (longest, similar)}
    assert {len(name) for name in names} == {MAX_GROUP}
    assert len(names) == 2
    for name in names:
        assert version_of_config(content_name(f"{name}-1234", {}), name) == 1234
    assert len(group_name(CLASSIFICATION.name, "p" * MAX_PROJECT)) == MAX_GROUP
    assert group_name(CLASSIFICATION.name, "p" * MAX_PROJECT).endswith("-" + "p" * MAX_PROJECT), "as before"
