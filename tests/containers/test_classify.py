"""The training container `classify`, run as SageMaker runs it: `main.py train` below an ML_ROOT."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from medloop.checkout import REPOSITORY
from medloop.documents.leakage import Leakage
from medloop.documents.split import Case, Patient, SplitCounts, SplitRecord
from medloop.imaging.pictures import write_png
from tests.programs import Programs

MAIN = REPOSITORY / "containers" / "classify" / "main.py"


def lay_out(root: Path, hyperparameters: dict[str, str]) -> None:
    """Write the service's configuration, and channels with bright and dark images."""
    rng, patients = np.random.default_rng(0), {}
    for split, num in (("train", 6), ("val", 3)):
        for name, level in (("bright", 170), ("dark", 60)):
            for k in range(num):
                patient = f"{split}{name}{k}"
                pixels = (level + rng.normal(0, 20, (24, 24))).clip(0, 255).astype(np.uint8)
                write_png(root / "input" / "data" / split / name / f"{patient}_0000.png", pixels)
                case = Case(path=f"{name}/{patient}_0000.png", split=split, classes=[name])  # type: ignore[arg-type]
                patients[patient] = Patient(stratum=name, cases=[case])
    counts = SplitCounts(num_patients=0, num_cases=0, classes={})
    record = SplitRecord(
        task="classification", seed=0, classes=["bright", "dark"], presplit=False, identifiers="patients.csv",
        patients=patients, counts=dict.fromkeys(("train", "val", "test"), counts),
        leakage=Leakage(status="none", num_patients=0, note=""), data_digest="0" * 64,
    )  # fmt: skip
    for folder in ("input/data/split", "input/config", "output"):
        (root / folder).mkdir(parents=True)
    (root / "input/data/split/split.json").write_text(record.model_dump_json())
    config = root / "input" / "config"
    (config / "hyperparameters.json").write_text(json.dumps(hyperparameters))
    (config / "inputdataconfig.json").write_text(json.dumps({name: {} for name in ("train", "val", "split")}))


def run_job(root: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Start the container's entry point."""
    environ = os.environ | {"ML_ROOT": str(root), "PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(MAIN), "train", *arguments]
    return subprocess.run(command, capture_output=True, text=True, env=environ, check=False)


@pytest.mark.slow
def test_trains_below_ml_root(programs: Programs, tmp_path: Path) -> None:
    """A model folder, TensorBoard events and metric lines; the best objective is the log's last line."""
    lay_out(tmp_path, {"model_name": '"resnet18"', "image_size": "16", "epochs": "2", "batch_size": "4"})
    done = programs.run("containers/classify/main.py", "train", ML_ROOT=str(tmp_path))
    assert done.returncode == 0, done.stdout
    assert {path.name for path in (tmp_path / "model").iterdir()} == {"model.json", "model.safetensors", "history.csv"}
    lines = done.stdout.splitlines()
    assert [line for line in lines if line.startswith("epoch=2; train_loss=")]
    assert lines[-1].startswith("val_auroc=")
    assert not (tmp_path / "output" / "failure").exists()
    assert list((tmp_path / "output" / "data" / "tensorboard").iterdir())


@pytest.mark.slow
def test_a_damaged_image_is_the_users_error(programs: Programs, tmp_path: Path) -> None:
    """One line that names the file in output/failure, exit code 2, and no model."""
    lay_out(tmp_path, {"model_name": '"resnet18"', "image_size": "16"})
    damaged = tmp_path / "input" / "data" / "val" / "dark" / "valdark0_0000.png"
    damaged.write_bytes(damaged.read_bytes()[:100])
    done = programs.run("containers/classify/main.py", "train", ML_ROOT=str(tmp_path))
    reason = (tmp_path / "output" / "failure").read_text()
    assert done.returncode == 2
    assert "valdark0_0000.png" in reason
    assert "\n" not in reason.strip()
    assert list((tmp_path / "model").iterdir()) == []


def test_a_wrong_hyperparameter_ends_before_torch_is_imported(tmp_path: Path) -> None:
    """Exit code 2 with the hyperparameter's name, in a fraction of a second."""
    lay_out(tmp_path, {"epochs": '"many"'})
    done = run_job(tmp_path)
    assert done.returncode == 2
    assert "hyperparameter epochs='many'" in (tmp_path / "output" / "failure").read_text()
