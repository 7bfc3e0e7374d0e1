"""One deployed account for all tests of a process: each leaves it as it was."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.aws_smoke.mocked import Mocked
from tests.infra.conftest import assembly  # noqa: F401 - a fixture
from tests.infra.flows import World, world


@pytest.fixture(scope="module")
def deployed(assembly: Path) -> Iterator[World]:  # noqa: F811
    """The deployed stack."""
    with world(assembly) as made:
        yield made


@pytest.fixture
def aws(deployed: World) -> Iterator[Mocked]:
    """The account, whose requests are all within the services' limits, and in which nothing is left."""
    mocked = Mocked(deployed)
    before = mocked.contents()
    yield mocked
    assert mocked.problems == []
    mocked.faults.clear()
    assert mocked.contents() == before
