"""The serve container's main.py as a process, with real models, untrained."""

from __future__ import annotations

import pickle
import shutil
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import httpx
import numpy as np
import pytest

from medloop.imaging.classify_predictor import ImagePredictor
from medloop.imaging.segment_predictor import VolumePredictor
from tests.containers.endpoints import Server, Shot, hammer, serving, spawn, warm, write_untrained
from tests.programs import Programs
from tests.unit.serving.worlds import nifti, npy, png, read_map

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def classifier(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A classifier's folder."""
    return write_untrained(tmp_path_factory.mktemp("classifier"), "classification")


@pytest.fixture(scope="module")
def images(programs: Programs, classifier: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Its endpoint."""
    with serving(warm(programs), classifier, tmp_path_factory.mktemp("images") / "log") as server:
        yield server


def bad_images() -> list[Shot]:
    """Requests that must be refused."""
    content = png()
    return [
        Shot(b"", None),
        Shot(b"no image at all", None),
        Shot(content[:-40], None),
        Shot(content, None, (("content-type", "image/jpeg"),)),
        Shot(content, None, (("accept", "text/csv"),)),
        Shot(npy(np.full((4, 4), np.nan)), None),
        Shot(nifti(), None),
    ]


def mixed(good: list[Shot], bad: list[Shot]) -> list[Shot]:
    """One bad request in five."""
    return [bad[index // 5 % len(bad)] if index % 5 == 4 else good[index % len(good)] for index in range(5 * len(bad))]


def good_images(model: Path, server: Server, folder: Path) -> list[Shot]:
    """Images with the answers that evaluation's own predictor gives for the same files."""
    predictor = ImagePredictor.load(model)
    shots = []
    for seed in range(8):
        pixels = np.random.default_rng(seed).integers(0, 256, (30 + seed, 40), dtype=np.uint8)
        path = folder / f"{seed}.png"
        path.write_bytes(png(pixels))
        response = httpx.post(f"{server.url}/invocations", content=path.read_bytes())
        actual = list(response.json()["probabilities"].values())
        np.testing.assert_allclose(actual, predictor.probabilities([path])[0], atol=1e-6)
        shots.append(Shot(path.read_bytes(), response.content))
    return shots


def test_sixteen_clients(classifier: Path, images: Server, tmp_path: Path) -> None:
    """Every good request is answered, and rightly; every bad one gets a 4xx; /ping answers all the while."""
    shots = mixed(good_images(classifier, images, tmp_path), bad_images())
    wrong, _ = hammer(images, shots, clients=16, rounds=10)
    assert wrong == []


def test_volumes(programs: Programs, tmp_path: Path) -> None:
    """A label map equals evaluation's own, on the volume's grid; the process ends gracefully."""
    model = write_untrained(tmp_path / "model", "segmentation")
    path = tmp_path / "scan.nii.gz"
    path.write_bytes(nifti())
    expected = VolumePredictor.load(model).segment(path)
    with serving(warm(programs), model, tmp_path / "log") as server:
        response = httpx.post(f"{server.url}/invocations", content=path.read_bytes(), timeout=60)
        actual = read_map(response.content)
        np.testing.assert_array_equal(actual.dataobj, expected.labels)
        np.testing.assert_array_equal(actual.affine, expected.affine)
        bad = httpx.post(f"{server.url}/invocations", content=path.read_bytes()[:-9], timeout=60)
        assert bad.status_code == 400
    assert server.process.returncode == 0


def test_hostings_way(classifier: Path, tmp_path: Path) -> None:
    """Only `serve` is said: files under ML_ROOT/model, of which no other is opened, and the port by variable.

    SIGTERM lets what is at work be answered, and ends the process with exit code 0.
    """
    shutil.copytree(classifier, tmp_path / "ml" / "model")
    (tmp_path / "ml" / "model" / "model.pkl").write_bytes(pickle.dumps(_Alarm(str(tmp_path / "alarm"))))
    with socket.create_server(("127.0.0.1", 0)) as free:
        url = f"http://127.0.0.1:{free.getsockname()[1]}"
    variables = {"ML_ROOT": str(tmp_path / "ml"), "SAGEMAKER_BIND_TO_PORT": url.rpartition(":")[2]}
    process = spawn(tmp_path / "log", "serve", **variables)
    try:
        assert await_pings(process, url) == {503, 200}
        assert not (tmp_path / "alarm").exists()
        responses: list[httpx.Response] = []
        body = npy(np.random.default_rng(0).random((4000, 4000)))
        sender = threading.Thread(
            target=lambda: responses.append(httpx.post(f"{url}/invocations", content=body, timeout=60))
        )
        sender.start()
        time.sleep(0.3)
        process.send_signal(signal.SIGTERM)
        sender.join()
        assert [response.status_code for response in responses] == [200]
    finally:
        process.terminate()
        assert process.wait(30) == 0


def await_pings(process: subprocess.Popen[bytes], url: str) -> set[int]:
    """Ask until the endpoint is ready; the status codes that it gave."""
    seen: set[int] = set()
    while 200 not in seen:
        assert process.poll() is None
        with suppress(httpx.TransportError):
            seen.add(httpx.get(f"{url}/ping").status_code)
        time.sleep(0.02)
    return seen


class _Alarm:
    """Unpickled, it leaves a trace."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable[..., object], tuple[str, str]]:
        return open, (self.path, "w")


def test_a_model_that_cannot_be_loaded(programs: Programs, classifier: Path, tmp_path: Path) -> None:
    """One line that names the file, and exit code 2."""
    shutil.copytree(classifier, tmp_path / "model")
    weights = tmp_path / "model" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    process = warm(programs)(tmp_path / "log", "serve", "--model-dir", str(tmp_path / "model"), "--port", "0")
    assert process.wait(120) == 2
    first, second = (tmp_path / "log").read_text().splitlines()
    assert first.startswith("listening on 127.0.0.1:")
    assert second.startswith("error: model.safetensors: can't be read")


def test_a_port_that_is_taken(programs: Programs, images: Server, classifier: Path, tmp_path: Path) -> None:
    """One line with the fix, and exit code 2."""
    port = images.url.rpartition(":")[2]
    process = warm(programs)(tmp_path / "log", "serve", "--model-dir", str(classifier), "--port", port)
    assert process.wait(60) == 2
    assert f"port {port} of 127.0.0.1: Address already in use" in (tmp_path / "log").read_text()
