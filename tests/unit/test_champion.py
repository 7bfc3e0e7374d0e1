"""The champion function's response, on the local backend and on moto."""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from medloop.bundle import REPOSITORY
from medloop.champion import respond
from medloop.documents.champion import CLASSES_DIGEST, NO_VERSION, digest_of_classes
from medloop.errors import DataError, SettingError, TargetError
from medloop.local.session import local_session
from medloop.local.state.home import BUCKET

GROUP = "medloop-classification"
SPLIT = f"s3://{BUCKET}/executions/p/e/Split/split"
NONE = f"s3://{BUCKET}/champion/none/"
EVENT = {"group": GROUP, "split": SPLIT, "none": NONE, "uses": f"s3://{BUCKET}/test-uses/classification"}
DOCUMENT = {"patients": {"p1": {"cases": [{"path": "a.png", "split": "test"}, {"path": "b.png", "split": "train"}]}}}
"""As much of split.json as the function reads."""
PAGE = 100
"""The most versions that the service puts on one page of ListModelPackages."""


@dataclass
class World:
    """A model group and a bucket, and the calls that were made."""

    sagemaker: Any
    s3: Any
    calls: list[tuple[str, dict[str, Any]]] = field(default_factory=list)

    def artefact(self, name: str) -> str:
        """Store a model.tar.gz; returns its URI."""
        self.s3.put_object(Bucket=BUCKET, Key=f"executions/p/{name}/model.tar.gz", Body=name.encode())
        return f"s3://{BUCKET}/executions/p/{name}/model.tar.gz"

    def version(self, name: str, status: str = "Approved", classes: list[str] | None = None) -> tuple[str, str]:
        """Register a version; returns its ARN and its model's URI."""
        model = self.artefact(name)
        specification = {
            "Containers": [{"Image": "image", "ModelDataUrl": model}],
            "SupportedContentTypes": ["image/png"],
            "SupportedResponseMIMETypes": ["application/json"],
        }
        request = {"ModelPackageGroupName": GROUP, "InferenceSpecification": specification}
        if classes is not None:
            request["CustomerMetadataProperties"] = {CLASSES_DIGEST: digest_of_classes(classes)}
        made = self.sagemaker.create_model_package(**request, ModelApprovalStatus=status)
        return str(made["ModelPackageArn"]), model

    def split(self, document: Any) -> None:
        """Store split.json."""
        body = document if isinstance(document, bytes) else json.dumps(document).encode()
        self.s3.put_object(Bucket=BUCKET, Key=f"{SPLIT.removeprefix(f's3://{BUCKET}/')}/split.json", Body=body)

    def call(self, candidate: str, **more: str) -> dict[str, str]:
        """What the function answers for a candidate's artefact."""
        return respond({**EVENT, "model": candidate, **more}, self.sagemaker, self.s3)


@pytest.fixture(params=["local", "moto"])
def world(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    """A split is there, and a group without versions."""
    if request.param == "local":
        session = local_session(tmp_path / "home")
        yield _made(World(session.client("sagemaker"), session.client("s3")))
        return
    import boto3
    from moto import mock_aws

    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "testing")
    with mock_aws():
        clients = [boto3.Session(region_name="us-east-1").client(service) for service in ("sagemaker", "s3")]
        clients[1].create_bucket(Bucket=BUCKET)
        yield _made(World(*clients))


def _made(world: World) -> World:
    world.sagemaker.create_model_package_group(ModelPackageGroupName=GROUP)
    world.split(DOCUMENT)
    for client in (world.sagemaker, world.s3):
        events = client.meta.events
        events.register("before-parameter-build", lambda params, model, **_: world.calls.append((model.name, params)))
    return world


def test_without_an_approved_version_there_is_no_champion(world: World) -> None:
    """Pending and rejected versions are no competitors."""
    world.version("pending", "PendingManualApproval")
    world.version("rejected", "Rejected")
    said = world.call(world.artefact("candidate"))
    none = {"champion_arn": NO_VERSION, "champion_model": NONE, "first_arn": NO_VERSION, "first_model": NONE}
    assert said == {**none, "test_uses": "1"}


def test_newest_and_oldest_of_more_than_ten_versions(world: World) -> None:
    """Numbers count as numbers (10 is newer than 9), and the versions that wait or were refused are skipped."""
    world.version("v1", "Rejected")
    first = world.version("v2")
    for number in range(3, 12):
        world.version(f"v{number}")
    newest = world.version("v12")
    world.version("v13", "PendingManualApproval")
    said = world.call(world.artefact("candidate"))
    assert (said["champion_arn"], said["champion_model"]) == newest
    assert (said["first_arn"], said["first_model"]) == first


