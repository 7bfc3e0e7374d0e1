"""The two baselines: the workshop's loop, and MONAI's recipe for fast training.

Both are written as their sources describe them. Mistakes that change a result are fixed (a mask is resized by
nearest neighbour); those that cost time are kept.

The workshop's loop: every epoch reads, resizes and augments every file in DataLoader processes; float32, Adam, DiceLoss
or cross-entropy. Its processes are kept between epochs, in its favour.

MONAI's recipe (its "fast training" guide): CacheDataset keeps the results of the deterministic transforms, on the GPU;
random transforms run there, sample by sample; ThreadDataLoader without workers; mixed precision with a scaled loss,
cuDNN's benchmark mode. On a CPU it stays in float32.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from workshop import models
from workshop.report import PeakMemory
from workshop.sizes import Baseline, Sizes, Task, task_of

WINDOW = (-100.0, 500.0)
LEARNING_RATE: dict[Task, float] = {"segmentation": 1e-4, "classification": 1e-3}
Files = list[dict[str, Any]]
Loss = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class Throughput:
    """The result of a loop.

    Args:
        samples: Timed samples, warm-up excluded.
        seconds: They took.
        peak_bytes: Of memory, warm-up included.
        batch_size: Samples a step.
        losses: Mean loss of every epoch, warm-up included.
        start_seconds: Before the first timed epoch: filling caches, compiling, warm-up.
    """

    samples: int
    seconds: float
    peak_bytes: int
    batch_size: int
    losses: tuple[float, ...]
    start_seconds: float

    @property
    def per_second(self) -> float:
        """Samples per second."""
        return self.samples / self.seconds


@dataclass(frozen=True)
class Loop:
    """A loop, ready to run epochs.

    Args:
        model: On the device.
        batches: Called once an epoch; gives (images, targets).
        loss: Of outputs and targets.
        optimiser: Of the model's weights.
        device: Where batches go.
        mixed: Whether to compute in float16 with a scaled loss.
    """

    model: nn.Module
    batches: Callable[[], Iterable[tuple[Tensor, Tensor]]]
    loss: Loss
    optimiser: torch.optim.Optimizer
    device: torch.device
    mixed: bool = False

    def epochs(self) -> Iterator[tuple[int, float]]:
        """Train endlessly; yields the number of samples and the mean loss of each epoch."""
        scaler = torch.amp.GradScaler(self.device.type, enabled=self.mixed)
        while True:
            total, count = 0.0, 0
            self.model.train()
            for images, targets in self.batches():
                total += self._step(images, targets, scaler) * len(images)
                count += len(images)
            yield count, total / max(1, count)

    def _step(self, images: Tensor, targets: Tensor, scaler: Any) -> float:
        images, targets = images.to(self.device), targets.to(self.device)
        self.optimiser.zero_grad()
        lower = torch.autocast("cuda", torch.float16) if self.mixed else contextlib.nullcontext()
        with lower:
            loss = self.loss(models.first_output(self.model(images)), targets)
        scaler.scale(loss).backward()
        scaler.step(self.optimiser)
        scaler.update()
        return loss.item()  # both sources look at the loss of every step


def measure(make: Callable[[], Loop], batch_size: int, seconds: float, warm_epochs: int) -> Throughput:
    """Run a loop for about the given time after its warm-up, in complete epochs, at least two.

    Args:
        make: Builds the loop, caches filled.
        batch_size: For the record.
        seconds: To be timed.
        warm_epochs: Not timed.
    """
    began = time.perf_counter()
    with PeakMemory() as memory:
        loop = make()
        epochs = loop.epochs()
        losses = [next(epochs)[1] for _ in range(warm_epochs)]
        started, samples, timed = time.perf_counter(), 0, 0
        while timed < 2 or time.perf_counter() - started < seconds:
            count, loss = next(epochs)  # ends with a look at the last loss, hence with a wait for the GPU
            losses.append(loss)
            samples, timed = samples + count, timed + 1
        taken = time.perf_counter() - started
        epochs.close()  # type: ignore[attr-defined]
    return Throughput(samples, taken, memory.num_bytes, batch_size, tuple(losses), started - began)


def workshop(network: str, data: Path, sizes: Sizes, device: torch.device) -> Loop:
    """The workshop's loop."""
    default_kernels(fast=False)
    task, baseline = task_of(network), sizes.workshop[task_of(network)]
    transforms = _compose([*deterministic(task, _edges(task, sizes)), *_random(task)])
    loader = reading_loader(list_files(data / "train", task), transforms, baseline)
    return assemble(models.build(network, sizes), task, loader, device)


def reading_loader(files: Files, transforms: Any, baseline: Baseline) -> Any:
    """The workshop's: every file is read again each epoch."""
    from monai.data import DataLoader, Dataset

    return DataLoader(
        Dataset(files, transforms),
        batch_size=baseline.batch_size,
        shuffle=True,
        num_workers=baseline.workers,
        persistent_workers=baseline.workers > 0,
    )


