"""Remembered definitions: a hit gives what a build gives, doubt leads to a build, entries stay few and private."""

from __future__ import annotations

import json
import math
import os
import shutil
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import boto3
import pytest
from moto import mock_aws
from pydantic import BaseModel, Field, SecretStr

from medloop.bundle import REPOSITORY
from medloop.cloud import definition_cache
from medloop.cloud.definition_cache import CACHE_VARIABLE, MAX_ENTRIES, cache_folder
from medloop.cloud.images import image_uri
from medloop.cloud.target import Target
from medloop.cloud.upsert import build_definition, upsert
from medloop.settings import PipelineSpec, ProjectSettings, Resolved
from tests.pipelines.world import keep_versions

REGION, ACCOUNT = "eu-central-1", "123456789012"
EMPTY = '{"Version": "2020-12-01", "Metadata": {}, "Parameters": [], "PipelineExperimentConfig": null, "Steps": []}'
MEDIA_TYPE = "application/vnd.docker.distribution.manifest.v2+json"
BUILDS: list[Any] = []
"""Settings of the builds so far."""


class Group(BaseModel):
    """Settings within settings."""

    rate: float = 1.0


class Choices(ProjectSettings):
    """Settings of a pipeline."""

    number: int | float | bool = 1
    group: Group = Group()
    hidden: str = Field(default="", exclude=True)
    table: dict[str, Any] = Field(default_factory=dict)


class OtherChoices(Choices):
    """The same values, another type."""


class Secretive(Choices):
    """A value whose JSON is `**********`."""

    secret: SecretStr = SecretStr("")


def build(settings: Choices, target: Target) -> Any:
    """Count the build; refer to a bundle, an image and an object."""
    BUILDS.append(settings)
    target.bundle("champion")
    target.objects["scripts/run.sh"] = b"\x00\xff run"
    if target.name == "aws":
        image_uri(target, "champion")
    return SimpleNamespace(definition=lambda: EMPTY)


def other_build(settings: Choices, target: Target) -> Any:
    """Build by another function."""
    return build(settings, target)


def without_origin(definition: str) -> str:
    """A definition's text without the settings that it records."""
    return json.dumps({**json.loads(definition), "Metadata": {}})


def resolved(settings: BaseModel, builder: Any = build) -> Resolved:
    """A pipeline with these settings."""
    spec = PipelineSpec("classification", "classification", type(settings), builder, ())
    return Resolved(spec, None, settings, {})


@dataclass
class World:
    """A target, and the folder of entries."""

    target: Target
    folder: Path

    def builds(self, settings: BaseModel | None = None, builder: Any = build, **target: Any) -> int:
        """How many builds it takes to get the definition."""
        before = len(BUILDS)
        pipeline = resolved(Choices() if settings is None else settings, builder)
        assert without_origin(build_definition(replace(self.target, **target), pipeline)) == EMPTY
        return len(BUILDS) - before

    @property
    def entries(self) -> list[Path]:
        """The files of the folder."""
        return sorted(self.folder.iterdir())


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    """An empty cache, and a local target that is never called; an edit while the tests run doesn't matter."""
    monkeypatch.setattr(definition_cache, "process_start", lambda: math.inf)
    for name in ("tests", "infra", "benchmarks"):  # 500 files that no pipeline imports
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "cache"))
    session = boto3.Session(aws_access_key_id="none", aws_secret_access_key="none", region_name=REGION)  # noqa: S106
    target = Target("local", session, "bucket", "arn:aws:iam::1:role/r", ACCOUNT, REGION)
    return World(target, tmp_path / "cache" / "definitions")


def test_an_equal_definition_is_not_built_again(world: World) -> None:
    """The second time the entry is read."""
    assert (world.builds(), world.builds(), len(world.entries)) == (1, 0, 1)


CHANGED: dict[str, Any] = {
    "value": Choices(number=2),
    "type of a number": Choices(number=1.0),
    "type of a truth value": Choices(number=True),
    "value within": Choices(group=Group(rate=0.5)),
    "value that pydantic leaves out": Choices(hidden="x"),
    "order of a table": Choices(table={"b": 1, "a": 2}),
    "type of settings": OtherChoices(),
    "a default that was stated": Choices(number=1),
}


