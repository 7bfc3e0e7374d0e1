"""Two processes train what one trains: the losses, the weights and the scores are those of a single process."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from medloop.documents.hyperparameters import ClassificationHyperparameters, SegmentationHyperparameters
from medloop.documents.model import ImagePreprocessing, Inference
from medloop.documents.networks import traits
from medloop.imaging import networks
from medloop.imaging.classify_dataset import LabelledImages
from medloop.imaging.patches import PatchSampler, training_volume
from medloop.imaging.segment_dataset import ValidationVolume
from medloop.imaging.volume_augmentation import VolumeAugmentation
from medloop.training.classification_task import ClassificationTask, min_training_rows
from medloop.training.losses import Reduction, VolumeLoss
from medloop.training.optimisation import make_optimiser
from medloop.training.parallel import Parallel, parallelise
from medloop.training.ranks import ALONE, Ranks
from medloop.training.segmentation_task import SegmentationTask
from medloop.training.trainer import Trainer
from tests.unit.training.distributed import CPU, on_ranks

PATCH = (16, 16, 16)
VOLUME = (1, 1, 32, 32, 64)
"""The smallest input of SwinUNETR that leaves two voxels at its deepest level."""
STEPS = 12
STRATEGIES = ["ddp", "fsdp"]


def volumes(num: int, dtype: torch.dtype) -> list[tuple[Tensor, Tensor]]:
    """Noisy balls: images [20, 18, 16] and labels of two classes."""
    rng = np.random.default_rng(3)
    grid = np.stack(np.meshgrid(*(np.arange(n) for n in (20, 18, 16)), indexing="ij"), axis=-1)
    pairs = []
    for _ in range(num):
        distance = np.linalg.norm(grid - rng.uniform(7, 10, 3), axis=-1)
        label = (distance < 6).astype(np.uint8) + (distance < 3)
        pairs.append((torch.from_numpy(label + rng.normal(0, 0.5, label.shape)).to(dtype), torch.from_numpy(label)))
    return pairs


class Recording(SegmentationTask):
    """Remembers the loss of every step."""

    def loss(self, model: nn.Module, batch: Any, reduction: Reduction) -> Tensor:
        """The loss, kept."""
        value = super().loss(model, batch, reduction)
        if model.training:
            self.__dict__.setdefault("steps", []).append(value.detach().clone())
        return value


def segment(ranks: Ranks, folder: Path, strategy: str) -> dict[str, Any]:
    """Twelve steps of segmentation; 7 samples in batches of 3, so that the last batch has one sample."""
    settings = SegmentationHyperparameters.model_validate(
        {
            "model_name": "unet", "unet_channels": [4, 8], "dropout": 0.0, "epochs": STEPS // 3, "batch_size": 3,
            "learning_rate": 0.01, "patch_size": PATCH, "patience": 0, "val_interval": 4, "strategy": strategy,
        }
    )  # fmt: skip
    torch.manual_seed(0)
    network = networks.describe(settings, 3)
    model = networks.build(network).double()
    training = [training_volume(image, label, PATCH, 0) for image, label in volumes(7, torch.float64)]
    task = Recording(
        sampler=PatchSampler(training, PATCH, 1, 0.5),
        augmentation=VolumeAugmentation((1.0, 1.0, 1.0), flips=True),
        validation=[ValidationVolume(image, label, label) for image, label in volumes(3, torch.float64)],
        loss_function=VolumeLoss("dice_ce"),
        inference=Inference(patch_size=PATCH, overlap=0.5),
        num_classes=3, seed=0, device=CPU, ranks=ranks,
    )  # fmt: skip
    result = Trainer(model, task, settings, device=CPU, checkpoint_dir=folder, ranks=ranks, network=network.name).fit()
    return {
        "losses": torch.stack(task.__dict__["steps"]),
        "state": {name: value.clone() for name, value in result.model.state_dict().items()},
        "scores": [row.get("val_dice", 0.0) for row in result.history],
        "val_loss": [row.get("val_loss", 0.0) for row in result.history],
    }


@pytest.mark.slow
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_two_processes_are_one_segmentation(tmp_path: Path, two: list[dict[str, Any]], strategy: str) -> None:
    """In float64 the losses of 12 steps are those of one process to 1e-10, and so are weights and scores."""
    single = segment(ALONE, tmp_path, "single")
    both = [rank[f"segment {strategy}"] for rank in two]
    assert len(single["losses"]) == STEPS
    for rank in both:
        torch.testing.assert_close(rank["losses"], single["losses"], atol=1e-10, rtol=0)
        assert rank["scores"] == pytest.approx(single["scores"], abs=1e-10)
        assert rank["val_loss"] == pytest.approx(single["val_loss"], abs=1e-9)
    for name, value in single["state"].items():
        torch.testing.assert_close(both[0]["state"][name], value, atol=1e-9, rtol=0)


def classify(ranks: Ranks, folder: Path, strategy: str) -> dict[str, Any]:
    """Twelve steps of classification with class weights, label smoothing and parts; 10 images in batches of 4."""
    settings = ClassificationHyperparameters(
        epochs=STEPS // 3, batch_size=4, accumulation=2, learning_rate=0.01, label_smoothing=0.1, patience=0,
        class_weights="balanced", strategy=strategy, ema=0.5, clip_norm=0.3,
    )  # fmt: skip
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.GroupNorm(2, 4), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3)
    ).double()
    pixels = torch.rand(10, 1, 12, 12, dtype=torch.float64)
    images = LabelledImages(pixels, torch.tensor([0, 0, 0, 0, 0, 1, 1, 1, 2, 2]))
    rule = ImagePreprocessing(image_size=12, channels=1, mean=0.5, std=0.3)
    task = ClassificationTask(images, images, ["a", "b", "c"], rule, settings, CPU, ranks=ranks)
    result = Trainer(model, task, settings, device=CPU, checkpoint_dir=folder, ranks=ranks).fit()
    rows = [[row["train_loss"], row["val_loss"], row["val_auroc"], row["val_accuracy"]] for row in result.history]
    return {"rows": torch.tensor(rows, dtype=torch.float64), "state": result.model.state_dict()}


@pytest.mark.slow
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_two_processes_are_one_classification(tmp_path: Path, two: list[dict[str, Any]], strategy: str) -> None:
    """Losses, scores, averaged and clipped weights are those of one process, to 1e-10."""
    single = classify(ALONE, tmp_path, "single")
    both = [rank[f"classify {strategy}"] for rank in two]
    for rank in both:
        torch.testing.assert_close(rank["rows"], single["rows"], atol=1e-10, rtol=0)
    for name, value in single["state"].items():
        torch.testing.assert_close(both[0]["state"][name], value, atol=1e-9, rtol=0)


def normalise(ranks: Ranks, folder: Path, strategy: str) -> dict[str, Any]:
    """A network with batch normalisation, which on the CPU each process computes for its own rows."""
    settings = ClassificationHyperparameters(
        epochs=2, batch_size=4, learning_rate=0.01, strategy=strategy, augment=False
    )
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2)
    )
    images = LabelledImages(torch.rand(9, 1, 8, 8), torch.tensor([0, 1] * 4 + [0]))
    rule = ImagePreprocessing(image_size=8, channels=1, mean=0.5, std=0.3)
    task = ClassificationTask(images, images, ["a", "b"], rule, settings, CPU, ranks=ranks)
    task.min_rows = min_training_rows(model)
    result = Trainer(model, task, settings, device=CPU, checkpoint_dir=folder, ranks=ranks).fit()
    return {"losses": [row["val_loss"] for row in result.history], "state": dict(model.named_buffers())}


@pytest.mark.slow
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_running_statistics_are_shared(two: list[dict[str, Any]], strategy: str) -> None:
    """All processes validate one network: its statistics are averaged before; the epoch's last batch of one runs."""
    first, second = (rank[f"normalise {strategy}"] for rank in two)
    assert first["losses"] == second["losses"]
    assert first["state"].keys() == second["state"].keys()
    assert all(torch.equal(first["state"][name], second["state"][name]) for name in first["state"])