def workshop_on(
    model: nn.Module,
    files: Files,
    steps: Sequence[Any],
    task: Task,
    baseline: Baseline,
    learning_rate: float,
    device: torch.device,
) -> Loop:
    """Make the workshop's loop for a given network and files.

    Args:
        model: With one output channel for a mask, or an output a class.
        files: As `list_files` gives them.
        steps: The deterministic transforms; the workshop's random ones follow.
        task: Says which.
        baseline: Batch and processes.
        learning_rate: Adam's.
        device: Where to train.
    """
    default_kernels(fast=False)
    loader = reading_loader(files, _compose([*steps, *_random(task)]), baseline)
    return assemble(model, task, loader, device, learning_rate=learning_rate)


def monai(network: str, data: Path, sizes: Sizes, device: torch.device) -> Loop:
    """MONAI's recipe for fast training."""
    from monai.data import CacheDataset, ThreadDataLoader
    from monai.transforms import EnsureTyped

    default_kernels(fast=True)
    task, baseline = task_of(network), sizes.monai[network]
    to_device = EnsureTyped(keys=_keys(task), device=device, track_meta=False)
    transforms = _compose([*deterministic(task, _edges(task, sizes)), to_device, *_random(task)])
    threads = torch.get_num_threads()
    dataset = CacheDataset(list_files(data / "train", task), transforms, num_workers=threads, progress=False)
    loader = ThreadDataLoader(dataset, batch_size=baseline.batch_size, num_workers=0, shuffle=True)
    return assemble(models.build(network, sizes), task, loader, device, mixed=device.type == "cuda")


def list_files(folder: Path, task: Task) -> Files:
    """The files of a split's folder, as MONAI's dictionary transforms take them."""
    if task == "segmentation":
        subjects = sorted(path for path in folder.iterdir() if path.is_dir())
        return [{"image": str(s / "img.nii.gz"), "label": str(s / "label.nii.gz")} for s in subjects]
    classes = sorted(path for path in folder.iterdir() if path.is_dir())
    return [
        {"image": str(file), "label": number} for number, path in enumerate(classes) for file in sorted(path.iterdir())
    ]


def default_kernels(*, fast: bool) -> None:
    """Reset torch's defaults, because another loop in this process may have changed them."""
    torch.use_deterministic_algorithms(mode=False)
    torch.backends.cudnn.benchmark = fast
    torch.set_float32_matmul_precision("highest")


def _keys(task: Task) -> list[str]:
    return ["image", "label"] if task == "segmentation" else ["image"]


def _edges(task: Task, sizes: Sizes) -> Sequence[int]:
    return sizes.resized if task == "segmentation" else (sizes.image_size, sizes.image_size)


def deterministic(task: Task, edges: Sequence[int], intensity: Any = None) -> list[Any]:
    """Load, resize, scale, as the workshop does.

    Args:
        task: Volumes with masks, or images.
        edges: What they are resized to.
        intensity: Of volumes; None takes the workshop's window.
    """
    from monai import transforms

    if task == "classification":
        return [
            transforms.LoadImaged("image", image_only=True),
            transforms.EnsureChannelFirstd("image"),
            transforms.Resized("image", tuple(edges)),
            transforms.ScaleIntensityd("image"),
        ]
    low, high = WINDOW
    return [
        transforms.LoadImaged(["image", "label"], image_only=True),
        transforms.EnsureChannelFirstd(["image", "label"]),
        # Masks by nearest neighbour: the workshop's defect would change the result, not the time.
        transforms.Resized(["image", "label"], tuple(edges), mode=["trilinear", "nearest"]),
        intensity or transforms.ScaleIntensityRanged("image", low, high, 0.0, 1.0, clip=True),
    ]


def _random(task: Task) -> list[Any]:
    """Random transforms; the workshop augments volumes, not images."""
    from monai import transforms

    if task == "classification":
        return []
    flips = [transforms.RandFlipd(["image", "label"], prob=0.5, spatial_axis=axis) for axis in range(3)]
    return [*flips, transforms.RandShiftIntensityd("image", offsets=0.1, prob=0.5)]


def _compose(steps: Sequence[Any]) -> Any:
    from monai.transforms import Compose

    return Compose(list(steps))


def assemble(
    model: nn.Module,
    task: Task,
    loader: Any,
    device: torch.device,
    *,
    learning_rate: float | None = None,
    mixed: bool = False,
) -> Loop:
    """A loop with the workshop's optimiser and loss."""
    decay = 1e-5 if task == "segmentation" else 0.0
    model = model.to(device)
    rate = learning_rate or LEARNING_RATE[task]
    optimiser = torch.optim.Adam(model.parameters(), lr=rate, weight_decay=decay)
    return Loop(model, lambda: _pairs(loader), make_loss(task), optimiser, device, mixed)


def _pairs(loader: Any) -> Iterator[tuple[Tensor, Tensor]]:
    for batch in loader:
        yield batch["image"], batch["label"]


def make_loss(task: Task) -> Loss:
    """DiceLoss of a single channel, or cross-entropy."""
    if task == "classification":
        return nn.CrossEntropyLoss()
    from monai.losses import DiceLoss

    return cast(Loss, DiceLoss(sigmoid=True))
