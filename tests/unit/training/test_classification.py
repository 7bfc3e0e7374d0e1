"""Training of image classifiers, from channels to the model folder."""

from __future__ import annotations

import csv
import dataclasses
import io
import shutil
import tarfile
import zlib
from collections.abc import Callable
from contextlib import redirect_stdout
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score

from medloop.container.training import TrainingJob
from medloop.documents.hyperparameters import ClassificationHyperparameters
from medloop.documents.model import ImagePreprocessing, ModelRecord
from medloop.documents.split import SplitRecord
from medloop.errors import DataError
from medloop.imaging import networks
from medloop.imaging.classify_dataset import LabelledImages
from medloop.imaging.classify_predictor import ImagePredictor
from medloop.imaging.model_files import read_weights
from medloop.training.classification import train_classifier
from medloop.training.classification_task import ClassificationTask, balanced_weights
from medloop.training.compute import seed_everything
from medloop.training.trainer import FitResult
from tests.unit.training.conftest import make_job_below

MakeJob = Callable[..., TrainingJob]
TINY = ClassificationHyperparameters(
    model_name="resnet18", image_size=32, channels=1, epochs=4, batch_size=8, learning_rate=1e-3, num_workers=1
)
AUTO = {"image_size": "auto", "channels": "auto"}
CPU = torch.device("cpu")


def task_of(labels: list[int], classes: list[str], **settings: object) -> ClassificationTask:
    """A task whose images are 8x8 fields; image k has the brightness k / 100."""
    images = (torch.arange(len(labels)) / 100)[:, None, None, None].expand(-1, 1, 8, 8).half()
    data = LabelledImages(images, torch.tensor(labels))
    rule = ImagePreprocessing(image_size=8, channels=1, mean=0.0, std=1.0)
    chosen = TINY.model_copy(update={"augment": False, **settings})
    return ClassificationTask(data, data, classes, rule, chosen, CPU)


class Scores(torch.nn.Module):
    """Returns the row of a table that the image's brightness points to."""

    def __init__(self, table: torch.Tensor) -> None:
        super().__init__()
        self.table = table

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """[N, 1, H, W] to [N, C]."""
        return self.table[(images.mean(dim=(1, 2, 3)) * 100).round().long()]


def test_validation_scores_agree_with_scikit_learn() -> None:
    """Macro AUROC one against the rest, accuracy, and cross-entropy as a mean over images."""
    table = torch.randn(30, 3, generator=torch.Generator().manual_seed(1))
    labels = [k % 3 for k in range(30)]
    scores = task_of(labels, ["a", "b", "c"]).validate(Scores(table))
    probabilities = table.double().softmax(dim=1).numpy()
    assert scores["val_auroc"] == pytest.approx(
        roc_auc_score(labels, probabilities, multi_class="ovr", average="macro")
    )
    assert scores["val_accuracy"] == pytest.approx(np.mean(probabilities.argmax(axis=1) == labels))
    assert scores["val_loss"] == pytest.approx(-np.log(probabilities[range(30), labels]).mean(), rel=1e-4)


def test_a_class_that_val_lacks_is_left_out_of_the_mean() -> None:
    """Perfect on the two classes that are there is 1.0, not an error."""
    table = torch.tensor([[5.0, 0, 1], [0, 5.0, 1]] * 4)
    assert task_of([0, 1] * 4, ["a", "b", "c"]).validate(Scores(table))["val_auroc"] == 1.0


def test_balanced_weights_are_inverse_to_counts() -> None:
    """Three of one class and one of another: each class weighs the same in all, and the mean weight is 1."""
    labels = torch.tensor([0, 0, 0, 1])
    weights = balanced_weights(labels, 2)
    assert weights.tolist() == pytest.approx([2 / 3, 2.0])
    assert float(weights[labels].mean()) == pytest.approx(1)


def test_a_batch_contains_the_requested_images() -> None:
    """In the requested order, each with its label, regardless of the rest of the batch."""
    task = task_of([0, 1, 0, 1], ["a", "b"])
    images, labels = task.batch([3, 0], 1)
    assert labels.tolist() == [1, 0]
    assert images.mean(dim=(1, 2, 3)).tolist() == pytest.approx([0.03, 0.0], abs=1e-4)
    assert task.num_samples == 4


@pytest.mark.parametrize(
    ("num", "message"),
    [
        ({"train": 0, "val": 2}, "channel train: contains no image"),
        ({"train": 2, "val": 0}, "channel val: contains no image"),
    ],
)
def test_an_empty_channel_is_named(make_job: MakeJob, num: dict[str, int], message: str) -> None:
    """Before any network is built."""
    with pytest.raises(DataError, match=message):
        train_classifier(make_job(num=num), TINY)