@pytest.mark.slow
def test_newest_and_oldest_when_the_list_pages(world: World) -> None:
    """More Approved versions than a page holds: the oldest is on the first page, the newest on the last."""
    first = world.version("v1")
    for number in range(2, PAGE + 1):
        world.version(f"v{number}")
    newest = world.version(f"v{PAGE + 1}")
    world.version(f"v{PAGE + 2}", "Rejected")
    candidate = world.artefact("candidate")
    world.calls.clear()
    said = world.call(candidate)
    names = [name for name, _ in world.calls]
    assert (names.count("ListModelPackages"), names.count("DescribeModelPackage")) == (2, 2)
    assert (said["champion_arn"], said["champion_model"]) == newest
    assert (said["first_arn"], said["first_model"]) == first


def test_candidates_own_version_is_no_competitor(world: World) -> None:
    """An unchanged run of an approved model meets the one before it, which is champion and first alike."""
    before = world.version("before")
    _, candidate = world.version("own")
    said = world.call(candidate)
    assert (said["champion_arn"], said["champion_model"]) == before
    assert (said["first_arn"], said["first_model"]) == (NO_VERSION, NONE)


@pytest.mark.slow
def test_the_champion_was_trained_for_the_candidates_classes(world: World) -> None:
    """A newer version for another organ, or for the same names in another order, is no champion; an old one may be."""
    world.split({**DOCUMENT, "classes": ["background", "prostate"]})
    first = world.version("without a record")
    champion = world.version("prostate", classes=["background", "prostate"])
    world.version("spleen", classes=["background", "spleen"])
    world.version("swapped", classes=["prostate", "background"])
    response = world.call(world.artefact("candidate"))
    assert (response["champion_arn"], response["champion_model"]) == champion
    assert (response["first_arn"], response["first_model"]) == first


def test_without_a_version_for_the_same_classes_there_is_no_champion(world: World) -> None:
    """The first one of a new organ has no champion."""
    world.split({**DOCUMENT, "classes": ["background", "prostate"]})
    world.version("spleen", classes=["background", "spleen"])
    assert world.call(world.artefact("candidate"))["champion_arn"] == NO_VERSION


@pytest.mark.slow
def test_a_version_whose_artefact_is_gone_is_named(world: World) -> None:
    """Before any job is paid for."""
    arn, model = world.version("lost")
    world.s3.delete_object(Bucket=BUCKET, Key=model.removeprefix(f"s3://{BUCKET}/"))
    with pytest.raises(DataError, match=r"is gone; restore it, or reject the version") as caught:
        world.call(world.artefact("candidate"))
    assert arn in str(caught.value)


@pytest.mark.parametrize("model", [f"s3://{BUCKET}", f"s3://{BUCKET}/", "https://example.org/model.tar.gz"])
def test_an_artefact_that_is_no_file_in_s3_is_named(world: World, monkeypatch: pytest.MonkeyPatch, model: str) -> None:
    """One line with the version and the fix; S3 is not called with an empty key."""
    arn, _ = world.version("folder")
    monkeypatch.setattr("medloop.champion.artefact_of", lambda _: model)
    with pytest.raises(DataError, match=r"is no file in S3; reject it, or approve a version that has one") as caught:
        world.call(world.artefact("candidate"))
    assert arn in str(caught.value)
    assert model in str(caught.value)


@pytest.mark.parametrize(
    ("document", "word"),
    [
        (b"{", "is no JSON"),
        ([], "is no split.json"),
        ({"patients": []}, "patients: are not"),
        ({"patients": {}}, "names no test case"),
    ],
)
def test_a_broken_split_is_refused(world: World, document: Any, word: str) -> None:
    """One line that names the file."""
    world.split(document)
    with pytest.raises(DataError, match=r"split\.json") as caught:
        world.call(world.artefact("candidate"))
    assert word in str(caught.value)


def test_an_absent_split_input_or_group_is_refused(world: World) -> None:
    """Each by its name."""
    with pytest.raises(DataError, match=r"other/split\.json: is absent"):
        world.call("s3://b/m", split=f"s3://{BUCKET}/other")
    with pytest.raises(SettingError, match="uses: is missing"):
        world.call("s3://b/m", uses="")


