"""Images are built from their Dockerfiles and run as SageMaker runs them, without network, on a read-only root.

The image of Split is in `make test`; those that bring torch and MLflow are in `make soak` (test_built_torch_images).
Without an engine (`make engine`) all are skipped.
"""

from __future__ import annotations

import json
import os
import subprocess
import time
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from PIL import Image

from medloop.local.state.home import BUCKET, Home
from medloop.local.state.objects import reference
from tests.containers.built import Images, finish, store_bundle
from tests.containers.test_images import locked
from tests.unit.local.conftest import Local, wait_until
from tests.unit.local.steps import processing

CLASSES = ("one", "two")


def make_data(folder: Path, count: int = 6) -> Path:
    """Images of two classes, by brightness."""
    random = np.random.default_rng(0)
    for number, name in enumerate(CLASSES):
        (folder / name).mkdir(parents=True)
        for index in range(count):
            pixels = random.integers(0, 60, (32, 32), np.uint8) + np.uint8(150 * number)
            Image.fromarray(pixels).save(folder / name / f"{index}.png")
    return folder


SPLIT = ("--task", "classification", "--input-data", "/opt/ml/processing/input/data")
OUTPUTS = [
    word
    for name in ("train", "val", "test", "split")
    for word in (f"--output-{name}", f"/opt/ml/processing/output/{name}")
]


def processing_root(folder: Path) -> Path:
    """The folders that the service makes for a processing job."""
    for name in ("config", "output", *(f"processing/output/{name}" for name in ("train", "val", "test", "split"))):
        (folder / name).mkdir(parents=True)
    return folder


@pytest.mark.slow
class TestSplit:
    """The image of Split, a processing job."""

    def test_it_has_what_its_lock_has(self, images: Images, split_image: str) -> None:
        """Nothing floats, and nothing came along; its bill of materials says the same."""
        assert images.freeze(split_image) == locked("split")
        bom = json.loads((images.folder / "medloop-split.cdx.json").read_text())
        assert {entry["name"].lower().replace("_", "-") for entry in bom["components"]} >= set(locked("split"))
        # The wheel of dumb-init (MIT) names no licence.
        assert [entry["name"] for entry in bom["components"] if not entry.get("licenses")] == ["dumb-init"]

    def test_it_splits(self, images: Images, split_image: str, tmp_path: Path) -> None:
        """Exit code 0, the outputs, and the exit message, with a read-only root."""
        ml = processing_root(tmp_path)
        make_data(ml / "processing/input/data")
        code, log = finish(images.run(split_image, *SPLIT, *OUTPUTS, ml=ml))
        assert code == 0, log
        assert (ml / "processing/output/split/split.json").exists()
        assert "train" in (ml / "output/message").read_text()

    @pytest.mark.parametrize(
        ("arguments", "reason"),
        [
            ((*SPLIT, *OUTPUTS), "input data"),
            ((*SPLIT, "--seed", "$(reboot)"), "seed"),
            pytest.param((*SPLIT, "--labels", '["a", "b"]; import os'), "labels", marks=pytest.mark.soak),
            pytest.param(("--task", "x" * 256), "task", marks=pytest.mark.soak),
        ],
    )
    def test_what_it_cannot_use_is_one_line(
        self, images: Images, split_image: str, tmp_path: Path, arguments: tuple[str, ...], reason: str
    ) -> None:
        """Missing data and hostile arguments: exit code 2, and the reason where the service reads it."""
        code, log = finish(images.run(split_image, *arguments, ml=processing_root(tmp_path)))
        message = (tmp_path / "output/message").read_text()
        assert (code, "Traceback" in log) == (2, False), log
        assert reason in message
        assert len(message.splitlines()) == 1

    def test_it_needs_no_root(self, images: Images, split_image: str, tmp_path: Path) -> None:
        """SageMaker wants root; another platform's user, who can write the outputs, splits as well."""
        ml = processing_root(tmp_path)
        make_data(ml / "processing/input/data")
        ml.chmod(0o755)  # pytest's folders are their owner's
        for folder in (ml / "output", *(ml / "processing/output").iterdir()):
            folder.chmod(0o777)
        code, log = finish(images.run(split_image, *SPLIT, *OUTPUTS, ml=ml, options=("--user=65534:65534",)))
        assert code == 0, log
        assert (ml / "processing/output/split/split.json").stat().st_uid == 65534

    def test_sigterm_ends_it(self, images: Images, split_image: str, tmp_path: Path) -> None:
        """At once, in its first moments: the exit code is that of a stopped job, not of a killed one."""
        ml = processing_root(tmp_path)
        make_data(ml / "processing/input/data", 400)
        name = f"medloop-test-{os.getpid()}"
        process = images.run(split_image, *SPLIT, *OUTPUTS, ml=ml, options=(f"--name={name}",))
        images.wait_until_running(name)
        began = time.monotonic()
        images.stop(name)
        assert finish(process)[0] == 143
        assert time.monotonic() - began < images.GRACE
        assert not (ml / "output/message").exists()


@pytest.mark.slow
class TestLocalJobs:
    """The local backend's jobs in the image of Split."""

    def test_a_job_runs_in_it(self, local: Local, split_image: str, tmp_path: Path) -> None:
        """The user's files are read where they are, and can't be written; outputs, message and log are stored."""
        description, steps = local.run([split_step(local, split_image, make_data(tmp_path / "data"))])
        assert description["PipelineExecutionStatus"] == "Succeeded", steps
        assert b"train" in local.read(f"s3://{BUCKET}/split/split.json")
        (job,) = local.sagemaker.list_processing_jobs()["ProcessingJobSummaries"]
        message = local.sagemaker.describe_processing_job(ProcessingJobName=job["ProcessingJobName"])["ExitMessage"]
        assert "train" in message
        assert not list((local.home / "jobs").iterdir())

    def test_a_killed_client_leaves_no_container(
        self, images: Images, local: Local, split_image: str, tmp_path: Path
    ) -> None:
        """The job fails, and its container is gone when the failure is recorded."""
        arn = local.start([split_step(local, split_image, make_data(tmp_path / "data", 1000))])
        wait_until(lambda: list((local.home / "jobs").glob("*/container.json")))
        (record,) = (local.home / "jobs").glob("*/container.json")
        name = json.loads(record.read_text())["name"]
        images.wait_until_running(name)
        (client,) = [p for p in psutil.process_iter(["cmdline"]) if f"--name={name}" in (p.info["cmdline"] or [])]
        client.kill()
        assert local.finish(arn)["PipelineExecutionStatus"] == "Failed"
        exists = subprocess.run([images.engine.name, "container", "exists", name], check=False)
        assert exists.returncode == 1


def split_step(local: Local, image: str, data: Path) -> dict[str, Any]:
    """A step that splits a folder."""
    return processing(
        "Split",
        store_bundle(local, "split", image),
        inputs={"data": reference(Home.find(local.home), data) + "/"},
        outputs={name: f"s3://{BUCKET}/{name}" for name in ("train", "val", "test", "split")},
        arguments=[*SPLIT, *OUTPUTS],
    )
