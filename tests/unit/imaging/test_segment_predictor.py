"""Prediction of volumes: on their own grid, with the preprocessing that training had."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from torch import Tensor, nn

from medloop.documents.model import (
    Best,
    Inference,
    Intensity,
    ModelRecord,
    Network,
    TrainedOn,
    VolumePreprocessing,
)
from medloop.errors import DataError
from medloop.imaging.networks import build
from medloop.imaging.segment_dataset import Subjects, load_training
from medloop.imaging.segment_predictor import VolumePredictor
from medloop.training.weights import save_weights

SHAPE = (30, 26, 12)
OBLIQUE = np.array([[0.0, 0.9, 0.2, 5.0], [-1.0, 0.0, 0.0, 7.0], [0.0, -0.2, 2.6, -9.0], [0.0, 0.0, 0.0, 1.0]])
PREPROCESSING = VolumePreprocessing(
    mode="patch",
    size=None,
    spacing=(1.2, 1.2, 1.2),
    intensity=Intensity(rule="window", low=0, high=200, mean=0, std=200),
)


class Threshold(nn.Module):
    """A pointwise network: foreground where its input is above 0.5. Remembers its last input."""

    def forward(self, images: Tensor) -> Tensor:
        """[N, 1, x, y, z] to logits [N, 2, x, y, z]."""
        self.seen = images
        return torch.cat([torch.zeros_like(images), 20 * (images - 0.5)], dim=1)


def predictor(preprocessing: VolumePreprocessing = PREPROCESSING) -> VolumePredictor:
    """A predictor around `Threshold`."""
    record = ModelRecord(
        task="segmentation",
        network=Network(name="threshold", arguments={}),
        classes=["background", "ball"],
        preprocessing=preprocessing,
        inference=Inference(),
        patients=TrainedOn(train=[], val=[]),
        best=Best(epoch=1, metric="val_dice", value=1.0),
        hyperparameters={},
        data_digest="",
        code_digest="",
        versions={},
    )
    return VolumePredictor(record, Threshold(), preprocessing, Inference(), torch.device("cpu"))


def write_ball(folder: Path, affine: np.ndarray = OBLIQUE) -> np.ndarray:
    """A bright ball in world coordinates, as img.nii.gz and label.nii.gz; returns the label."""
    indices = np.stack(np.meshgrid(*(np.arange(n) for n in SHAPE), indexing="ij"), axis=-1)
    offset = (indices - np.array([13, 15, 6])) @ affine[:3, :3].T
    ball = (np.linalg.norm(offset, axis=-1) < 9).astype(np.uint8)
    folder.mkdir(parents=True)
    nib.save(nib.Nifti1Image(ball.astype(np.int16) * 180 + 10, affine), folder / "img.nii.gz")
    nib.save(nib.Nifti1Image(ball, affine), folder / "label.nii.gz")
    return ball


def test_on_the_volumes_own_grid(tmp_path: Path) -> None:
    """An oblique, flipped, anisotropic volume gets labels on its own grid: shape, affine and place."""
    truth = write_ball(tmp_path / "scan")
    prediction = predictor().segment(tmp_path / "scan" / "img.nii.gz")
    assert prediction.labels.shape == SHAPE
    assert prediction.labels.dtype == np.uint8
    np.testing.assert_allclose(prediction.affine, OBLIQUE, atol=1e-5)
    overlap = 2 * (prediction.labels & truth).sum() / (prediction.labels.sum() + truth.sum())
    assert overlap > 0.93


def test_whole_volume(tmp_path: Path) -> None:
    """The resize mode gives its answer on the volume's own grid too."""
    truth = write_ball(tmp_path / "scan")
    rule = PREPROCESSING.model_copy(update={"mode": "resize", "size": (40, 40, 40), "spacing": None})
    prediction = predictor(rule).segment(tmp_path / "scan" / "img.nii.gz")
    assert 2 * (prediction.labels & truth).sum() / (prediction.labels.sum() + truth.sum()) > 0.93


