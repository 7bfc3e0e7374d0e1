"""Segmentation training: what it learns, what it writes, and what it refuses."""

from __future__ import annotations

import csv
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch
from torch import Tensor, nn

from medloop.container.training import TrainingJob
from medloop.documents.hyperparameters import SegmentationHyperparameters
from medloop.documents.leakage import Leakage
from medloop.documents.model import Inference, ModelRecord
from medloop.documents.split import Case, Patient, Split, SplitCounts, SplitRecord
from medloop.errors import DataError, SettingError, UserError
from medloop.imaging.metrics import dice
from medloop.imaging.segment_predictor import VolumePredictor
from medloop.imaging.sliding import infer_logits
from medloop.imaging.volumes import read_case
from medloop.training.segmentation import train_segmenter
from medloop.training.segmentation_task import mean_dice
from medloop.training.trainer import FitResult

CLASSES = ["background", "ball", "core"]
SETTINGS: dict[str, Any] = {
    "model_name": "unet",
    "unet_channels": [8, 16, 32],
    "dropout": 0.0,
    "epochs": 14,
    "batch_size": 2,
    "learning_rate": 0.01,
    "patch_size": [32, 32, 32],
    "patches_per_volume": 2,
    "val_interval": 7,
}


def write_subject(folder: Path, seed: int) -> None:
    """A noisy ball (1) with a brighter core (2), on an anisotropic grid in L, P, S orientation."""
    rng = np.random.default_rng(seed)
    shape, spacing = (30, 34, 18), np.array([1.0, 1.0, 1.8])
    grid = np.stack(np.meshgrid(*(np.arange(n) for n in shape), indexing="ij"), axis=-1)
    centre = np.array(shape) / 2 + rng.uniform(-3, 3, 3)
    distance = np.linalg.norm((grid - centre) * spacing, axis=-1)
    label = (distance < rng.uniform(9, 11)).astype(np.uint8) + (distance < 5)
    image = (label * 60 + rng.normal(100, 15, shape)).astype(np.int16)
    affine = np.diag([-1.0, -1.0, 1.8, 1.0])
    folder.mkdir(parents=True)
    nib.save(nib.Nifti1Image(image, affine), folder / "img.nii.gz")
    nib.save(nib.Nifti1Image(label.astype(np.uint8), affine), folder / "label.nii.gz")


def make_job(tmp_path: Path, train: Sequence[int], val: Sequence[int]) -> TrainingJob:
    """Make a job with these training and validation subjects and their split.json, as the split job leaves them."""
    members: dict[Split, list[str]] = {
        "train": [f"p{n}" for n in train], "val": [f"p{n}" for n in val], "test": ["p8"]
    }  # fmt: skip
    patients = {}
    for split, names in members.items():
        for name in names:
            write_subject(tmp_path / split / name, int(name[1:]))
            case = Case(path=name, split=split, classes=CLASSES)
            patients[name] = Patient(stratum="", cases=[case])
    counts = {s: SplitCounts(num_patients=len(n), num_cases=len(n), classes={}) for s, n in members.items()}
    record = SplitRecord.model_validate(
        {
            "task": "segmentation",
            "seed": 0,
            "classes": CLASSES,
            "presplit": False,
            "identifiers": "patients.csv",
            "patients": patients,
            "counts": counts,
            "leakage": Leakage(status="none", num_patients=0, note=""),
            "data_digest": "d" * 64,
        }
    )
    (tmp_path / "split").mkdir()
    (tmp_path / "split" / "split.json").write_text(record.model_dump_json(), encoding="utf-8")
    folders = [tmp_path / name for name in ("model", "output", "checkpoints")]
    for folder in folders:
        folder.mkdir()
    return TrainingJob({}, {name: tmp_path / name for name in ("train", "val", "split")}, *folders)


@pytest.fixture
def job(tmp_path: Path) -> TrainingJob:
    """A job with six training subjects and two for validation."""
    return make_job(tmp_path, range(6), (6, 7))


def train(job: TrainingJob, **changes: object) -> FitResult:
    """Train with the tests' settings."""
    settings = SETTINGS | changes
    if settings["model_name"] != "unet":
        del settings["unet_channels"]
    return train_segmenter(job, SegmentationHyperparameters.model_validate(settings))


def held_out_dice(job: TrainingJob) -> float:
    """Dice of the written model on the subject that training never saw."""
    folder = job.channels["train"].parent / "test" / "p8"
    _, truth = read_case(folder, CLASSES)
    prediction = VolumePredictor.load(job.model_dir).segment(folder / "img.nii.gz")
    return mean_dice(truth.voxels, prediction.labels, len(CLASSES))


