"""Sampling grids agree with torch's own, and with themselves in any batch."""

from __future__ import annotations

import pytest
import torch
from torch import Generator
from torch.nn import functional

from medloop.imaging.resampling import affine_grid


@pytest.mark.parametrize("shape", [(5, 8), (4, 6, 7), (1, 3, 2)])
def test_the_grid_is_torchs(shape: tuple[int, ...]) -> None:
    """To rounding in float64, for images and volumes of any edges."""
    num_axes = len(shape)
    matrices = torch.randn(3, num_axes, num_axes + 1, dtype=torch.float64, generator=Generator().manual_seed(0))
    expected = functional.affine_grid(matrices, [3, 1, *shape], align_corners=False)
    torch.testing.assert_close(affine_grid(matrices, shape), expected, atol=1e-12, rtol=0)


def test_a_samples_grid_does_not_depend_on_its_batch() -> None:
    """To the last bit, in float32."""
    matrices = torch.randn(7, 3, 4, generator=Generator().manual_seed(0))
    together = affine_grid(matrices, (9, 8, 7))
    assert all(torch.equal(affine_grid(matrices[k : k + 1], (9, 8, 7))[0], together[k]) for k in range(7))
