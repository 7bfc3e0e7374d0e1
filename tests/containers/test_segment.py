"""The training container `segment`, run as SageMaker runs it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from medloop.documents.leakage import Leakage
from medloop.documents.split import SplitCounts, SplitRecord
from tests.programs import Programs

ROOT = Path(__file__).parents[2]
HYPERPARAMETERS: dict[str, Any] = {
    "model_name": "unet",
    "unet_channels": [8, 16],
    "epochs": 2,
    "batch_size": 2,
    "learning_rate": 0.01,
    "mode": "resize",
    "size": [16, 16, 16],
}


def stage(root: Path, hyperparameters: dict[str, Any]) -> None:
    """Write the contract's folders: configuration, and three channels with one subject each."""
    config = root / "input" / "config"
    config.mkdir(parents=True)
    wire = {name: value if isinstance(value, str) else json.dumps(value) for name, value in hyperparameters.items()}
    (config / "hyperparameters.json").write_text(json.dumps(wire), encoding="utf-8")
    (config / "inputdataconfig.json").write_text(json.dumps({name: {} for name in ("train", "val", "split")}))
    label = np.zeros((16, 16, 16), np.uint8)
    label[4:12, 4:12, 4:12] = 1
    patients: dict[str, Any] = {}
    for split in ("train", "val"):
        folder = root / "input" / "data" / split / f"subject {split} é"
        folder.mkdir(parents=True)
        nib.save(nib.Nifti1Image(label * np.int16(100), np.eye(4)), folder / "img.nii.gz")
        nib.save(nib.Nifti1Image(label, np.eye(4)), folder / "label.nii.gz")
        patients[split] = {"stratum": "", "cases": [{"path": folder.name, "split": split, "classes": []}]}
    record = SplitRecord.model_validate(
        {
            "task": "segmentation",
            "seed": 0,
            "classes": ["background", "cube"],
            "presplit": True,
            "identifiers": "none",
            "patients": patients,
            "counts": {split: SplitCounts(num_patients=1, num_cases=1, classes={}) for split in patients},
            "leakage": Leakage(status="unknown", num_patients=None, note=""),
            "data_digest": "",
        }
    )
    folder = root / "input" / "data" / "split"
    folder.mkdir()
    (folder / "split.json").write_text(record.model_dump_json(), encoding="utf-8")


def run(root: Path) -> subprocess.CompletedProcess[str]:
    """Run the image's entry point."""
    environment = os.environ | {"ML_ROOT": str(root), "PYTHONPATH": str(ROOT)}
    command = [sys.executable, str(ROOT / "containers" / "segment" / "main.py"), "train"]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


@pytest.mark.slow
def test_trains(programs: Programs, tmp_path: Path) -> None:
    """The job ends with 0, a model folder, TensorBoard events and the best score as its last line."""
    root = tmp_path / "ml"
    stage(root, HYPERPARAMETERS)
    variables = {"ML_ROOT": str(root), "MEDLOOP_CODE_DIGEST": "c0de"}
    result = programs.run("containers/segment/main.py", "train", **variables)
    assert result.returncode == 0, result.stdout
    assert result.stdout.splitlines()[-1].startswith("val_dice=")
    assert {path.name for path in (root / "model").iterdir()} == {"model.json", "model.safetensors", "history.csv"}
    assert json.loads((root / "model" / "model.json").read_text(encoding="utf-8"))["code_digest"] == "c0de"
    assert list((root / "output" / "data" / "tensorboard").iterdir())
    assert not (root / "output" / "failure").exists()


@pytest.mark.slow
def test_refuses_an_ill_typed_hyperparameter(tmp_path: Path) -> None:
    """An ill-typed hyperparameter ends the job with 2 and one line that names it, in the failure file too."""
    root = tmp_path / "ml"
    stage(root, HYPERPARAMETERS | {"patch_size": [64, 64]})
    result = run(root)
    assert result.returncode == 2
    reason = (root / "output" / "failure").read_text(encoding="utf-8")
    assert reason.startswith("hyperparameter patch_size.2")
    assert "\n" not in reason.strip()
    assert result.stderr.strip() == f"error: {reason.strip()}"
