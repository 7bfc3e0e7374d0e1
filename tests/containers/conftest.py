"""Servers for the containers' programs, and images that are built once for all tests."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.containers.built import Images, configure, engine_or_reason
from tests.programs import Programs


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
