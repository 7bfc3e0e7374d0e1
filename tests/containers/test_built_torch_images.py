"""The images that bring torch, run as SageMaker runs them: without network, on a read-only root.

All are `soak`: the first build takes minutes, and each container imports torch for itself. torch is mounted from this
environment, so what is compared with a lock are the packages beyond torch and what torch needs: those that AWS's base
brings.
"""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from medloop.documents.evaluation import Evaluation
from medloop.documents.split import Task
from medloop.imaging.classify_predictor import ImagePredictor
from medloop.local.jobs.container_runtime import OPTIONS_VARIABLE
from tests.containers import test_classify, test_segment
from tests.containers.built import Images, finish, store_bundle, torch_volumes
from tests.containers.endpoints import write_untrained
from tests.containers.test_evaluate import stage
from tests.containers.test_images import CONTAINERS, locked
from tests.unit.evaluation.worlds import ball, image_world, volume_world
from tests.unit.local.conftest import Local, wait_until
from tests.unit.local.hosting import Hosting, archive
from tests.unit.serving.worlds import nifti, png, read_map

pytestmark = pytest.mark.soak
TRAINING = ("classify", "segment")
WITH_TORCH = sorted(set(CONTAINERS) - {"split"})
CLASSIFICATION = {"model_name": '"resnet18"', "batch_size": "4", "image_size": "16"}
ENDLESS = {"epochs": "3000", "patience": "0"}
SHARED_MEMORY = "--shm-size=64m"
"""What an engine gives by default."""
CLIENT = """
import sys, urllib.error, urllib.request
request = urllib.request.Request("http://127.0.0.1:8080" + sys.argv[1], sys.stdin.buffer.read() or None)
try:
    response = urllib.request.urlopen(request)
except urllib.error.HTTPError as error:
    response = error
sys.stdout.buffer.write(b"%d " % response.status + response.read())
"""
"""Runs in the container: nothing else reaches it without a network."""


@pytest.fixture(scope="session")
def build(images: Images) -> Callable[[str], str]:
    """Builds a container's image; an engine builds what it has in no time."""
    return images.build


@pytest.fixture
def name() -> str:
    """A container's name."""
    return f"medloop-test-{os.getpid()}"


@pytest.mark.parametrize("container", WITH_TORCH)
def test_it_has_what_its_lock_has(images: Images, build: Callable[[str], str], container: str) -> None:
    """Nothing floats beyond what the base brings, and the bill of materials says the same."""
    assert images.freeze(build(container)) == locked(container)
    bom = json.loads((images.folder / f"medloop-{container}.cdx.json").read_text())
    names = {entry["name"].lower().replace("_", "-") for entry in bom["components"]}
    assert names >= set(locked(container))


def training_root(folder: Path, container: str, **hyperparameters: str) -> Path:
    """The folders that the service makes for a training job."""
    if container == "classify":
        test_classify.lay_out(folder, CLASSIFICATION | hyperparameters)
    else:
        test_segment.stage(folder, test_segment.HYPERPARAMETERS | hyperparameters)
    for name in ("model", "checkpoints", "output"):
        (folder / name).mkdir(exist_ok=True)
    return folder


@pytest.mark.parametrize("container", TRAINING)
class TestTraining:
    """The images of both tasks' training."""

    @pytest.mark.parametrize("value", ['"$(reboot)"', "1; import os", "[" * 2000, '{"__class__": "os.system"}'])
    def test_a_hostile_hyperparameter_is_one_line(
        self, images: Images, build: Callable[[str], str], tmp_path: Path, container: str, value: str
    ) -> None:
        """Refused by name, in the failure file."""
        ml = training_root(tmp_path, container, epochs=value)
        code, log = finish(images.run(build(container), "train", ml=ml))
        assert (code, "Traceback" in log) == (2, False), log
        reason = (ml / "output/failure").read_text()
        assert "epochs" in reason
        assert len(reason.splitlines()) == 1

    def test_missing_data_is_one_line(
        self, images: Images, build: Callable[[str], str], tmp_path: Path, container: str
    ) -> None:
        """A channel that isn't there: exit code 2, and its name in the failure file."""
        ml = training_root(tmp_path, container)
        shutil.rmtree(ml / "input/data/train")
        code, log = finish(images.run(build(container), "train", ml=ml))
        assert (code, "Traceback" in log) == (2, False), log
        assert "train" in (ml / "output/failure").read_text()

    def test_it_stops_with_a_checkpoint_and_resumes(
        self, images: Images, build: Callable[[str], str], tmp_path: Path, container: str, name: str
    ) -> None:
        """SIGTERM: exit code 143 and no failure; a new container takes up the checkpoint and finishes the model."""
        ml = training_root(tmp_path, container, **ENDLESS)
        first = images.run(build(container), "train", ml=ml, options=(f"--name={name}", SHARED_MEMORY))
        assert first.stdout is not None
        assert any("val_loss=" in line for line in first.stdout)
        images.stop(name)
        code, log = finish(first)
        assert (code, (ml / "output/failure").exists()) == (143, False), log
        wire = ml / "input/config/hyperparameters.json"
        wire.write_text(json.dumps(json.loads(wire.read_text()) | {"max_minutes": "0.05"}))
        code, log = finish(images.run(build(container), "train", ml=ml, options=(SHARED_MEMORY,)))
        assert code == 0, log
        assert "resumed" in log
        assert {path.stat().st_mode & 0o777 for path in (ml / "model").iterdir() if path.is_file()} == {0o644}


