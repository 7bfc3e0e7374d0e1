"""Model folders that can't be served, and those that can."""

from __future__ import annotations

import json
import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from medloop.documents.artefact import digest_of_model
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


def pack(model: Path, folder: Path, prefix: str = "./") -> Path:
    """A folder with the model as model.tar.gz alone; weights of a seed don't compress, so no time is spent on it."""
    folder.mkdir()
    with tarfile.open(folder / "model.tar.gz", "w:gz", compresslevel=0) as archive:
        for file in sorted(model.iterdir()):
            archive.add(file, f"{prefix}{file.name}")
    return folder


@pytest.mark.slow
def test_an_archive_is_unpacked(model: Path, tmp_path: Path) -> None:
    """model.tar.gz alone serves as well as its files."""
    predictions = [
        load_service(ServeSettings(model_dir=folder)).respond(InferenceRequest(png())).body
        for folder in (model, pack(model, tmp_path / "packed", prefix=""))
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


def flip(name: str) -> Callable[[Path], object]:
    """Change the last byte of a file, which keeps its length."""

    def harm(model: Path) -> None:
        content = (model / name).read_bytes()
        (model / name).write_bytes(content[:-1] + bytes([content[-1] ^ 1]))

    return harm


SWAPS = {
    "one bit of the weights": flip("model.safetensors"),
    "classes in another order": change(classes=["bright", "dark"]),
    "a space more in model.json": lambda model: (model / "model.json").write_text(
        (model / "model.json").read_text() + " "
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("swap", SWAPS.values(), ids=SWAPS)
@pytest.mark.parametrize("packed", [False, True])
def test_another_model_than_the_registered_one_is_not_loaded(
    swap: Callable[[Path], object], packed: bool, model: Path, tmp_path: Path
) -> None:
    """Though it is a sound model of the same shape; both digests are named."""
    registered = digest_of_model(model)
    swap(model)
    folder = pack(model, tmp_path / "packed") if packed else model
    with pytest.raises(DataError) as caught:
        load_service(ServeSettings(model_dir=folder, model_sha256=registered))
    assert f"the model has the digest {digest_of_model(model)}, and MEDLOOP_MODEL_SHA256 is {registered}" in str(
        caught.value
    )


@pytest.mark.slow
@pytest.mark.parametrize("packed", [False, True])
def test_the_registered_model_is_loaded(packed: bool, model: Path, tmp_path: Path) -> None:
    """By its digest with or without the prefix; files that no container reads may be added by hosting."""
    registered = digest_of_model(model)
    (model / "lost+found").mkdir()
    (model / "history.csv").write_text("epoch\n1\n")
    folder = pack(model, tmp_path / "packed") if packed else model
    for digest in (registered, registered.removeprefix("sha256:")):
        assert load_service(ServeSettings(model_dir=folder, model_sha256=digest)).record.classes == ["dark", "bright"]


def test_a_file_that_is_missing_has_no_digest(model: Path) -> None:
    """The file is named, as without a digest."""
    (model / "model.safetensors").unlink()
    with pytest.raises(DataError, match=r"model\.safetensors: can't be read \(No such file"):
        load_service(ServeSettings(model_dir=model, model_sha256="sha256:0"))
