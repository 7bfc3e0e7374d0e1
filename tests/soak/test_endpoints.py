"""Endpoints under load, during updates, and with killed processes."""

from __future__ import annotations

import json
import random
import threading
import time
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest

from tests.unit.local.conftest import Local, wait_until
from tests.unit.local.hosting import Hosting

pytestmark = pytest.mark.soak


@pytest.fixture
def hosting(local: Local) -> Iterator[Hosting]:
    """An endpoint `live` and two configurations for it; its processes are stopped after the test."""
    made = Hosting.on(local)
    made.endpoint("one")
    made.config(made.model("two"))
    yield made
    made.close()


def update(hosting: Hosting, number: int) -> None:
    """Update the endpoint to the other model."""
    hosting.local.sagemaker.update_endpoint(EndpointName="live", EndpointConfigName=("two", "one")[number % 2])


def test_sixteen_clients_get_responses_during_updates(hosting: Hosting) -> None:
    """One request in five is invalid: each valid one gets a response, each invalid one is refused by the container."""
    seen: Counter[str] = Counter()

    def send(client: int) -> None:
        for number in range(100):
            try:
                hosting.invoke(b"bad" if (client + number) % 5 == 0 else b"good")
                seen["answered"] += 1
            except hosting.runtime.exceptions.ModelError as error:
                seen[f"refused {error.response['OriginalStatusCode']}"] += 1

    clients = [threading.Thread(target=send, args=(client,)) for client in range(16)]
    for client in clients:
        client.start()
    updates = 0
    while any(client.is_alive() for client in clients):
        update(hosting, updates)
        hosting.settle()
        updates += 1
    for client in clients:
        client.join()
    print(f"{dict(seen)} in {updates} updates")
    assert seen == {"answered": 1280, "refused 400": 320}
    assert updates >= 2


def test_killed_at_any_instant_the_endpoint_comes_back(hosting: Hosting) -> None:
    """After each of thirty kills of supervisors and containers, idle and during updates, one of the models responds."""
    instants = random.Random(7)  # noqa: S311 (instants, no secrets)
    for number in range(30):
        if hosting.describe()["EndpointStatus"] == "InService" and number % 2:
            update(hosting, instants.randrange(2))
        time.sleep(instants.random() * 0.8)
        victims: list[Any] = [hosting.supervisors, hosting.containers]
        for victim in victims[: 1 + number % 3] if number % 3 < 2 else victims[1:]:
            for process in victim():
                process.kill()
        assert json.loads(answered(hosting))["word"] in ("one", "two")
    assert hosting.settle()["EndpointStatus"] == "InService"
    wait_until(lambda: len(hosting.containers()) == len(hosting.supervisors()) == 1)


def answered(hosting: Hosting) -> bytes:
    """The response to a request; one that was in flight when its container was killed is sent again."""
    for _ in range(3):
        try:
            return hosting.invoke(b"")
        except hosting.runtime.exceptions.ModelError:
            time.sleep(0.2)
    return hosting.invoke(b"")