@pytest.mark.parametrize("name", CHANGED)
def test_any_difference_of_settings_is_built(world: World, name: str) -> None:
    """Also one that a plain JSON dump wouldn't show."""
    assert world.builds(Choices()) == 1
    assert world.builds(Choices(table={"a": 2, "b": 1})) == 1
    assert world.builds(CHANGED[name]) == 1


@pytest.mark.parametrize(
    "change",
    [
        {"bucket": "another"},
        {"role_arn": "arn:aws:iam::1:role/another"},
        {"account": "210987654321"},
        {"region": "us-east-1"},
        {"job_roles": {"training": "arn:aws:iam::1:role/narrow"}},
    ],
    ids=lambda change: next(iter(change)),
)
def test_another_target_is_built(world: World, change: dict[str, Any]) -> None:
    """Everything that a definition may repeat of its target."""
    assert (world.builds(), world.builds(**change), world.builds(**change)) == (1, 1, 0)


def test_another_builder_is_built(world: World) -> None:
    """Two pipelines may have the same settings."""
    assert (world.builds(), world.builds(builder=other_build), world.builds(builder=other_build)) == (1, 1, 0)


def test_a_builder_without_a_name_of_its_own_is_never_remembered(world: World) -> None:
    """A closure's variables are part of it."""
    for _ in range(2):
        assert world.builds(builder=lambda settings, target: build(settings, target)) == 1
    assert not world.folder.exists()


def test_settings_without_an_exact_text_are_never_remembered(world: World) -> None:
    """Two secrets would have the same text."""
    assert [world.builds(Secretive(secret=SecretStr(text))) for text in ("a", "b", "b")] == [1, 1, 1]


