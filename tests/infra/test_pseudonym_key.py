"""The command that the build runs before it pushes images: the key of pseudonyms is made once, and never shown."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from botocore.exceptions import ClientError, NoCredentialsError

from infra.images.pseudonym_key import main
from medloop.cloud.layout import PSEUDONYM_KEY
from medloop.errors import TargetError


class Store:
    """S3, for a caller with some of the rights to read, make and list objects."""

    def __init__(self, rights: str, *, is_there: bool = False) -> None:
        """With the key in it, or empty."""
        self.rights, self.objects = rights.split(), {PSEUDONYM_KEY: b"the key"} if is_there else {}

    def client(self, _: str) -> Store:
        """The client of S3."""
        return self

    def _require(self, right: str, code: str) -> None:
        if right not in self.rights:
            raise ClientError({"Error": {"Code": code, "Message": "no"}}, right)

    def head_object(self, **request: Any) -> None:
        """HeadObject."""
        self._require("read", "403")
        if request["Key"] not in self.objects:
            raise ClientError({"Error": {"Code": "404", "Message": "Not Found"}}, "HeadObject")

    def put_object(self, **request: Any) -> None:
        """PutObject, with the condition that the object isn't there."""
        self._require("make", "AccessDenied")
        assert request["IfNoneMatch"] == "*"
        if request["Key"] in self.objects:
            raise ClientError({"Error": {"Code": "PreconditionFailed", "Message": "there"}}, "PutObject")
        self.objects[request["Key"]] = request["Body"]

    def list_objects_v2(self, **request: Any) -> dict[str, int]:
        """ListObjectsV2."""
        self._require("list", "AccessDenied")
        return {"KeyCount": sum(key.startswith(request["Prefix"]) for key in self.objects)}


def run(store: Store) -> int:
    """The command on an account with this S3."""
    target: Any = SimpleNamespace(name="aws", bucket="artefacts", boto=store)
    return main(lambda _: target)


@pytest.mark.parametrize("rights", ["make list", "read make list"])
def test_the_key_is_made_once(rights: str, capsys: pytest.CaptureFixture[str]) -> None:
    """32 random bytes; a second build leaves them, and neither prints them."""
    store, other = Store(rights), Store(rights)
    assert (run(store), run(other)) == (0, 0)
    key = store.objects[PSEUDONYM_KEY]
    assert (len(key), key == other.objects[PSEUDONYM_KEY]) == (32, False)
    assert run(store) == 0
    assert store.objects == {PSEUDONYM_KEY: key}
    assert capsys.readouterr().out.splitlines() == [f"{PSEUDONYM_KEY}: made"] * 2 + [f"{PSEUDONYM_KEY}: is there"]


@pytest.mark.parametrize("rights", ["list", "read list", "make"])
def test_a_key_that_is_there_is_enough(rights: str) -> None:
    """For roles that may not make it, and for those that may not list."""
    store = Store(rights, is_there=True)
    assert run(store) == 0
    assert store.objects == {PSEUDONYM_KEY: b"the key"}


@pytest.mark.parametrize(
    ("rights", "is_there", "line"),
    [
        (
            "list",
            False,
            "target aws: keys/pseudonyms.key isn't there, and this role may not make it; `make images` does",
        ),
        ("read list", False, "isn't there, and this role may not make it"),
        ("", True, "AccessDenied"),
        ("", False, "AccessDenied"),
    ],
)
def test_a_key_that_is_missing_or_unknown_is_an_error(
    rights: str, is_there: bool, line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """The build ends before it pushes images, with one line that names the key."""
    assert run(Store(rights, is_there=is_there)) == 1
    printed = capsys.readouterr()
    assert (printed.out, printed.err.count("\n")) == ("", 1)
    assert printed.err.startswith(f"error: {PSEUDONYM_KEY}: ")
    assert line in printed.err


@pytest.mark.parametrize("error", [TargetError("target aws: no region"), NoCredentialsError()])
def test_an_account_that_cannot_be_opened_is_an_error(error: Exception, capsys: pytest.CaptureFixture[str]) -> None:
    """In one line."""

    def refuse(_: str) -> Any:
        raise error

    assert main(refuse) == 1
    assert capsys.readouterr().err == f"error: {PSEUDONYM_KEY}: {error}\n"


def test_the_account_is_that_of_the_environment(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As the build's variables name it."""
    for variable in ("AWS_DEFAULT_REGION", "AWS_REGION", "AWS_PROFILE"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("AWS_CONFIG_FILE", "/nonexistent")
    assert main() == 1
    assert capsys.readouterr().err == f"error: {PSEUDONYM_KEY}: target aws: no region; set AWS_DEFAULT_REGION\n"
