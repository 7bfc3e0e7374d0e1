"""Endpoints of both tasks under sustained load from many clients."""

from __future__ import annotations

import gzip
from pathlib import Path

import httpx
import numpy as np
import psutil
import pytest

from medloop.documents.split import Task
from tests.containers.endpoints import Server, Shot, hammer, serving, spawn, write_untrained
from tests.containers.test_serve import bad_images, good_images, mixed
from tests.unit.serving.worlds import ball, nifti, npy, png

pytestmark = pytest.mark.soak

CLIENTS = 16
ROUNDS = {"classification": 150, "segmentation": 40}
MORE_MEMORY = 300
"""MiB that an endpoint may use in addition to its idle memory: bodies in the queue and one decoded file."""


def good_volumes(server: Server) -> list[Shot]:
    """Volumes with the responses of an idle endpoint."""
    shots = []
    for radius in range(3, 9):
        body = nifti(ball((40, 36, 24), radius))
        response = httpx.post(f"{server.url}/invocations", content=body, timeout=60)
        assert response.status_code == 200
        shots.append(Shot(body, response.content))
    return shots


def bad_volumes() -> list[Shot]:
    """Requests that must be refused."""
    content = nifti()
    return [
        Shot(b"", None),
        Shot(content[:-20], None),
        Shot(png(), None),
        Shot(npy(ball()), None),
        Shot(gzip.compress(nifti(compressed=False) + bytes(10**8)), None),
        Shot(nifti(np.full((4, 4, 4), np.nan, np.float32)), None),
        Shot(content, None, (("accept", "image/png"),)),
    ]


@pytest.mark.parametrize("task", ["classification", "segmentation"])
def test_sixteen_clients_under_sustained_load(task: Task, tmp_path: Path) -> None:
    """One request in five is invalid and gets a 4xx; every valid one gets the right response; memory stays bounded."""
    model = write_untrained(tmp_path / "model", task)
    with serving(spawn, model, tmp_path / "log") as server:
        if task == "classification":
            shots = mixed(good_images(model, server, tmp_path), bad_images())
        else:
            shots = mixed(good_volumes(server), bad_volumes())
        before = psutil.Process(server.process.pid).memory_info().rss / 2**20
        wrong, peak = hammer(server, shots, clients=CLIENTS, rounds=ROUNDS[task])
        print(f"{task}: {CLIENTS * ROUNDS[task]} requests, {len(wrong)} wrong, {before:.0f} -> {peak:.0f} MiB")
        assert wrong == []
        assert peak < before + MORE_MEMORY
    assert server.process.returncode == 0
