"""The commit that a definition names."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from medloop.cloud.commit import DIRTY, UNKNOWN, checkout_commit


def git(root: Path, *arguments: str) -> str:
    """Run git as someone."""
    who = ["-c", "user.name=a", "-c", "user.email=a@b", "-c", "commit.gpgsign=false"]
    return subprocess.run(
        ["git", "-C", root, *who, *arguments], check=True, capture_output=True, text=True
    ).stdout.strip()


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A checkout with one commit, its name with a space."""
    root = tmp_path / "a checkout"
    root.mkdir()
    git(root, "init", "-q")
    (root / "file").write_text("1")
    git(root, "add", "file")
    git(root, "commit", "-qm", "first")
    return root


def test_commit_is_the_full_hash(checkout: Path) -> None:
    """A clean checkout's commit, twice the same."""
    assert checkout_commit(checkout) == git(checkout, "rev-parse", "HEAD") == checkout_commit(checkout)


@pytest.mark.parametrize("name", ["file", "new"])
def test_changes_and_new_files_are_marked(checkout: Path, name: str) -> None:
    """A changed file or one that git doesn't know: the commit doesn't tell all."""
    (checkout / name).write_text("2")
    assert checkout_commit(checkout) == git(checkout, "rev-parse", "HEAD") + DIRTY


def test_outside_a_checkout_there_is_none(checkout: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No repository, a folder within another project's, a repository without a commit, or no git at all."""
    within = checkout / "site-packages"
    within.mkdir()
    empty = tmp_path / "empty"
    empty.mkdir()
    assert checkout_commit(tmp_path) == UNKNOWN
    assert checkout_commit(within) == UNKNOWN
    git(empty, "init", "-q")
    assert checkout_commit(empty) == UNKNOWN
    monkeypatch.setenv("PATH", str(empty))
    assert checkout_commit(checkout) == UNKNOWN
