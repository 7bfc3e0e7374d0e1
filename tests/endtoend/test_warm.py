"""A pipeline gives the same results with warm jobs as with cold ones."""

from __future__ import annotations

import json
import tarfile
import time
from pathlib import Path
from typing import Any

import pytest

from medloop.samples.tissue import make_brain_tissue

pytestmark = pytest.mark.slow


def results(medloop: Any, pipeline: str, data: Path) -> dict[str, Any]:
    """Run a pipeline in its smoke size; returns what it wrote, by file name, without times and counts of runs."""
    smoke = ("--preset", f"smoke-{pipeline}", "--set", "cache_days=0")
    # Not MONAI's, whose import takes a cold job 7 s of CPU time; tests/unit/local/test_warm.py compares one of those.
    network = ("--param", "ModelName=resnet18") if pipeline == "classification" else ()
    outcome = medloop.json("run", pipeline, "--data", str(data), *smoke, *network)
    assert {step["cached"] for step in outcome["execution"]["steps"]} == {False}
    store, identifier = medloop.home / "s3", outcome["execution"]["id"]
    (split,) = (path for path in store.rglob("split.json") if identifier in str(path))
    (train,) = (step["resource"] for step in outcome["execution"]["steps"] if step["name"] == "Train")
    (archive,) = (path for path in store.rglob("model.tar.gz") if train.rpartition("/")[2] in str(path))
    with tarfile.open(archive) as tar:
        names = ("model.safetensors", "model.json")
        model = {name: file.read() for name in names if (file := tar.extractfile(name)) is not None}
    evidence = Path(outcome["report"]).parent
    evaluation = json.loads((evidence / "evaluation.json").read_text())
    evaluation = {key: value for key, value in evaluation.items() if key not in ("test_uses", "notes")}
    del evaluation["data"]["artefact_digest"]  # the archive of equal weights has times in it
    return {**model, "split": split.read_bytes(), "cases": (evidence / "cases.csv").read_bytes(), "scores": evaluation}


@pytest.mark.parametrize("pipeline", ["classification", pytest.param("segmentation", marks=pytest.mark.soak)])
def test_results_are_the_same_warm_and_cold(
    medloop: Any, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pipeline: str
) -> None:
    """The split, the weights byte by byte, the predictions of all cases and the scores."""
    data = images if pipeline == "classification" else make_brain_tissue(tmp_path / "brain", num_subjects=6)
    servers = (medloop.home / "warm").readlink()  # those of all homes
    (medloop.home / "warm").unlink()
    monkeypatch.setenv("MEDLOOP_WARM_MINUTES", "0")
    cold = results(medloop, pipeline, data)
    assert not (medloop.home / "warm").exists()
    (medloop.home / "warm").symlink_to(servers)
    began = time.time()
    monkeypatch.setenv("MEDLOOP_WARM_MINUTES", "10")
    warm = results(medloop, pipeline, data)
    assert [lock for lock in servers.glob("*/lock") if lock.stat().st_mtime >= began], "no server was used"
    assert [name for name in cold if cold[name] != warm[name]] == []
    assert len(cold["model.safetensors"]) > 1_000_000
    logs = [path.read_text() for path in (medloop.home / "logs").rglob("*") if path.is_file()]
    assert not [text for text in logs if "not started warm" in text]