def test_environment_of_the_sdk_counts(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The SDK reads SAGEMAKER_ variables."""
    assert world.builds() == 1
    monkeypatch.setenv("SAGEMAKER_ROLE", "other")
    assert world.builds() == 1


def test_an_installed_package_counts(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By name and version, wherever on the import path."""
    site = tmp_path / "site"
    package = site / "sagemaker-3.99.0.dist-info"
    package.mkdir(parents=True)
    os.utime(package, (1, 1))
    monkeypatch.syspath_prepend(str(site))
    assert (world.builds(), world.builds()) == (1, 0)
    package.rename(site / "sagemaker-3.99.1.dist-info")
    assert world.builds() == 1
    os.utime(site / "sagemaker-3.99.1.dist-info", (2, 2))
    assert world.builds() == 1, "the same version, installed again"


DAMAGES: dict[str, Any] = {
    "empty": lambda path: path.write_bytes(b""),
    "torn": lambda path: path.write_bytes(path.read_bytes()[:-20]),
    "changed": lambda path: path.write_bytes(path.read_bytes().replace(b"2020-12-01", b"2020-12-02")),
    "no text": lambda path: path.write_bytes(b"\xff\xfe\n\x00"),
    "another format": lambda path: path.write_bytes(b"{}\n{}"),
    "written by others": lambda path: path.chmod(0o666),
    "a link": lambda path: (path.rename(path.with_suffix(".x")), path.symlink_to(path.with_suffix(".x"))),
    "a pipe": lambda path: (path.unlink(), os.mkfifo(path)),
    "of another key": lambda path: None,
}


@pytest.mark.parametrize("name", DAMAGES)
def test_a_damaged_or_foreign_entry_is_built_again(world: World, name: str) -> None:
    """And replaced by a sound one."""
    assert world.builds() == 1
    (path,) = world.entries
    DAMAGES[name](path)
    if name == "of another key":
        assert world.builds(Choices(number=2)) == 1
        (second,) = (entry for entry in world.entries if entry != path)
        shutil.copyfile(second, path)
    assert (world.builds(), world.builds()) == (1, 0)


def test_an_entry_of_another_user_is_built_again(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """A definition decides which code runs."""
    assert world.builds() == 1
    monkeypatch.setattr(os, "geteuid", lambda: 12345)
    assert world.builds() == 1


def test_a_folder_in_place_of_an_entry_does_no_harm(world: World) -> None:
    """The definition is built, each time."""
    assert world.builds() == 1
    (path,) = world.entries
    path.unlink()
    path.mkdir()
    assert (world.builds(), world.builds()) == (1, 1)
    assert world.entries == [path], "nothing temporary is left"


def test_entries_are_private(world: World) -> None:
    """Names of projects and buckets are in them."""
    before = os.umask(0)
    try:
        world.builds()
    finally:
        os.umask(before)
    assert stat.S_IMODE(world.entries[0].stat().st_mode) == 0o600
    assert stat.S_IMODE(world.folder.stat().st_mode) == 0o700


def test_the_least_recently_used_entries_are_removed(world: World) -> None:
    """What was used stays; so does what is new."""
    world.folder.mkdir(parents=True)
    for number in range(MAX_ENTRIES):
        old = world.folder / f"{number:03}.json"
        old.touch()
        os.utime(old, (1000 + number, 1000 + number))
    assert (world.builds(), len(world.entries)) == (1, MAX_ENTRIES)
    assert not (world.folder / "000.json").exists()
    newest = next(path for path in world.entries if len(path.stem) > 3)
    os.utime(newest, (1, 1))
    assert world.builds() == 0, "used now, so it isn't the oldest"
    assert world.builds(Choices(number=2)) == 1
    assert newest.exists()
    assert not (world.folder / "001.json").exists()


def test_a_folder_that_cannot_be_written_is_read(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a word; what isn't there is built."""
    assert world.builds() == 1

    def refuse(*_: Any, **__: Any) -> None:
        raise PermissionError("read-only")

    monkeypatch.setattr(definition_cache, "NamedTemporaryFile", refuse)
    monkeypatch.setattr(os, "utime", refuse)
    assert (world.builds(), world.builds(Choices(number=2)), world.builds(Choices(number=2))) == (0, 1, 1)


def test_a_cache_below_a_file_is_no_cache(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """MEDLOOP_CACHE is wrong: slower, not broken."""
    (tmp_path / "file").write_text("")
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "file"))
    assert (world.builds(), world.builds()) == (1, 1)


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({CACHE_VARIABLE: "/c", "XDG_CACHE_HOME": "/x"}, "/c/definitions"),
        ({CACHE_VARIABLE: "", "XDG_CACHE_HOME": "/x"}, "/x/medloop/definitions"),
        ({"XDG_CACHE_HOME": "relative"}, str(Path.home() / ".cache/medloop/definitions")),
        ({}, str(Path.home() / ".cache/medloop/definitions")),
    ],
)
def test_the_folder_is_the_users_cache(environment: dict[str, str], expected: str) -> None:
    """MEDLOOP_CACHE, else as the XDG standard says."""
    assert str(cache_folder(environment)) == expected


