"""The evaluate container's main.py in a process, with real models, untrained."""

from __future__ import annotations

import hashlib
import json
import tarfile
from pathlib import Path

import numpy as np
import pytest

from medloop.container.arguments import parse_arguments
from medloop.documents.archive import MODEL_LIMITS, unpack
from medloop.documents.artefact import digest_of_model
from medloop.documents.evaluation import Evaluation
from medloop.documents.hyperparameters import ClassificationHyperparameters, SegmentationHyperparameters
from medloop.errors import SettingError
from medloop.evaluation.evaluate import EvaluateArguments, evaluate
from tests.programs import Programs
from tests.unit.evaluation.worlds import World, ball, image_world, volume_world

SEED = 0
"""Of the untrained models: their predictions have foreground."""


def stage(world: World, ml: Path, *, archive: bool) -> None:
    """Lay out a processing job's inputs: an untrained model of the fake's record, test folder and split.json."""
    # torch takes seconds to import, which the quick test has no use for.
    import torch

    from medloop.imaging import networks
    from medloop.training.weights import write_model

    small = {"init_filters": 8} if world.task == "segmentation" else {"image_size": 32, "channels": 1}
    kind = SegmentationHyperparameters if world.task == "segmentation" else ClassificationHyperparameters
    settings = kind.model_validate({"model_name": world.model.record.network.name, **small})
    network = networks.describe(settings, len(world.model.record.classes))
    inputs = ml / "processing" / "input"
    model = inputs / "model"
    model.mkdir(parents=True)
    torch.manual_seed(SEED)
    write_model(model, networks.build(network), world.model.record.model_copy(update={"network": network}), [])
    if archive:
        files = sorted(model.iterdir())
        with tarfile.open(model / "model.tar.gz", "w:gz") as tar:
            for file in files:
                tar.add(file, file.name)
        for file in files:
            file.unlink()
    (inputs / "test").symlink_to(world.test)
    (inputs / "split").mkdir()
    (inputs / "split" / "split.json").write_text(world.split.model_dump_json(), encoding="utf-8")


@pytest.mark.slow
def test_classifier_from_an_archive(programs: Programs, tmp_path: Path) -> None:
    """A model.tar.gz is unpacked and scored; the last word is in output/message."""
    predictions = {f"{name}/p{i} é_{n}.png": () for i, name in enumerate(("cat", "dog")) for n in range(2)}
    world = image_world(tmp_path / "world", predictions)
    stage(world, tmp_path / "ml", archive=True)
    (tmp_path / "ml" / "output").mkdir()
    arguments = ("--task", "classification", "--margin", "0.05")
    done = programs.run("containers/evaluate/main.py", *arguments, ML_ROOT=str(tmp_path / "ml"))
    assert done.returncode == 0, done.stdout
    output = tmp_path / "ml" / "processing" / "output" / "evaluation"
    evaluation = Evaluation.read(output)
    assert (evaluation.data.num_patients, evaluation.data.num_cases, evaluation.gate.margin) == (2, 4, 0.05)
    assert "macro_auroc=" in done.stdout
    message = (tmp_path / "ml" / "output" / "message").read_text()
    assert message.startswith(f"macro_auroc {evaluation.score.value:.4f} on 4 cases of 2 test patients")
    packed = tmp_path / "ml" / "processing" / "input" / "model" / "model.tar.gz"
    unpack(packed, tmp_path / "unpacked", MODEL_LIMITS)
    registered = json.loads((output / "registration.json").read_text())
    assert registered["artefact_digest"] == f"sha256:{hashlib.sha256(packed.read_bytes()).hexdigest()}"
    assert registered["model_digest"] == digest_of_model(tmp_path / "unpacked")
    assert evaluation.data.artefact_digest == registered["artefact_digest"]
    assert evaluation.data.model_digest == registered["model_digest"]


@pytest.mark.slow
def test_segmentation_model(tmp_path: Path) -> None:
    """A segmentation model's files are scored on the volumes' own grid, whichever way its axes run."""
    shape = (20, 18, 12)
    truths = {f"p{i}": ball(shape, 4 + i, (10, 9, 6)).astype(np.uint8) for i in range(2)}
    world = volume_world(tmp_path / "world", truths, lambda truth, _: truth, spacing=(-1.0, 1.5, 2.0))
    stage(world, tmp_path / "ml", archive=False)
    inputs, output = tmp_path / "ml" / "processing" / "input", tmp_path / "evaluation"
    arguments = EvaluateArguments(task="segmentation")
    evaluation = evaluate(inputs / "model", inputs / "test", inputs / "split", output, arguments)
    assert 0 <= evaluation.score.value < 0.9
    assert len((output / "cases.csv").read_text().splitlines()) == 3
    registered = json.loads((output / "registration.json").read_text())
    digests = (registered["artefact_digest"], registered["model_digest"])
    assert digests == ("none", digest_of_model(inputs / "model")), "no archive was scored"
    again = tmp_path / "again"
    evaluate(inputs / "model", inputs / "test", inputs / "split", again, arguments)
    assert contents(again) == contents(output), "equal inputs give equal pages: their digests bind an approval"


def contents(folder: Path) -> dict[str, bytes]:
    """All files."""
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"task": "detection"}, r"argument --task='detection'"),
        ({"task": "classification", "margin": "much"}, r"argument --margin='much'"),
        ({"task": "classification", "margin": "nan"}, r"argument --margin"),
        ({"task": "classification", "threshold": "1"}, r"argument --threshold is unknown"),
        ({}, r"argument --task is missing"),
    ],
)
def test_bad_arguments(options: dict[str, str], message: str) -> None:
    """A wrong, unknown or missing argument is refused by name."""
    with pytest.raises(SettingError, match=message):
        parse_arguments(EvaluateArguments, options)
