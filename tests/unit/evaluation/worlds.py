"""Small test sets on disk, with predictors whose predictions are known, for the tests of the evaluation."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from PIL import Image

from medloop.documents.evaluation import Evaluation
from medloop.documents.leakage import Leakage
from medloop.documents.model import (
    Best,
    ImagePreprocessing,
    Inference,
    Intensity,
    ModelRecord,
    Network,
    TrainedOn,
    VolumePreprocessing,
)
from medloop.documents.split import Case, Patient, SplitCounts, SplitRecord, Task
from medloop.evaluation.evaluate import Assessment, EvaluateArguments, assess, evaluate
from medloop.evaluation.predictors import load_predictor

Attributes = Mapping[str, Mapping[str, str]]


def model_record(task: Task, classes: Sequence[str], train: Sequence[str] = ("aa01", "aa02")) -> ModelRecord:
    """model.json as training writes it."""
    image = ImagePreprocessing(image_size=32, channels=1, mean=0.5, std=0.25)
    volume = VolumePreprocessing(mode="resize", size=(16, 16, 16), spacing=None, intensity=Intensity(rule="zscore"))
    return ModelRecord(
        task=task,
        network=Network(name="resnet18" if task == "classification" else "segresnet", arguments={}),
        classes=list(classes),
        preprocessing=image if task == "classification" else volume,
        inference=None if task == "classification" else Inference(),
        patients=TrainedOn(train=list(train), val=["bb01"]),
        best=Best(epoch=3, metric="val_auroc" if task == "classification" else "val_dice", value=0.9),
        hyperparameters={},
        data_digest="d" * 64,
        code_digest="c" * 40,
        versions={"torch": "2.14.1"},
    )


@dataclass
class FakeImageModel:
    """Answers by file name."""

    record: ModelRecord
    predictions: Mapping[str, Sequence[float]]

    def probabilities(self, paths: Sequence[Path]) -> np.ndarray:
        """[N, C]."""
        return np.array([self.predictions[path.name] for path in paths], dtype=np.float32)


@dataclass
class FakeLabels:
    """A label map."""

    labels: np.ndarray


@dataclass
class FakeVolumeModel:
    """Answers with what it makes of the truth."""

    record: ModelRecord
    predict: Callable[[np.ndarray, str], np.ndarray]

    def segment(self, path: Path) -> FakeLabels:
        """Change the truth next to the image."""
        truth = np.asanyarray(nib.load(path.parent / "label.nii.gz").dataobj).astype(np.uint8)
        return FakeLabels(self.predict(truth, path.parent.name))


@dataclass
class World:
    """The folders of an evaluate job."""

    root: Path
    model: Any
    split: SplitRecord
    task: Task
    options: dict[str, Any] = field(default_factory=dict)
    approved: dict[str, Any] = field(default_factory=dict)
    """Approved versions: champion, first. One that only the options name is a folder with a marker file."""

    @property
    def test(self) -> Path:
        """The test folder."""
        return self.root / "test"

    @property
    def output(self) -> Path:
        """The job's output folder."""
        return self.root / "evaluation"

    def score(self) -> Evaluation:
        """Evaluate, without writing (drawing the page takes a second)."""
        return self.assessed().evaluation

    def assessed(self) -> Assessment:
        """Evaluated: what the page is drawn from."""
        folders = self._folders()
        return assess(self.root, self.test, self._split(), self._arguments(), load=self._load, **folders)

    def write(self) -> Evaluation:
        """Evaluate and write the three files."""
        folders = self._folders()
        return evaluate(self.root, self.test, self._split(), self.output, self._arguments(), load=self._load, **folders)

    def _arguments(self) -> EvaluateArguments:
        return EvaluateArguments(task=self.task, **self.options)

    def _load(self, folder: Path, task: Task) -> Any:
        if folder == self.root:
            return self.model
        return self.approved[folder.name] if folder.name in self.approved else load_predictor(folder, task)

    def _folders(self) -> dict[str, Path]:
        folders = {name: self.root / name for name in ("champion", "first")}
        for folder in folders.values():
            folder.mkdir(exist_ok=True)
            (folder / "none").touch()
        return folders

    def _split(self) -> Path:
        folder = self.root / "split"
        folder.mkdir(exist_ok=True)
        (folder / "split.json").write_text(self.split.model_dump_json(), encoding="utf-8")
        return folder


