"""What the whole suite shares: definitions built once, models of AWS parsed once, job servers, the order of the tests.

A cache of definitions for the whole run: the user's own is neither read nor written.
"""

from __future__ import annotations

import functools
import gc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from botocore import hooks
from botocore.client import ClientCreator
from botocore.loaders import JSONFileLoader

from medloop.cloud.definition_cache import CACHE_VARIABLE
from tests.shared import end_warm_servers, shared_folder

LONGEST = ("endtoend", "extending", "containers", "benchmarks", "browser", "soak")
"""Folders whose tests take longest: they begin, so that none of them is left for one worker at the end."""


@pytest.fixture(scope="session", autouse=True)
def _cache_of_definitions(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """One folder for all workers: a definition is built once."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(CACHE_VARIABLE, str(shared_folder(tmp_path_factory) / "medloop-cache"))
        yield


@pytest.fixture(scope="session", autouse=True)
def _sessions_share_what_they_derive_from_service_models() -> Iterator[None]:
    """Each new session of botocore parses megabytes of JSON again, and makes methods and names of events from them.

    Otherwise the JSON takes 0.6 s of CPU time in each build of a definition, and the rest half of each local session.
    """
    load = functools.cache(functools.partial(JSONFileLoader.load_file, JSONFileLoader()))
    create, rename = ClientCreator._create_methods, hooks.EventAliaser._alias_event_name
    methods: dict[tuple[str, str], dict[str, Any]] = {}
    events: dict[str, str] = {}

    def create_methods(creator: ClientCreator, model: Any) -> dict[str, Any]:
        key = (model.service_name, model.api_version)
        if key not in methods:
            methods[key] = create(creator, model)
        return dict(methods[key])

    def alias_event_name(aliaser: hooks.EventAliaser, name: str) -> str:
        if name not in events:
            events[name] = rename(aliaser, name)
        return events[name]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(JSONFileLoader, "load_file", lambda _, path: load(path))
        patch.setattr(hooks, "accepts_kwargs", functools.lru_cache(1000)(hooks.accepts_kwargs))
        patch.setattr(ClientCreator, "_create_methods", create_methods)
        patch.setattr(hooks.EventAliaser, "_alias_event_name", alias_event_name)
        yield


def pytest_configure() -> None:
    """Collect no garbage while modules are imported: nearly all that they make stays."""
    gc.disable()


def pytest_collection_finish() -> None:
    """Leave what was imported out of each later collection, which took a fifth of the suite's CPU time."""
    gc.freeze()
    gc.set_threshold(20_000)
    gc.enable()


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the longest folders first; within a folder the order stays, because a file's tests share its fixtures."""
    tests = Path(__file__).parent
    ranks = {tests / name: rank for rank, name in enumerate(LONGEST)}
    items.sort(key=lambda item: min((ranks[p] for p in item.path.parents if p in ranks), default=len(LONGEST)))


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """End the servers that jobs were forked from, once all workers have ended."""
    if not hasattr(session.config, "workerinput"):
        end_warm_servers(session.config._tmp_path_factory.getbasetemp())  # type: ignore[attr-defined]
