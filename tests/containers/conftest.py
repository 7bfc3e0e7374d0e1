"""Servers for the containers' programs."""

from __future__ import annotations

import pytest

from tests.programs import Programs


@pytest.fixture(scope="session")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Programs:
    """Starts programs warm."""
    return Programs.sharing(tmp_path_factory)