@pytest.mark.slow
def test_all_processes_count_in_running_statistics(two: list[dict[str, Any]]) -> None:
    """FSDP leaves each process its own until they are averaged; under DDP the first's must not replace the others'."""
    ddp, fsdp = (two[0][f"normalise {strategy}"]["state"] for strategy in STRATEGIES)
    for name, value in ddp.items():
        torch.testing.assert_close(fsdp[name], value, atol=1e-5, rtol=1e-4)


def test_a_pass_without_gradient_sync_exchanges_no_statistics() -> None:
    """A process that tries how many rows fit must not wait for others, whose tries may end sooner."""
    model = nn.Sequential(nn.Linear(2, 2), nn.SyncBatchNorm(2))
    parallel = Parallel(model, model, ALONE, None, CPU)
    with parallel.without_gradient_sync():
        assert not model[1].training
    assert model[1].training


def measure(ranks: Ranks, folder: Path, strategy: str) -> dict[str, Any]:
    """Bytes of weights and optimiser that this process holds after a step of SwinUNETR, and what it gathers."""
    del folder
    settings = SegmentationHyperparameters(model_name="swinunetr", feature_size=12, strategy=strategy, dropout=0.0)
    torch.manual_seed(0)
    network = networks.describe(settings, 2)
    model = networks.build(network)
    parallel = parallelise(model, settings, traits("swinunetr"), CPU, ranks)
    optimiser = make_optimiser(parallel.module, settings)
    images = torch.randn(VOLUME, generator=torch.Generator().manual_seed(1))
    (ranks.sum(parallel.model(images).square().mean() / ranks.size) * ranks.size).backward()
    optimiser.step()
    tensors = [weight.detach() for weight in parallel.parameters]
    tensors += [value for state in optimiser.state.values() for value in state.values()]
    local = [value.to_local() if isinstance(value, DTensor) else value for value in tensors]
    return {"bytes": sum(value.nbytes for value in local), "state": parallel.full_state()}


