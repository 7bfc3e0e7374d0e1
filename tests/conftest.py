"""A cache of definitions for the whole run of the suite: the user's own is neither read nor written."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from medloop.cloud.definition_cache import CACHE_VARIABLE


@pytest.fixture(scope="session", autouse=True)
def _cache_of_definitions(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """One folder for all workers: a definition is built once."""
    base = tmp_path_factory.getbasetemp()
    shared = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(CACHE_VARIABLE, str(shared / "medloop-cache"))
        yield