@pytest.mark.slow
class TestTraining:
    """Whole runs on small synthetic volumes."""

    def test_learns(self, job: TrainingJob, capsys: pytest.CaptureFixture[str]) -> None:
        """Patches at a spacing: Dice above 0.8 on a new subject; the folder and the log are complete."""
        result = train(job)
        assert held_out_dice(job) > 0.8
        record = ModelRecord.read(job.model_dir)
        assert record.classes == CLASSES
        assert record.patients.train == [f"p{n}" for n in range(6)]
        assert record.patients.val == ["p6", "p7"]
        assert record.data_digest == "d" * 64
        assert record.preprocessing.kind == "volume"
        assert record.preprocessing.spacing == pytest.approx((1.0, 1.0, 1.8))
        assert record.inference is not None
        assert record.inference.patch_size == (32, 32, 20), "cut to what the volumes need, in multiples of 4"
        with (job.model_dir / "history.csv").open(encoding="utf-8") as file:
            assert len(list(csv.DictReader(file))) == len(result.history) == 14
        lines = capsys.readouterr().out.splitlines()
        assert not [line for line in lines if "no pictures" in line]
        assert "6 training and 2 validation volumes take" in lines[0]
        assert "volumes_per_second=" in lines[1]
        assert lines[-1] == f"val_dice={result.best.value:.6g};"

    def test_validation_is_prediction(self, job: TrainingJob) -> None:
        """val_dice is what the predictor scores on the validation cases, at their original resolution."""
        result = train(job, epochs=2, val_interval=1, spacing=[1.5, 1.5, 1.5])
        scores = []
        for folder in sorted(job.channels["val"].iterdir()):
            _, truth = read_case(folder, CLASSES)
            prediction = VolumePredictor.load(job.model_dir).segment(folder / "img.nii.gz")
            scores.append(np.mean([dice(truth.voxels == k, prediction.labels == k) for k in (1, 2)]))
        assert result.best.value == pytest.approx(np.mean(scores), abs=1e-6)

    def test_whole_volumes_and_fine_tuning(self, job: TrainingJob, tmp_path: Path) -> None:
        """The resize mode learns too; its model, given as weights, starts the next run above where it began."""
        preprocessing = {
            "mode": "resize",
            "size": [24, 24, 16],
            "intensity": "dataset",
            "flips": True,
            "mirroring": True,
        }
        first = train(job, epochs=10, val_interval=1, patience=0, loss="dice", **preprocessing)
        record = ModelRecord.read(job.model_dir)
        assert record.inference is not None
        assert record.inference.patch_size is None
        again = TrainingJob(
            {}, job.channels | {"weights": job.model_dir}, tmp_path / "m2", job.output_dir, tmp_path / "c2"
        )
        second = train(again, epochs=1, learning_rate=1e-5, **preprocessing)
        assert second.best.value > first.history[0]["val_dice"] + 0.1
        assert second.best.value == pytest.approx(first.best.value, abs=0.1)

    def test_a_seed_repeats(self, job: TrainingJob) -> None:
        """Two runs with one seed have one history; another seed has another."""
        runs = [train(job, epochs=1, seed=seed) for seed in (3, 3, 4)]
        losses = [run.history[0]["train_loss"] for run in runs]
        assert losses[0] == losses[1]
        assert losses[0] != losses[2]


@pytest.mark.slow
@pytest.mark.parametrize(
    "network",
    [
        {"model_name": "segresnet", "init_filters": 8},
        {"model_name": "swinunetr", "feature_size": 12, "patch_size": [32, 32, 64], "spacing": [1.5, 1.5, 1.5]},
    ],
)
def test_every_network_trains_and_predicts(tmp_path: Path, network: dict[str, object]) -> None:
    """Gradients reach the weights, and the written model labels a new volume on its own grid."""
    job = make_job(tmp_path, range(2), (6,))
    result = train(job, **({"epochs": 2, "patches_per_volume": 1, "val_interval": 2} | network))
    losses = [epoch["train_loss"] for epoch in result.history]
    assert losses[-1] < losses[0]
    image = job.channels["train"].parent / "test" / "p8" / "img.nii.gz"
    prediction = VolumePredictor.load(job.model_dir).segment(image)
    assert prediction.labels.shape == nib.load(image).shape
    assert ModelRecord.read(job.model_dir).network.name == network["model_name"]


class Pointwise(nn.Module):
    """Logits of each voxel by its own value."""

    def forward(self, images: Tensor) -> Tensor:
        """[N, 1, x, y, z] to [N, 3, x, y, z]."""
        return torch.cat([images, 2 * images.sin(), 1 - images.square()], dim=1)