def evaluation_root(folder: Path, task: Task) -> Path:
    """The folders that the service makes for Evaluate: an untrained model in its archive, and a test set."""
    if task == "classification":
        pictures = {f"{name}/p{i}_{n}.png": () for i, name in enumerate(("cat", "dog")) for n in range(2)}
        world = image_world(folder / "world", pictures)
    else:
        truths = {f"p{i}": ball((20, 18, 12), 4 + i, (10, 9, 6)).astype(np.uint8) for i in range(2)}
        world = volume_world(folder / "world", truths, lambda truth, _: truth, spacing=(1.0, 1.5, 2.0))
    ml = folder / "ml"
    stage(world, ml, archive=True)
    (ml / "processing/input/test").unlink()
    shutil.copytree(world.test, ml / "processing/input/test")
    for name in ("output", "config", "processing/output/evaluation"):
        (ml / name).mkdir(parents=True)
    return ml


class TestEvaluate:
    """The image of Evaluate, a processing job."""

    @pytest.mark.parametrize("task", ["classification", "segmentation"])
    def test_it_scores(self, images: Images, build: Callable[[str], str], tmp_path: Path, task: Task) -> None:
        """Exit code 0; evaluation.json, the page and the exit message, with a read-only root."""
        ml = evaluation_root(tmp_path, task)
        code, log = finish(images.run(build("evaluate"), "--task", task, ml=ml))
        assert code == 0, log
        output = ml / "processing/output/evaluation"
        evaluation = Evaluation.read(output)
        assert (evaluation.data.num_patients, evaluation.gate.floor_left >= 0) == (2, True)
        assert (ml / "output/message").read_text().startswith(evaluation.score.name)
        assert "<html" in (output / "report.html").read_text()

    @pytest.mark.parametrize(
        ("arguments", "reason"),
        [
            (("--task", "classification", "--margin", "$(reboot)"), "margin"),
            (("--task", "classification", "--floor-1", "fox=0.5"), "fox"),
            (("--task", "segmentation"), "segmentation"),
        ],
    )
    def test_what_it_cannot_use_is_one_line(
        self, images: Images, build: Callable[[str], str], tmp_path: Path, arguments: tuple[str, ...], reason: str
    ) -> None:
        """A hostile argument, an unknown class, another task than the model's: exit code 2 and the exit message."""
        ml = evaluation_root(tmp_path, "classification")
        code, log = finish(images.run(build("evaluate"), *arguments, ml=ml))
        message = (ml / "output/message").read_text()
        assert (code, "Traceback" in log, len(message.splitlines())) == (2, False, 1), log
        assert reason in message

    def test_sigterm_ends_it(self, images: Images, build: Callable[[str], str], tmp_path: Path, name: str) -> None:
        """At once, while it imports torch: 143, and no output half written."""
        ml = evaluation_root(tmp_path, "classification")
        options = (f"--name={name}",)
        process = images.run(build("evaluate"), "--task", "classification", ml=ml, options=options)
        images.wait_until_running(name)
        images.stop(name)
        code, log = finish(process)
        assert code == 143, log
        assert list((ml / "processing/output/evaluation").iterdir()) == []


