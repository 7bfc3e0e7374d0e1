"""The local backend's own fixture."""

from __future__ import annotations

from tests.unit.local.conftest import local as local
