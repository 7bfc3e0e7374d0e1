"""A copy of the checkout for each test."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.extending.checkout import Checkout


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    """The project's code in a folder of the test's own."""
    return Checkout.copy_to(tmp_path)
