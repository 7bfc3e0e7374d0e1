"""Sliding windows: the results of MONAI's, for any number of windows at once."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from medloop.documents.model import Inference
from medloop.imaging.sliding import infer_logits, max_windows_per_batch, plan_windows

MIRRORED = Inference(patch_size=(16, 16, 16), mirroring=True)
SHAPES = [(40, 33, 21), (16, 16, 16), (9, 50, 12), (17, 16, 5)]


class Neighbours(nn.Module):
    """Two classes from a voxel's neighbourhood: a window's border matters. Notes the shapes that it is given."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layer = nn.Conv3d(1, 2, 5, padding=2)
        self.seen: list[tuple[int, ...]] = []

    def forward(self, images: Tensor) -> Tensor:
        """[N, 1, x, y, z] to [N, 2, x, y, z]."""
        self.seen.append(tuple(images.shape))
        output: Tensor = self.layer(images)
        return output


def volume(shape: tuple[int, int, int]) -> Tensor:
    """Noise."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(1))


@pytest.mark.slow
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("overlap", [0.0, 0.25, 0.5, 0.9])
@torch.no_grad()
def test_equals_monai(shape: tuple[int, int, int], overlap: float) -> None:
    """The same logits as MONAI's sliding windows, to 1e-5."""
    from monai.inferers import sliding_window_inference  # seconds to import

    model, image, patch = Neighbours(), volume(shape), (16, 16, 16)
    expected = sliding_window_inference(image[None, None], patch, 4, model, overlap, mode="gaussian")
    logits = infer_logits(model, image, Inference(patch_size=patch, overlap=overlap))
    torch.testing.assert_close(logits, expected[0], atol=1e-5, rtol=0)


@pytest.fixture(scope="module")
def one_by_one() -> Tensor:
    """Logits of one window at a time."""
    with torch.no_grad():
        return infer_logits(Neighbours(), volume((40, 33, 21)), MIRRORED, num_windows_per_batch=1)


@pytest.mark.parametrize("num_windows", [1, 3, 100])
@pytest.mark.parametrize("even", [False, True])
@torch.no_grad()
def test_the_number_at_once_changes_nothing(num_windows: int, even: bool, one_by_one: Tensor) -> None:
    """Nor does filling up; then the network sees a single shape."""
    model = Neighbours()
    logits = infer_logits(model, volume((40, 33, 21)), MIRRORED, num_windows_per_batch=num_windows, even=even)
    torch.testing.assert_close(logits, one_by_one, atol=1e-6, rtol=0)
    if even:
        assert set(model.seen) == {(num_windows, 1, 16, 16, 16)}


def test_windows_cover_the_volume() -> None:
    """Every voxel is in a window, and no window goes beyond the padded volume."""
    plan = plan_windows(volume((40, 33, 21)), (16, 16, 32), 0.3)
    assert plan.total.shape == (40, 33, 32)
    assert float(plan.total.min()) >= 1e-3
    assert all(
        part.start >= 0 and part.stop <= size
        for window in plan.windows
        for part, size in zip(window, plan.total.shape, strict=True)
    )


def test_a_cpu_takes_few_windows() -> None:
    """The number doesn't depend on free memory there."""
    assert max_windows_per_batch((96, 96, 96), torch.device("cpu")) == 2


@torch.no_grad()
def test_the_whole_volume_at_once() -> None:
    """Without a patch the network sees the volume as it is."""
    model, image = Neighbours(), volume((9, 10, 11))
    torch.testing.assert_close(infer_logits(model, image, Inference(patch_size=None)), model(image[None, None])[0])
    assert model.seen == [(1, 1, 9, 10, 11)] * 2