class TestServe:
    """The image of endpoints."""

    def test_an_image_is_classified(
        self, images: Images, build: Callable[[str], str], tmp_path: Path, name: str
    ) -> None:
        """/ping and /invocations respond, as evaluation's predictor does; what is no image is refused."""
        model = write_untrained(tmp_path / "ml/model", "classification")
        picture = tmp_path / "picture.png"
        picture.write_bytes(png())
        with serving(images, build("serve"), tmp_path / "ml", name) as request:
            assert request("/ping", b"")[0] == 200
            status, body = request("/invocations", picture.read_bytes())
            assert status == 200
            expected = ImagePredictor.load(model).probabilities([picture])[0]
            np.testing.assert_allclose(list(json.loads(body)["probabilities"].values()), expected, atol=1e-6)
            status, body = request("/invocations", b"no image at all")
            assert (400 <= status < 500, bool(json.loads(body)["error"])) == (True, True)

    def test_a_volume_is_segmented_without_root(
        self, images: Images, build: Callable[[str], str], tmp_path: Path, name: str
    ) -> None:
        """A label map on the volume's own grid; SageMaker wants root, another platform's user serves as well."""
        write_untrained(tmp_path / "ml/model", "segmentation")
        volume = nifti()
        with serving(images, build("serve"), tmp_path / "ml", name, "--user=65534:65534") as request:
            status, body = request("/invocations", volume)
            assert status == 200, body
            assert read_map(body).shape == read_map(volume).shape

    def test_a_damaged_model_ends_it(self, images: Images, build: Callable[[str], str], tmp_path: Path) -> None:
        """Exit code 2 and one line: hosting reports that the container didn't pass its health check."""
        model = write_untrained(tmp_path / "model", "classification")
        weights = model / "model.safetensors"
        weights.write_bytes(weights.read_bytes()[:100])
        code, log = finish(images.run(build("serve"), "serve", ml=tmp_path))
        assert (code, "Traceback" in log) == (2, False), log
        assert "model.safetensors" in log


def test_a_local_endpoint_responds_and_has_no_way_out(
    images: Images, build: Callable[[str], str], local: Local, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Through a relay of two sides: the container has no network, and is gone when the endpoint is deleted."""
    monkeypatch.setenv(OPTIONS_VARIABLE, shlex.join(f"--volume={volume}" for volume in torch_volumes("serve")))
    model = write_untrained(tmp_path / "model", "classification")
    files = {path.name: path.read_bytes() for path in model.iterdir()}
    hosting = Hosting(local, local.boto.client("sagemaker-runtime"), store_bundle(local, "serve", build("serve")))
    hosting.config(hosting.model("m", archive(files)))
    local.sagemaker.create_endpoint(EndpointName="live", EndpointConfigName="m")
    wait_until(lambda: hosting.describe()["EndpointStatus"] != "Creating", 180)
    assert len(json.loads(hosting.invoke(png(), ContentType="image/png"))["probabilities"]) == 2
    (record,) = local.home.glob("endpoints/live/*/container.json")
    name = json.loads(record.read_text())["name"]
    connect = ("python", "-c", "import socket; socket.create_connection(('1.1.1.1', 443), 5)")
    done = subprocess.run([images.engine.name, "exec", name, *connect], check=False, capture_output=True, text=True)
    assert "Network is unreachable" in done.stderr
    local.sagemaker.delete_endpoint(EndpointName="live")
    wait_until(hosting.gone)
    assert subprocess.run([images.engine.name, "container", "exists", name], check=False).returncode == 1


@contextmanager
def serving(
    images: Images, image: str, ml: Path, name: str, *options: str
) -> Iterator[Callable[[str, bytes], tuple[int, bytes]]]:
    """A function that sends a request to a serving container, which ends with 0 on SIGTERM afterwards."""
    process = images.run(image, "serve", ml=ml, options=(f"--name={name}", *options))
    assert process.stdout is not None
    assert any("ready in" in line for line in process.stdout)

    def request(path: str, body: bytes) -> tuple[int, bytes]:
        command: list[Any] = [images.engine.name, "exec", "--interactive", name, "python", "-c", CLIENT, path]
        done = subprocess.run(command, input=body, check=True, capture_output=True)
        status, _, content = done.stdout.partition(b" ")
        return int(status), content

    try:
        yield request
    finally:
        images.stop(name)
        code, log = finish(process)
    assert code == 0, log