@pytest.mark.slow
def test_fsdp_divides_weights_and_optimiser(tmp_path: Path, two: list[dict[str, Any]]) -> None:
    """SwinUNETR: at most 55 % of the bytes on each of two; the gathered state gives one process's answer."""
    single, both = measure(ALONE, tmp_path, "single"), [rank["measure fsdp"] for rank in two]
    assert max(rank["bytes"] for rank in both) <= 0.55 * single["bytes"]
    settings = SegmentationHyperparameters(model_name="swinunetr", feature_size=12, dropout=0.0)
    images = torch.randn(VOLUME, generator=torch.Generator().manual_seed(2))
    results = []
    for state in (single["state"], both[0]["state"], both[1]["state"]):
        model = networks.build(networks.describe(settings, 2)).eval()
        model.load_state_dict(state)
        with torch.no_grad():
            results.append(model(images))
    torch.testing.assert_close(results[1], results[0], atol=1e-4, rtol=0)
    torch.testing.assert_close(results[2], results[1], atol=0, rtol=0)


def work(ranks: Ranks, folder: Path) -> dict[str, Any]:
    """Everything in one start of the processes: their imports take longer than all of it."""
    results = {}
    for strategy in STRATEGIES:
        for function in (segment, classify, normalise):
            name = f"{function.__name__} {strategy}"
            results[name] = function(ranks, folder / name, strategy)
    return results | {"measure fsdp": measure(ranks, folder, "fsdp")}


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """What `work` gave on each of two processes."""
    folder = tmp_path_factory.mktemp("two")
    return on_ranks(2, folder / "out", work, folder, preload=["monai.networks.nets"])
