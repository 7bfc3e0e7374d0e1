"""A copy of the checkout for each test, and servers for its containers' programs."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.extending.checkout import Checkout
from tests.programs import Programs


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    """The project's code in a folder of the test's own."""
    return Checkout.copy_to(tmp_path)


@pytest.fixture(scope="session")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Programs:
    """Starts programs warm."""
    return Programs.sharing(tmp_path_factory)