def test_a_group_that_cannot_be_listed_is_named(tmp_path: Path) -> None:
    """An unknown group; moto answers with an empty list, so this is the local backend's alone."""
    session = local_session(tmp_path / "home")
    world = _made(World(session.client("sagemaker"), session.client("s3")))
    with pytest.raises(TargetError, match="model group nowhere: can't be listed"):
        world.call("s3://b/m", group="nowhere")


def test_uses_of_a_test_set_are_counted_once_a_candidate(world: World) -> None:
    """Asking again changes no record; another test set has its own count."""
    candidates = ["two", "one", "three", "one", "two", "three"]
    assert [world.call(f"s3://b/{name}")["test_uses"] for name in candidates] == ["1", "2", "3", "2", "1", "3"]
    assert len(_records(world)) == 3
    world.split({"patients": {"p2": {"cases": [{"path": "a.png", "split": "test"}]}}})
    assert world.call("s3://b/one")["test_uses"] == "1"
    assert len(_records(world)) == 4


@pytest.mark.slow
def test_a_test_set_is_known_by_its_content(world: World) -> None:
    """The same images under other names are the same test set; other images under the same names are another one."""
    renamed = {"patients": {"p9": {"cases": [{"path": "z.png", "split": "test"}]}}}
    presplit = {"presplit": True, "identifiers": "none"}
    uses = []
    for candidate, document in enumerate(
        [
            {**DOCUMENT, "test_digest": "a" * 64},
            {**renamed, "test_digest": "a" * 64},
            {**DOCUMENT, **presplit, "test_digest": "b" * 64},
        ]
    ):
        world.split(document)
        uses.append(world.call(f"s3://b/{candidate}")["test_uses"])
    assert uses == ["1", "2", "1"]


def test_uses_that_earlier_versions_recorded_count(world: World) -> None:
    """Records under a digest of names count first, and keep their numbers; not where only files' names tell."""
    assert [world.call(f"s3://b/{name}")["test_uses"] for name in ("one", "two")] == ["1", "2"]
    world.split({**DOCUMENT, "test_digest": "a" * 64})
    assert [world.call(f"s3://b/{name}")["test_uses"] for name in ("three", "one", "three")] == ["3", "1", "3"]
    world.split({**DOCUMENT, "presplit": True, "identifiers": "none", "test_digest": "c" * 64})
    assert world.call("s3://b/four")["test_uses"] == "1"


@pytest.mark.slow
def test_two_at_once_leave_one_record_a_candidate(world: World) -> None:
    """The second caller sees the existing record and succeeds."""
    with ThreadPoolExecutor(4) as pool:
        said = list(pool.map(world.call, ["s3://b/one", "s3://b/one", "s3://b/two", "s3://b/two"]))
    numbers = [item["test_uses"] for item in said]
    assert numbers[0] == numbers[1] != numbers[2] == numbers[3]
    assert len(_records(world)) == 2


def test_calls_are_those_that_the_readme_asks_permission_for(world: World) -> None:
    """Each operation on the resources of README.md's table, and no other."""
    world.version("v1")
    candidate = world.artefact("candidate")
    world.calls.clear()
    world.call(candidate)
    assert {name for name, _ in world.calls} == {
        *("ListModelPackages", "DescribeModelPackage"),
        *("GetObject", "HeadObject", "PutObject"),
    }
    for name, params in world.calls:
        if name in ("GetObject", "HeadObject"):  # s3:GetObject allows both
            assert params["Key"].startswith(("executions/", "test-uses/"))
        elif name == "PutObject":
            assert params["Key"].startswith("test-uses/")
            assert params["IfNoneMatch"] == "*"
        elif name == "DescribeModelPackage":
            assert f":model-package/{GROUP}/" in params["ModelPackageName"]
    readme = (REPOSITORY / "containers" / "champion" / "README.md").read_text(encoding="utf-8")
    allowed = {"sagemaker:ListModelPackages", "sagemaker:DescribeModelPackage"}
    for action in allowed | {"s3:GetObject", "s3:PutObject", "s3:ListBucket"}:
        assert f"`{action}`" in readme


def _records(world: World) -> list[str]:
    listed = world.s3.list_objects_v2(Bucket=BUCKET, Prefix="test-uses/classification/")
    return [item["Key"] for item in listed.get("Contents", ())]
