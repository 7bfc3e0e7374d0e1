"""Fixtures of the local backend."""

from __future__ import annotations

from tests.unit.local.conftest import local as local
