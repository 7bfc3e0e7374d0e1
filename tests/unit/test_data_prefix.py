"""Prefixes of data that a version's metadata can hold."""

from __future__ import annotations

import pytest

from medloop.errors import DataError
from medloop.input_data import recordable


@pytest.mark.parametrize("uri", ["s3://data/scans/", "s3://data/dt=2026-11-24/+x@y/ä b/", "s3://" + "a" * 250 + "/"])
def test_taken(uri: str) -> None:
    """Letters of any script, spaces, and the signs of partitioned prefixes."""
    assert recordable(uri) == uri


@pytest.mark.parametrize("uri", ["s3://data/scans (new)/", 's3://data/"x"/', "s3://data/a,b/", "s3://data/a\\b/"])
def test_signs_that_create_model_package_refuses(uri: str) -> None:
    """Known before any job has run."""
    with pytest.raises(DataError, match="can't record"):
        recordable(uri)


def test_too_long() -> None:
    """One character too many."""
    with pytest.raises(DataError, match="257 characters"):
        recordable("s3://" + "a" * 251 + "/")
