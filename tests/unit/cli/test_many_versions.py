"""`medloop models` on a group whose list takes more than one page, on the local backend and on moto."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest

from medloop.local.session import local_session
from medloop.local.state.home import BUCKET
from tests.unit.cli.conftest import Desk
from tests.unit.cli.versions import answer_executions, keep_cards, register

PAGES = {"local": 10, "aws": 100}
"""Versions on a page, where the request names no number: the service's ten; moto gives a hundred."""


class Counted:
    """A client that counts the pages of versions that were read."""

    def __init__(self, session: Any) -> None:
        """Wrap a session's client."""
        self.pages = 0
        self._sagemaker = session.client("sagemaker")
        self._sagemaker.meta.events.register_first("before-call.sagemaker.ListModelPackages", self._count)

    def __getattr__(self, name: str) -> Any:
        """Every other operation."""
        return getattr(self._sagemaker, name)

    def _count(self, **_: Any) -> None:
        self.pages += 1


class CountedSession:
    """A session that gives one counted client of SageMaker."""

    def __init__(self, session: Any) -> None:
        """Wrap a session."""
        self._session, self.sagemaker = session, Counted(session)

    def client(self, service: str) -> Any:
        """A client."""
        return self.sagemaker if service == "sagemaker" else self._session.client(service)


@pytest.fixture(params=["local", "aws"])
def crowded(
    request: pytest.FixtureRequest,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[tuple[Desk, int]]:
    """A desk, and the number of the newest version: Approved, and on the second page; between it and 1 all wait."""
    monkeypatch.setenv("MEDLOOP_HOME", str(tmp_path / "home"))
    newest = PAGES[request.param] + 1
    if request.param == "local":
        yield _filled(Desk(*_opened(local_session(tmp_path / "home")), capsys), newest), newest
        return
    from moto import mock_aws

    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "testing")
    with mock_aws():
        session = boto3.Session(region_name="us-east-1")
        keep_cards(session)
        yield _filled(Desk(*_opened(session), capsys, "aws"), newest), newest


def _opened(session: Any) -> tuple[CountedSession, Counted]:
    answer_executions(session)
    session.client("s3").create_bucket(Bucket=BUCKET)
    counted = CountedSession(session)
    return counted, counted.sagemaker


def _filled(desk: Desk, newest: int) -> Desk:
    register(desk.boto, newest - 1)
    register(desk.boto, ModelApprovalStatus="Approved")
    desk.sagemaker.pages = 0
    return desk


@pytest.mark.slow
def test_list_shows_the_versions_of_every_page(crowded: tuple[Desk, int]) -> None:
    """Newest first, so the Approved one stands at the top, from any page."""
    desk, newest = crowded
    assert desk("models", "list", "g", "--json") == 0
    assert desk.sagemaker.pages == 2
    rows = json.loads(desk.out)
    assert [row["model"] for row in rows] == [f"g/{number}" for number in range(newest, 0, -1)]
    assert [row["model"] for row in rows if row["approval"] == "Approved"] == [f"g/{newest}"]


@pytest.mark.slow
def test_compare_finds_versions_of_either_page(crowded: tuple[Desk, int]) -> None:
    """By number, and the newest by the group's name alone."""
    desk, newest = crowded
    assert desk("models", "compare", "g/1", "g", "--json") == 0
    document = json.loads(desk.out)
    assert document["models"] == ["g/1", f"g/{newest}"]
    (approval,) = [row for row in document["facts"] if row["name"] == "approval"]
    assert (approval["a"], approval["b"]) == ("PendingManualApproval", "Approved")


@pytest.mark.slow
def test_the_champion_is_found_on_every_page(crowded: tuple[Desk, int]) -> None:
    """An old version was compared with none, and the champion is on the other page."""
    desk, newest = crowded
    assert desk("models", "approve", "g/1", "--reason", "back to the first") == 2
    assert f"g/1 was compared with no version, and the newest Approved version is g/{newest}" in desk.err
