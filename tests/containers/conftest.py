"""Servers for the containers' programs, and images that are built once for all tests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from medloop.local.session import local_session
from tests.containers.built import Images, configure, engine_or_reason
from tests.programs import Programs
from tests.unit.local.conftest import Local


@pytest.fixture(scope="session")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Programs:
    """Starts programs warm."""
    return Programs.sharing(tmp_path_factory)


@pytest.fixture(scope="session")
def images(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Images]:
    """An engine that works here, with a configuration of its own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CONTAINERS_CONF", str(configure(tmp_path_factory.mktemp("engine"))))
        engine = engine_or_reason()
        if isinstance(engine, str):
            pytest.skip(engine)
        yield Images(engine, tmp_path_factory.mktemp("images"))


@pytest.fixture(scope="session")
def split_image(images: Images) -> str:
    """The image of Split."""
    return images.build("split")


@pytest.fixture
def local(images: Images, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Local:
    """A local backend that runs jobs and endpoints in containers."""
    monkeypatch.setenv("MEDLOOP_RUNTIME", images.engine.name)
    boto = local_session(tmp_path / "my home")
    return Local(tmp_path / "my home", boto, boto.client("sagemaker"), boto.client("s3"))