@pytest.mark.parametrize("rule", ["zscore", "window"])
def test_preprocessing_is_trainings(rule: str, tmp_path: Path) -> None:
    """The network sees in prediction, bit for bit, what it saw in training."""
    write_ball(tmp_path / "scan")
    scaled = PREPROCESSING if rule == "window" else PREPROCESSING.model_copy(update={"intensity": Intensity(rule=rule)})
    [(image, label)] = load_training(Subjects("train", [tmp_path / "scan"], ["background", "ball"]), scaled)
    model = predictor(scaled)
    model.segment(tmp_path / "scan" / "img.nii.gz")
    assert isinstance(model.model, Threshold)
    assert torch.equal(model.model.seen[0, 0], image)
    assert label.shape == image.shape


@pytest.mark.parametrize(("unit", "factor"), [("meter", 1e-3), ("micron", 1e3)])
def test_a_header_in_another_unit_is_the_same_volume(tmp_path: Path, unit: str, factor: float) -> None:
    """A model of voxels in mm sees a volume whose header is in metres as it sees the one in mm, and labels it so."""
    write_ball(tmp_path / "scan")
    plain = nib.load(tmp_path / "scan" / "img.nii.gz")
    other = nib.Nifti1Image(np.asarray(plain.dataobj), np.vstack([OBLIQUE[:3] * factor, OBLIQUE[3:]]))
    other.header.set_xyzt_units(unit)
    nib.save(other, tmp_path / "other.nii.gz")

    seen, labels = [], []
    for path in (tmp_path / "scan" / "img.nii.gz", tmp_path / "other.nii.gz"):
        model = predictor()
        labels.append(model.segment(path).labels)
        assert isinstance(model.model, Threshold)
        seen.append(model.model.seen)
    torch.testing.assert_close(seen[1], seen[0])
    np.testing.assert_array_equal(labels[1], labels[0])


def test_hostile_files(tmp_path: Path) -> None:
    """Files that are no finite 3D volume with an orientation are refused in one line that names them."""
    values = np.ones(SHAPE, np.float32)
    nan = values.copy()
    nan[0] = np.nan
    huge = np.diag([1e5, 1e5, 1e5, 1.0])
    bad = {"nan": (nan, np.eye(4)), "flat": (values[0], np.eye(4)), "huge": (values, huge)}
    for name, (voxels, affine) in bad.items():
        nib.save(nib.Nifti1Image(voxels, affine), tmp_path / f"{name}.nii.gz")
    singular = nib.Nifti1Image(values, None)
    singular.header.set_sform(np.zeros((4, 4)), code=2)
    nib.save(singular, tmp_path / "singular.nii.gz")
    (tmp_path / "text.nii.gz").write_text("no volume")
    for name in (*bad, "singular", "text", "absent"):
        with pytest.raises(DataError, match=rf"^{name}\.nii\.gz: ") as caught:
            predictor().segment(tmp_path / f"{name}.nii.gz")
        assert "\n" not in str(caught.value)


def test_a_network_with_other_outputs_than_classes(tmp_path: Path) -> None:
    """A model.json that names three classes for a network of two is refused, not scored one class short."""
    write_ball(tmp_path / "scan")
    sound = predictor()
    record = sound.record.model_copy(update={"classes": ["background", "ball", "rim"]})
    with pytest.raises(DataError, match=r"model\.json: 3 classes, but the network has 2"):
        replace(sound, record=record).segment(tmp_path / "scan" / "img.nii.gz")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"inference": {"patch_size": [24, 24, 20]}}, r"input of \[24, 24, 20\], but segresnet takes multiples of 8"),
        ({"inference": {"patch_size": [0, 8, 8]}}, r"inference\.patch_size\.0: .*greater than or equal to 1"),
        ({"inference": {"overlap": 1.0}}, r"inference\.overlap: .*less than 1"),
        ({"preprocessing": {"spacing": [1, 0, 1]}}, r"spacing\.1: .*greater than 0"),
    ],
)
def test_hostile_model_json(tmp_path: Path, change: dict[str, dict[str, object]], message: str) -> None:
    """Numbers with which a network can't run are refused by their field."""
    network = Network(name="segresnet", arguments={"classes": 2, "dropout": 0.0, "init_filters": 8})
    content = predictor().record.model_copy(update={"network": network}).model_dump(mode="json")
    for part, values in change.items():
        content[part] |= values
    (tmp_path / "model.json").write_text(json.dumps(content))
    save_weights(build(network), tmp_path / "model.safetensors")
    with pytest.raises(DataError, match=message):
        VolumePredictor.load(tmp_path)