def test_classes_must_be_in_split_json_and_in_train(make_job: MakeJob) -> None:
    """A folder that split.json doesn't know, a class without training images, a val of one class: each is reported."""
    job = make_job()
    (job.channels["train"] / "down").rename(job.channels["train"] / "other")
    with pytest.raises(DataError, match=r"channel train: folder other is no class of split\.json"):
        train_classifier(job, TINY)
    shutil.rmtree(job.channels["train"] / "other")
    with pytest.raises(DataError, match="channel train: no image of class down"):
        train_classifier(job, TINY)
    job = make_job("second")
    shutil.rmtree(job.channels["val"] / "across")
    with pytest.raises(DataError, match="channel val: contains only class down"):
        train_classifier(job, TINY)


def test_channels_and_task_are_checked(make_job: MakeJob) -> None:
    """A missing channel and a split of the other task are named."""
    job = make_job()
    path = job.channels["split"] / "split.json"
    path.write_text(path.read_text().replace('"task":"classification"', '"task":"segmentation"'))
    with pytest.raises(DataError, match=r"split\.json: its task is segmentation"):
        train_classifier(job, TINY)
    del job.channels["val"], job.channels["split"]
    with pytest.raises(DataError, match="channel split is missing"):
        train_classifier(job, TINY)


@dataclasses.dataclass(frozen=True)
class Trained:
    """A job that has trained the tests' network, its result and its log."""

    job: TrainingJob
    result: FitResult
    log: str


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """Trained once; tests only read its folders."""
    job, log = make_job_below(tmp_path_factory.mktemp("trained") / "first"), io.StringIO()
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(log):
        patch.setenv("MEDLOOP_CODE_DIGEST", "c0de")
        result = train_classifier(job, TINY)
    return Trained(job, result, log.getvalue())


