"""`medloop endpoints` on the local backend, with a serving container of a few lines."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from medloop.cli import main
from medloop.cloud.target import Target
from medloop.commands.options import Services
from medloop.local.state.home import ACCOUNT, BUCKET, REGION, ROLE_ARN
from tests.unit.local.conftest import Local, local
from tests.unit.local.hosting import Hosting

__all__ = ["local"]
GROUP = "medloop-tiny"


class World:
    """A home with registered versions, and the command line on it."""

    def __init__(self, hosting: Hosting, capsys: pytest.CaptureFixture[str]) -> None:
        self.hosting = hosting
        self.capsys = capsys
        self.out = self.err = ""
        self.account = hosting.local
        self.account.sagemaker.create_model_package_group(ModelPackageGroupName=GROUP)

    def register(self, word: str, approval: str = "Approved") -> str:
        """Register a version that answers with this word; returns its ARN."""
        container = {"Image": self.hosting.image, "ModelDataUrl": self.hosting.store(word)}
        made = self.account.sagemaker.create_model_package(
            ModelPackageGroupName=GROUP,
            ModelApprovalStatus=approval,
            InferenceSpecification={
                "Containers": [container],
                "SupportedContentTypes": ["image/png"],
                "SupportedResponseMIMETypes": ["application/json"],
            },
        )
        return str(made["ModelPackageArn"])

    def __call__(self, *arguments: str) -> int:
        """Run a command; keeps what it printed."""
        target = Target("local", self.account.boto, BUCKET, ROLE_ARN, ACCOUNT, REGION)
        code = main(["endpoints", *arguments, "--home", str(self.account.home)], Services(lambda *_: target))
        self.out, self.err = self.capsys.readouterr()
        return code

    @property
    def json(self) -> Any:
        """Standard output as JSON."""
        return json.loads(self.out)


@pytest.fixture
def endpoints(local: Local, capsys: pytest.CaptureFixture[str]) -> Iterator[World]:
    """An account with one approved version, GROUP/1; nothing runs when the test has ended."""
    world = World(Hosting.on(local), capsys)
    world.register("one")
    yield world
    world.hosting.close()


@pytest.fixture
def file(tmp_path: Path) -> Callable[..., Path]:
    """Make a file of some content."""

    def make(name: str, content: bytes = b"12345") -> Path:
        path = tmp_path / name
        path.write_bytes(content)
        return path

    return make


@pytest.mark.slow
def test_a_version_is_deployed_invoked_replaced_and_deleted(endpoints: World, file: Callable[..., Path]) -> None:
    """The way of a user, with what is said at each step; the same version twice changes nothing."""
    assert endpoints("deploy", GROUP) == 0
    assert endpoints.out.startswith(f"endpoint {GROUP} serves {GROUP}/1: created in ")
    assert f"endpoint {GROUP}: InService" in endpoints.err
    assert endpoints("invoke", GROUP, str(file("a.png")), "--json") == 0
    assert (endpoints.json["word"], endpoints.json["type"], endpoints.json["size"]) == ("one", "image/png", 5)

    assert endpoints("deploy", f"{GROUP}/1") == 0
    assert endpoints.out == f"endpoint {GROUP} serves {GROUP}/1: nothing changed\n"
    endpoints.register("two")
    assert endpoints("deploy", f"{GROUP}/2", "--json") == 0
    assert (endpoints.json["action"], endpoints.json["model"]) == ("updated", f"{GROUP}/2")
    assert endpoints("invoke", GROUP, str(file("a.nii.gz")), "--json") == 0
    assert (endpoints.json["word"], endpoints.json["type"]) == ("two", "application/x-nifti")

    assert endpoints("list", "--json") == 0
    (row,) = endpoints.json
    assert (row["status"], row["model"], row["machine"]) == ("InService", f"{GROUP}/2", "1 x ml.m5.xlarge")
    assert endpoints("delete", GROUP) == 0
    assert endpoints("list") == 0
    assert "no endpoints" in endpoints.err


def test_only_an_approved_version_is_deployed(endpoints: World) -> None:
    """The refusal holds the command that approves it."""
    endpoints.register("two", "PendingManualApproval")
    assert endpoints("deploy", f"{GROUP}/2") == 2
    assert f"medloop models approve {GROUP}/2 --reason" in endpoints.err
    assert endpoints("list", "--json") == 0
    assert endpoints.json == []


@pytest.mark.slow
def test_a_version_that_fails_leaves_the_old_one(endpoints: World, file: Callable[..., Path]) -> None:
    """Exit code 1, the container's own words, and the endpoint answers as before."""
    assert endpoints("deploy", GROUP) == 0
    endpoints.register("broken")
    assert endpoints("deploy", f"{GROUP}/2") == 1
    assert "keeps its old model" in endpoints.err
    assert "the model is broken" in endpoints.err
    assert endpoints("invoke", GROUP, str(file("a.png")), "--json") == 0
    assert endpoints.json["word"] == "one"
    assert endpoints("deploy", f"{GROUP}/2", "--name", "fresh") == 1
    assert "endpoint fresh is Failed" in endpoints.err
    assert endpoints("deploy", f"{GROUP}/1", "--name", "fresh") == 0
    assert "had failed" in endpoints.err


