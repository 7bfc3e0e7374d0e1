"""Model folders that can't be served, and those that can."""

from __future__ import annotations

import json
import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from medloop.errors import DataError
from medloop.serving.loading import load_service
from medloop.serving.service import InferenceRequest
from medloop.serving.settings import ServeSettings
from tests.containers.endpoints import write_untrained
from tests.unit.serving.worlds import png


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A classifier's folder."""
    return write_untrained(tmp_path_factory.mktemp("classifier"), "classification")


@pytest.fixture
def model(trained: Path, tmp_path: Path) -> Path:
    """A copy to harm."""
    shutil.copytree(trained, tmp_path / "model")
    return tmp_path / "model"


@pytest.mark.slow
def test_an_archive_is_unpacked(model: Path, tmp_path: Path) -> None:
    """model.tar.gz alone serves as well as its files."""
    (tmp_path / "packed").mkdir()
    with tarfile.open(tmp_path / "packed" / "model.tar.gz", "w:gz") as archive:
        for file in sorted(model.iterdir()):
            archive.add(file, file.name)
    predictions = [
        load_service(ServeSettings(model_dir=folder)).respond(InferenceRequest(png())).body
        for folder in (model, tmp_path / "packed")
    ]
    assert predictions[0] == predictions[1]


def change(**fields: object) -> Callable[[Path], object]:
    """Change fields of model.json."""

    def harm(model: Path) -> None:
        record = json.loads((model / "model.json").read_text())
        (model / "model.json").write_text(json.dumps(record | fields))

    return harm


@pytest.mark.parametrize(
    ("harm", "line"),
    [
        (change(classes=["dark", "bright", "grey"]), "3 classes, but the network has 2"),
        (change(version=99), "newer than"),
        (change(task="segmentation"), "give the model of a segmentation training"),
        (lambda model: (model / "model.json").write_text("{"), "model.json: content"),
        (lambda model: (model / "model.json").unlink(), "contains neither model.json nor model.tar.gz"),
        (lambda model: (model / "model.safetensors").unlink(), "model.safetensors: can't be read"),
        (shutil.rmtree, "model folder model is missing"),
    ],
)
def test_refused(harm: Callable[[Path], object], line: str, model: Path) -> None:
    """Before the endpoint is ready, in one line that names the file."""
    harm(model)
    with pytest.raises(DataError) as caught:
        load_service(ServeSettings(model_dir=model))
    assert line in str(caught.value)