@pytest.mark.slow
class TestTraining:
    """A small network on stripes that run across or down."""

    def test_learns_and_writes_the_whole_model_folder(self, trained: Trained) -> None:
        """Stripes are classified; model.json contains what inference and governance need, and no pickle is written."""
        job, result = trained.job, trained.result
        assert result.best.value == 1.0
        assert {path.name for path in job.model_dir.iterdir()} == {"model.json", "model.safetensors", "history.csv"}
        record = ModelRecord.read(job.model_dir)
        split = SplitRecord.read(job.channels["split"])
        assert (record.classes, record.best, record.code_digest) == (["across", "down"], result.best, "c0de")
        assert (record.patients.train, record.patients.val) == (split.pseudonyms("train"), split.pseudonyms("val"))
        assert record.data_digest == split.data_digest
        assert record.hyperparameters == TINY.model_dump(mode="json")
        assert {"python", "torch"} <= set(record.versions)
        assert len(list(csv.DictReader((job.model_dir / "history.csv").open()))) == 4
        assert list((job.output_dir / "tensorboard").iterdir())
        assert trained.log.splitlines()[-1] == "val_auroc=1;"
        assert "no pictures" not in trained.log

    def test_prediction_repeats_the_scores_of_training(self, trained: Trained) -> None:
        """Files through the predictor give training's own validation loss: one preprocessing, the best weights."""
        job, result = trained.job, trained.result
        predictor = ImagePredictor.load(job.model_dir)
        paths = sorted(job.channels["val"].glob("*/*.png"))
        probabilities = predictor.probabilities(paths)
        assert probabilities.dtype == np.float32
        assert probabilities.sum(axis=1) == pytest.approx(1, abs=1e-5)
        truth = [predictor.record.classes.index(path.parent.name) for path in paths]
        loss = -np.log(probabilities[range(len(truth)), truth]).mean()
        assert loss == pytest.approx(result.history[result.best.epoch - 1]["val_loss"], rel=1e-4)
        assert predictor.probabilities([]).shape == (0, 2)

    def test_calibration_on_val(self, make_job: MakeJob, capsys: pytest.CaptureFixture[str]) -> None:
        """Prediction divides logits by a temperature that val's likelihood prefers to any; a rerun finds the same."""
        job = make_job(classes=["across", "down", "plain"], num={"train": 6, "val": 6})
        settings = TINY.model_copy(update={"epochs": 1, "learning_rate": 3e-4, "checkpoint_minutes": 0})
        train_classifier(job, settings)
        predictor = ImagePredictor.load(job.model_dir)
        record = predictor.record
        assert record.temperature is not None
        assert record.operating_point is not None
        assert "calibration on val: temperature" in capsys.readouterr().out
        paths = sorted(job.channels["val"].glob("*/*.png"))
        truth = [record.classes.index(path.parent.name) for path in paths]
        losses = []
        for factor in (0.97, 1.0, 1.03):
            changed = record.model_copy(update={"temperature": factor * record.temperature})
            probabilities = dataclasses.replace(predictor, record=changed).probabilities(paths)
            losses.append(-np.log(probabilities[range(len(truth)), truth].astype(np.float64)).mean())
        assert losses[1] == min(losses)
        first = (job.model_dir / "model.json").read_bytes()
        train_classifier(job, settings)
        assert "resumed from checkpoint" in capsys.readouterr().out
        assert (job.model_dir / "model.json").read_bytes() == first

    def test_fine_tuning_goes_on_from_an_archive(
        self, trained: Trained, make_job: MakeJob, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """With a learning rate near zero the weights stay; the patients of both runs are recorded."""
        first = trained.job
        archive = tmp_path / "packed"
        archive.mkdir()
        with tarfile.open(archive / "model.tar.gz", "w:gz") as tar:
            tar.add(first.model_dir, arcname=".")
        second = make_job("second", weights=archive)
        result = train_classifier(second, TINY.model_copy(update={**AUTO, "learning_rate": 1e-9, "epochs": 1}))
        assert result.best.value == 1.0
        record, earlier = ModelRecord.read(second.model_dir), ModelRecord.read(first.model_dir)
        split_record = SplitRecord.read(second.channels["split"])
        assert set(record.patients.train) == {*earlier.patients.train, *split_record.pseudonyms("train")}
        assert len(record.patients.val) == 16
        log = capsys.readouterr().out
        assert "fine-tuning from channel weights: resnet18\n" in log
        assert "image_size=32, channels=1\n" in log
        assert (record.preprocessing.image_size, record.hyperparameters["image_size"]) == (32, 32)  # type: ignore[union-attr]

    def test_other_classes_get_a_new_head(
        self, trained: Trained, make_job: MakeJob, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """Three classes from weights of two: the log says that the head is new, and the model has three outputs."""
        second = make_job("second", classes=["across", "down", "plain"], weights=trained.job.model_dir)
        train_classifier(second, TINY.model_copy(update={"epochs": 1}))
        assert "new head, for across, down, plain instead of across, down" in capsys.readouterr().out
        image = next(second.channels["val"].glob("*/*.png"))
        assert ImagePredictor.load(second.model_dir).probabilities([image]).shape == (1, 3)

    def test_weights_of_another_architecture_are_refused(self, trained: Trained, make_job: MakeJob) -> None:
        """The message names both networks, or the argument that differs."""
        second = make_job("second", weights=trained.job.model_dir)
        with pytest.raises(DataError, match="its network is resnet18, not resnet50; set model_name to resnet18"):
            train_classifier(second, TINY.model_copy(update={"model_name": "resnet50"}))
        with pytest.raises(DataError, match="its resnet18 has channels=1, not 3; set it to 1"):
            train_classifier(second, TINY.model_copy(update={"channels": 3}))

    def test_the_same_seed_gives_the_same_weights(self, make_job: MakeJob) -> None:
        """Augmentation, order and first weights all follow the seed; pseudonyms in the files' names don't matter."""
        settings = TINY.model_copy(update={"epochs": 2, "dropout": 0.3, "class_weights": "balanced"})
        jobs = [make_job("same"), make_job("again")]
        shutil.rmtree(jobs[1].channels["train"])
        for path in jobs[0].channels["train"].glob("*/*.png"):
            renamed = jobs[1].channels["train"] / path.parent.name / f"{zlib.crc32(path.name.encode())}_0000.png"
            renamed.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, renamed)
        jobs[1].channels["val"] = jobs[0].channels["val"]
        for job in jobs:
            train_classifier(job, settings)
        assert _bytes(jobs[0]) == _bytes(jobs[1])


def _bytes(job: TrainingJob) -> bytes:
    return Path(job.model_dir / "model.safetensors").read_bytes()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["densenet121", "vit", "resnet50"])
def test_every_network_trains_and_predicts(make_job: MakeJob, name: str) -> None:
    """Gradients reach the weights, and the written model gives each class a probability."""
    job = make_job()
    settings = TINY.model_copy(update={"model_name": name, "epochs": 1, "learning_rate": 1e-3, "weight_decay": 0.0})
    result = train_classifier(job, settings)
    assert np.isfinite(result.history[0]["train_loss"])
    # Without weight decay only a gradient moves a weight; a handful of steps need not lower the loss.
    seed_everything(settings.seed)
    first = networks.build(networks.describe(settings, 2))
    trained, still = read_weights(job.model_dir), [w for w in first.parameters() if not w.requires_grad]
    moved = [w.requires_grad and not torch.equal(trained[n].float(), w) for n, w in first.named_parameters()]
    assert sum(moved) == len(moved) - len(still)
    paths = sorted(job.channels["val"].glob("*/*.png"))
    assert ImagePredictor.load(job.model_dir).probabilities(paths).sum(axis=1) == pytest.approx(1, abs=1e-5)