def make_split(
    task: Task,
    classes: Sequence[str],
    patient_of: Mapping[str, str],
    attributes: Attributes | None = None,
    identifiers: str = "patients.csv",
) -> SplitRecord:
    """Make a split.json of test cases only: case path to pseudonym."""
    patients: dict[str, Patient] = {}
    for path, name in patient_of.items():
        label = [path.split("/")[0]] if task == "classification" else list(classes[1:])
        patient = patients.setdefault(
            name, Patient(stratum="", attributes=dict((attributes or {}).get(name, {})), cases=[])
        )
        patient.cases.append(Case(path=path, split="test", classes=label))
    counts = SplitCounts(num_patients=len(patients), num_cases=len(patient_of), classes={})
    return SplitRecord.model_validate(
        {
            "task": task,
            "seed": 0,
            "classes": list(classes),
            "presplit": False,
            "identifiers": identifiers,
            "patients": patients,
            "counts": {"train": counts, "val": counts, "test": counts},
            "leakage": Leakage(status="none", num_patients=0, note=""),
            "quarantined": [],
            "data_digest": "d" * 64,
        }
    )


def image_world(
    root: Path,
    predictions: Mapping[str, Sequence[float]],
    classes: Sequence[str] = ("cat", "dog"),
    attributes: Attributes | None = None,
    identifiers: str = "patients.csv",
    options: Mapping[str, Any] | None = None,
) -> World:
    """A classifier's test set.

    Args:
        root: An empty folder.
        predictions: `<class>/<patient>_<n>.png` to the model's probabilities.
        classes: The model's.
        attributes: Patient to attributes.
        identifiers: As in split.json.
        options: The job's arguments but the task.
    """
    generator = np.random.default_rng(0)
    for name in predictions:
        path = root / "test" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(generator.integers(0, 255, (24, 32), dtype=np.uint8)).save(path)
    patient_of = {name: name.split("/")[1].split("_")[0] for name in predictions}
    split = make_split("classification", sorted(classes), patient_of, attributes, identifiers)
    by_file = {name.split("/")[1]: values for name, values in predictions.items()}
    return World(
        root,
        FakeImageModel(model_record("classification", classes), by_file),
        split,
        "classification",
        dict(options or {}),
    )


def write_subject(
    folder: Path, truth: np.ndarray, affine: np.ndarray, unit: str | None = "mm", noise: float = 0.3
) -> None:
    """img.nii.gz and label.nii.gz of one subject; the image is the truth with noise."""
    folder.mkdir(parents=True)
    image = truth + np.random.default_rng(1).normal(0, noise, truth.shape)
    for name, voxels in {"img": image.astype(np.float32), "label": truth.astype(np.uint8)}.items():
        volume = nib.Nifti1Image(voxels, affine)
        volume.header.set_xyzt_units(unit)
        nib.save(volume, folder / f"{name}.nii.gz")


def ball(shape: tuple[int, int, int], radius: float, centre: tuple[float, float, float]) -> np.ndarray:
    """A mask of a ball, in voxels."""
    grid = np.indices(shape)
    return sum((g - c) ** 2 for g, c in zip(grid, centre, strict=True)) <= radius**2


def volume_world(
    root: Path,
    truths: Mapping[str, np.ndarray],
    predict: Callable[[np.ndarray, str], np.ndarray],
    classes: Sequence[str] = ("background", "gland"),
    *,
    unit: str | None = "mm",
    spacing: tuple[float, float, float] = (1.0, 1.0, 2.0),
    attributes: Attributes | None = None,
) -> World:
    """A segmentation model's test set: subject (`<patient>` or `<patient>_<n>`) to label map."""
    for name, truth in truths.items():
        write_subject(root / "test" / name, truth, np.diag([*spacing, 1.0]), unit)
    patient_of = {name: name.split("_")[0] for name in truths}
    split = make_split("segmentation", classes, patient_of, attributes)
    return World(root, FakeVolumeModel(model_record("segmentation", classes), predict), split, "segmentation")