@pytest.mark.slow
def test_payloads_beyond_the_limit_go_by_the_queue(endpoints: World, file: Callable[..., Path]) -> None:
    """Refused before it is sent, with the way; the asynchronous endpoint takes it."""
    large = file("large.nii", b"x" * 6_291_457)
    assert endpoints("deploy", GROUP) == 0
    assert endpoints("invoke", GROUP, str(large)) == 2
    assert "6,291,457 bytes, and a realtime endpoint takes 6,291,456" in endpoints.err
    assert "--kind async" in endpoints.err
    assert endpoints("invoke", GROUP, str(large), "--async") == 2
    assert "needs an asynchronous one" in endpoints.err
    assert endpoints("deploy", GROUP, "--name", "slow", "--kind", "async") == 0
    assert endpoints("invoke", "slow", str(large), "--async", "--json") == 0
    assert (endpoints.json["size"], endpoints.json["accept"]) == (6_291_457, "application/json")
    assert endpoints("invoke", "slow", str(file("bad.png", b"bad"))) == 2
    assert "no image" in endpoints.err


@pytest.mark.slow
def test_refusals_are_the_users_and_crashes_are_not(endpoints: World, file: Callable[..., Path]) -> None:
    """The model's own reason with exit code 2; exit code 1 where it crashed."""
    assert endpoints("deploy", GROUP) == 0
    assert endpoints("invoke", GROUP, str(file("bad.png", b"bad"))) == 2
    assert "the model refuses it (400): no image" in endpoints.err
    assert endpoints("invoke", GROUP, str(file("worse.png", b"crash"))) == 1
    assert "failed (500)" in endpoints.err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["invoke", "none", "a.png"], "there is no endpoint 'none'"),
        (["invoke", "none", "a.txt"], "is no image or volume"),
        (["invoke", "none", "absent.png"], "can't be read"),
        (["invoke", "none", "a.png", "--out", "b.gif"], "--accept"),
        (["delete", "none"], "there is no endpoint 'none'"),
        (["deploy", "nothing"], "there is no model group 'nothing'"),
        (["deploy", f"{GROUP}/9"], f"there is no model '{GROUP}/9'"),
        (["deploy", GROUP, "--set", "deploy.kind=async"], "leave --preset and --set out"),
    ],
)
def test_wrong_requests_are_one_line(
    endpoints: World, file: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, arguments: list[str], message: str
) -> None:
    """Exit code 2, and the fix."""
    for name in ("a.png", "a.txt"):
        monkeypatch.chdir(file(name).parent)
    assert endpoints(*arguments) == 2
    assert message in endpoints.err
    assert endpoints.err.count("\n") == 1


@pytest.mark.slow
def test_answers_are_written_as_their_name_says(endpoints: World, file: Callable[..., Path], tmp_path: Path) -> None:
    """A .gz is compressed for any content type of the response, and the name decides the requested type."""
    assert endpoints("deploy", GROUP) == 0
    out = tmp_path / "map.nii.gz"
    assert endpoints("invoke", GROUP, str(file("a.nii")), "--out", str(out)) == 0
    assert json.loads(gzip.decompress(out.read_bytes()))["accept"] == "application/x-nifti"
    assert str(out) in endpoints.out
