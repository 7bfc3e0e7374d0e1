"""The serve container's main.py as a process, real models for it, and many clients at once."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import psutil
import torch

from medloop.documents.hyperparameters import ClassificationHyperparameters, SegmentationHyperparameters
from medloop.documents.model import Best, ImagePreprocessing, Inference, ModelRecord, TrainedOn
from medloop.documents.split import Task
from medloop.imaging import networks
from medloop.training.weights import write_model
from tests.programs import ROOT, Program, Programs
from tests.unit.imaging.test_segment_predictor import PREPROCESSING

MAIN = "containers/serve/main.py"
LISTENING = re.compile(r"listening on ([\d.]+):(\d+)")
RULES = {
    "classification": ImagePreprocessing(image_size=32, channels=1, mean=0.4, std=0.2),
    "segmentation": PREPROCESSING,
}


def write_untrained(folder: Path, task: Task) -> Path:
    """A small network with the random weights of a seed, as training writes it."""
    torch.manual_seed(0)
    names = ["dark", "bright"] if task == "classification" else ["background", "ball"]
    settings = (
        ClassificationHyperparameters(model_name="resnet18", image_size=32, channels=1)
        if task == "classification"
        else SegmentationHyperparameters(model_name="segresnet", init_filters=8)
    )
    network = networks.describe(settings, len(names))
    record = ModelRecord(
        task=task, network=network, classes=names, preprocessing=RULES[task],
        inference=Inference(patch_size=(16, 16, 16)) if task == "segmentation" else None,
        patients=TrainedOn(train=[], val=[]), best=Best(epoch=1, metric="val", value=0.5),
        hyperparameters={}, data_digest="data", code_digest="code", versions={},
    )  # fmt: skip
    folder.mkdir(parents=True, exist_ok=True)
    write_model(folder, networks.build(network), record, [])
    return folder


Running = Program | subprocess.Popen[bytes]
Start = Callable[..., Running]
"""Starts the container's program; takes the log and the arguments."""


@dataclass(frozen=True)
class Server:
    """A running endpoint."""

    process: Running
    url: str
    log: Path


def spawn(log: Path, *arguments: str, **environment: str) -> subprocess.Popen[bytes]:
    """Start the container's program cold; its output goes to `log`."""
    with log.open("wb") as file:
        return subprocess.Popen(
            [sys.executable, str(ROOT / MAIN), *arguments], stdout=file, stderr=subprocess.STDOUT,
            env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
        )  # fmt: skip


def warm(programs: Programs) -> Start:
    """A function that starts the container's program warm."""
    return lambda log, *arguments: programs.start(log, MAIN, *arguments)


@contextmanager
def serving(start: Start, model: Path, log: Path, *arguments: str, seconds: float = 120) -> Iterator[Server]:
    """An endpoint that is ready, on a free port; it is ended afterwards."""
    process = start(log, "serve", "--model-dir", str(model), "--port", "0", *arguments)
    try:
        yield Server(process, _await_ready(process, log, time.monotonic() + seconds), log)
    finally:
        process.terminate()
        process.wait(30)


def _await_ready(process: Running, log: Path, deadline: float) -> str:
    while time.monotonic() < deadline:
        assert process.poll() is None, log.read_text()
        matches = LISTENING.search(log.read_text() if log.exists() else "")
        if matches:
            url = f"http://{matches[1]}:{matches[2]}"
            if httpx.get(f"{url}/ping", timeout=30).status_code == 200:
                return url
        time.sleep(0.1)
    raise AssertionError(f"not ready: {log.read_text()}")


@dataclass(frozen=True)
class Shot:
    """A request, and what must come back: a body, or None for any 4xx with a reason."""

    body: bytes
    expected: bytes | None
    headers: tuple[tuple[str, str], ...] = ()


PING_SECONDS = 2
"""What SageMaker waits for a response to /ping."""
SLOW_SHARE = 0.05
"""The share of the time that slow responses to /ping may take: other processes of a busy machine delay one or two."""


def hammer(server: Server, shots: Sequence[Shot], *, clients: int, rounds: int) -> tuple[list[str], float]:
    """Send from many clients at once, each its own turn of the shots, over and over.

    Returns:
        What went wrong, and the largest memory of the endpoint's process in MiB.
    """
    wrong: list[str] = []
    peak = [0.0]
    done = threading.Event()

    def fire(start: int) -> None:
        with httpx.Client(base_url=server.url, timeout=300) as client:
            for turn in range(rounds):
                shot = shots[(start + turn) % len(shots)]
                try:
                    response = client.post("/invocations", content=shot.body, headers=dict(shot.headers))
                except httpx.HTTPError as error:
                    wrong.append(f"{type(error).__name__}: {error}")
                    continue
                wrong.extend(_faults(shot, response))

    def watch() -> None:
        process = psutil.Process(server.process.pid)
        begin, slow = time.monotonic(), 0.0
        with httpx.Client(base_url=server.url, timeout=30) as client:
            while not done.wait(0.05):
                peak[0] = max(peak[0], process.memory_info().rss / 2**20)
                ping = time.monotonic()
                if client.get("/ping").status_code != 200:
                    wrong.append("ping: not 200")
                seconds = time.monotonic() - ping
                slow += seconds if seconds > PING_SECONDS else 0
        if slow > SLOW_SHARE * (time.monotonic() - begin):
            wrong.append(f"ping: {slow:.0f} s in responses that took more than {PING_SECONDS} s")

    watcher = threading.Thread(target=watch)
    watcher.start()
    threads = [threading.Thread(target=fire, args=(7 * number,)) for number in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    done.set()
    watcher.join()
    return wrong, peak[0]


def _faults(shot: Shot, response: httpx.Response) -> list[str]:
    if shot.expected is None:
        sound = 400 <= response.status_code < 500 and response.json()["error"]
    else:
        sound = response.status_code == 200 and response.content == shot.expected
    return [] if sound else [f"status {response.status_code}: {response.content[:200]!r}"]
