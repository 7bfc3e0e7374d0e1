"""Both pipelines, built once: importing the SDK takes seconds."""

from __future__ import annotations

import threading
from dataclasses import dataclass

import pytest

from medloop.cloud.target import Target
from medloop.definition.read import Definition, read_definition
from medloop.settings import resolve
from tests.pipelines.world import unreachable_target


@dataclass(frozen=True)
class Built:
    """A pipeline's definition, and the calls to AWS that the build took."""

    name: str
    text: str
    calls: tuple[str, ...]

    @property
    def definition(self) -> Definition:
        """The definition as read."""
        return read_definition(self.text)


@pytest.fixture(scope="session")
def target() -> Target:
    """A target that reaches nothing, for builds whose calls don't matter."""
    return unreachable_target([])


@pytest.fixture(scope="session", params=["classification", "segmentation"])
def built(request: pytest.FixtureRequest) -> Built:
    """One pipeline with its default settings."""
    calls: list[str] = []
    resolved = resolve(request.param)
    target = unreachable_target(calls)
    text = resolved.spec.build(resolved.settings, target).definition()
    for thread in threading.enumerate():
        if thread.name == "sagemaker-telemetry":
            thread.join(timeout=10)
    return Built(request.param, text, tuple(calls))