@pytest.mark.slow
class TestInference:
    """Sliding windows."""

    @pytest.mark.parametrize("shape", [(20, 17, 30), (6, 17, 9)])
    @pytest.mark.parametrize("mirroring", [False, True])
    def test_windows_equal_the_whole(self, shape: tuple[int, int, int], mirroring: bool) -> None:
        """For a network that looks at one voxel, windows give what the whole volume gives, padded volumes too."""
        image = torch.randn(shape, generator=torch.Generator().manual_seed(0))
        expected = infer_logits(Pointwise(), image, Inference(patch_size=None))
        rule = Inference(patch_size=(8, 8, 16), overlap=0.5, mirroring=mirroring)
        torch.testing.assert_close(infer_logits(Pointwise(), image, rule), expected, atol=1e-5, rtol=0)


class TestMeanDice:
    """The score of a case."""

    def test_absent_classes(self) -> None:
        """A class in neither map is left out; one in a single map counts zero; with no class at all it is NaN."""
        truth = np.array([[0, 1, 1, 0]], dtype=np.uint8)
        assert mean_dice(truth, truth, 4) == 1.0
        assert mean_dice(truth, np.array([[0, 1, 1, 2]], dtype=np.uint8), 3) == 0.5
        assert math.isnan(mean_dice(truth * 0, truth * 0, 3))


def spoil_label(job: TrainingJob) -> None:
    """Label values outside the classes."""
    path = job.channels["train"] / "p2" / "label.nii.gz"
    image = nib.load(path)
    nib.save(nib.Nifti1Image(np.asanyarray(image.dataobj) + np.uint8(4), image.affine), path)


def truncate_image(job: TrainingJob) -> None:
    """Half a file."""
    path = job.channels["val"] / "p6" / "img.nii.gz"
    path.write_bytes(path.read_bytes()[:2000])


def empty_channel(job: TrainingJob) -> None:
    """A channel without subjects."""
    job.channels["train"] = job.model_dir


def other_split(job: TrainingJob) -> None:
    """A subject that split.json puts elsewhere."""
    write_subject(job.channels["train"] / "p8", 8)


def no_foreground(job: TrainingJob) -> None:
    """Validation labels that hold background only."""
    for folder in job.channels["val"].iterdir():
        image = nib.load(folder / "label.nii.gz")
        nib.save(nib.Nifti1Image(np.zeros(image.shape, np.uint8), image.affine), folder / "label.nii.gz")


def nothing(job: TrainingJob) -> None:
    """The data are right."""


REFUSED: list[tuple[Callable[[TrainingJob], None], dict[str, Any], type[UserError], str]] = [
    (
        spoil_label,
        {},
        DataError,
        "channel train: p2/label.nii.gz: has label values 4",
    ),
    (truncate_image, {}, DataError, "channel val: p6/img.nii.gz: "),
    (empty_channel, {}, DataError, "channel train contains no subject"),
    (other_split, {}, DataError, "channel train: p8 is in the channel, not in split.json"),
    (no_foreground, {}, DataError, "channel val: no label contains foreground"),
    (nothing, {"labels": ["bg", "a", "b", "c"]}, DataError, "channel train: no label contains value 3"),
    (
        nothing,
        {"patch_size": [30, 32, 32]},
        SettingError,
        "hyperparameter patch_size=[30, 32, 32]: unet takes multiples of 4",
    ),
    (
        nothing,
        {"model_name": "swinunetr", "patch_size": [32, 32, 32]},
        SettingError,
        "hyperparameter patch_size=[32, 32, 32]: leaves one voxel at the deepest level of swinunetr; try [64, 64, 64]",
    ),
    (nothing, {"mode": "resize", "size": [2, 8, 8]}, SettingError, "hyperparameter size=[2, 8, 8]: unet takes"),
]


@pytest.mark.slow
@pytest.mark.parametrize(("spoil", "changes", "error", "message"), REFUSED, ids=lambda v: getattr(v, "__name__", None))
def test_refused(
    job: TrainingJob,
    spoil: Callable[[TrainingJob], None],
    changes: dict[str, Any],
    error: type[UserError],
    message: str,
) -> None:
    """What can't be trained on is refused in one line that names it, before the first epoch; nothing is written."""
    spoil(job)
    with pytest.raises(error) as caught:
        train(job, **changes)
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)
    assert not list(job.checkpoint_dir.iterdir())
    assert not list(job.model_dir.iterdir())