@pytest.fixture
def account(world: World, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    """An account of moto's, with a bucket and the repository of an image."""
    for variable in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(variable, "none")
    with mock_aws():
        session = boto3.Session(region_name=REGION)
        keep_versions(session)
        where: Any = {"LocationConstraint": REGION}
        session.client("s3").create_bucket(Bucket="bucket", CreateBucketConfiguration=where)
        session.client("ecr").create_repository(repositoryName="medloop-champion")
        yield replace(world, target=replace(world.target, name="aws", boto=session))


def push(target: Target, text: str) -> None:
    """Push an image of the champion's code as it is now."""
    parts = {"mediaType": MEDIA_TYPE, "config": {"digest": text}, "layers": [{"digest": text, "size": 1}]}
    manifest = json.dumps({"schemaVersion": 2, **parts})
    ecr, tag = target.boto.client("ecr"), target.code_digest("champion")
    ecr.batch_delete_image(repositoryName="medloop-champion", imageIds=[{"imageTag": tag}])
    ecr.put_image(repositoryName="medloop-champion", imageTag=tag, imageManifest=manifest)


@pytest.mark.slow
def test_an_image_that_was_pushed_since_is_built(account: World) -> None:
    """The definition names an image by ECR's digest, once it has one."""
    assert (account.builds(), account.builds()) == (1, 0)
    push(account.target, "one")
    assert (account.builds(), account.builds()) == (1, 0)
    push(account.target, "two")
    assert account.builds() == 1


@pytest.mark.slow
def test_a_hit_stores_what_a_build_stores(account: World) -> None:
    """Bundles and objects, on an account that has none of them yet."""
    pipeline, local = resolved(Choices()), replace(account.target, name="aws")
    assert account.builds() == 1
    before = len(BUILDS)
    first = upsert(local, pipeline)
    assert len(BUILDS) == before
    s3 = local.boto.client("s3")
    bundle = local.bundle("champion")
    assert {bundle.key, "scripts/run.sh"} <= set(first.uploaded)
    assert s3.get_object(Bucket="bucket", Key="scripts/run.sh")["Body"].read() == b"\x00\xff run"
    assert s3.get_object(Bucket="bucket", Key=bundle.key)["Body"].read() == bundle.data


BUILDER = """
from medloop.settings import ProjectSettings
from pathlib import Path
from types import SimpleNamespace
class Choices(ProjectSettings):
    pass
def build(settings, target):
    print("built")
    from own_steps import part
    return SimpleNamespace(definition=lambda: part.TEXT)
"""
COMMAND = """
import own_pipeline
from medloop.cloud.sessions import open_target
from medloop.cloud.upsert import build_definition
from medloop.settings import PipelineSpec, Resolved
from pathlib import Path
spec = PipelineSpec("own", "classification", own_pipeline.Choices, own_pipeline.build, ())
print(build_definition(open_target("local", Path("home")), Resolved(spec, None, own_pipeline.Choices(), {})))
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A pipeline of the user's own, older than the processes that run it."""
    (tmp_path / "own_steps" / "deep").mkdir(parents=True)
    (tmp_path / "own_pipeline.py").write_text(BUILDER)
    (tmp_path / "own_steps" / "__init__.py").write_text("")
    (tmp_path / "own_steps" / "part.py").write_text(f"TEXT = {EMPTY!r}\n")
    (tmp_path / "own_steps" / "deep" / "table.json").write_text("{}")
    return tmp_path


def run_command(project: Path, first: str = "") -> bool:
    """Get the definition in a new process, which runs `first` before anything else; True if it was built."""
    time.sleep(1.1)  # the time at which a process started is known to the second
    paths = os.pathsep.join([str(project), str(REPOSITORY)])
    environment = {**os.environ, CACHE_VARIABLE: str(project / "cache"), "PYTHONPATH": paths}
    command = [sys.executable, "-c", f"{first}\n{COMMAND}"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=project, env=environment)
    assert done.returncode == 0, done.stderr
    assert without_origin(done.stdout.splitlines()[-1]) == EMPTY
    return done.stdout.startswith("built\n")


@pytest.mark.slow
def test_any_change_of_the_sources_is_built(project: Path) -> None:
    """Of the pipeline's module, of a package that only the build imports, and of its data."""
    assert (run_command(project), run_command(project)) == (True, False)
    changes = {project / "own_pipeline.py": BUILDER + "# more", project / "own_steps" / "deep" / "table.json": "[]"}
    for path, text in changes.items():
        path.write_text(text)
        assert (run_command(project), run_command(project)) == (True, False), path
    (project / "own_steps" / "added.py").write_text("")
    assert run_command(project)
    (project / "own_steps" / "added.py").unlink()
    assert run_command(project)


@pytest.mark.slow
def test_sources_that_changed_under_a_process_are_not_remembered(project: Path) -> None:
    """It may have imported what was there before."""
    change = "from pathlib import Path; import own_pipeline; Path('own_pipeline.py').write_text('broken = ')"
    assert run_command(project, change)
    (project / "own_pipeline.py").write_text(BUILDER)
    assert run_command(project)


@pytest.mark.slow
def test_sources_behind_a_link_count(project: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    """A package may be put together from folders elsewhere; a link to a folder above it ends."""
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    shutil.move(project / "own_steps" / "deep", elsewhere)
    (project / "own_steps" / "deep").symlink_to(elsewhere / "deep")
    (elsewhere / "deep" / "up").symlink_to(project / "own_steps")
    assert (run_command(project), run_command(project)) == (True, False)
    (elsewhere / "deep" / "table.json").write_text("[1]")
    assert run_command(project)
