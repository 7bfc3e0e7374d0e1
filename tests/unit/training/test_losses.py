"""Losses against MONAI's and torch's own, and what padding count: nothing."""

from __future__ import annotations

from typing import Literal

import pytest
import torch
from torch import Tensor

from medloop.training.losses import ImageLoss, Reduction, VolumeLoss

CPU = torch.device("cpu")


def volumes(num: int = 3, classes: int = 3) -> tuple[Tensor, Tensor]:
    """Random logits [N, C, 5, 6, 7] with gradient, and labels in which the last volume lacks the last class."""
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(num, classes, 5, 6, 7, generator=generator, dtype=torch.float64, requires_grad=True)
    labels = torch.randint(classes, (num, 1, 5, 6, 7), generator=generator).to(torch.uint8)
    labels[-1].clamp_(max=classes - 2)
    return logits, labels


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["dice_ce", "dice"])
def test_volume_loss_is_monais(kind: Literal["dice_ce", "dice"]) -> None:
    """Value and gradient."""
    from monai.losses import DiceCELoss, DiceLoss  # seconds to import

    logits, labels = volumes()
    theirs = {"dice_ce": DiceCELoss, "dice": DiceLoss}[kind](
        include_background=False, to_onehot_y=True, softmax=True, batch=True
    )
    expected = theirs(logits, labels.long())
    [expected_gradient] = torch.autograd.grad(expected, logits)
    value = VolumeLoss(kind)(logits, labels, Reduction.local(3, CPU))
    [gradient] = torch.autograd.grad(value, logits)
    torch.testing.assert_close(value, expected, atol=1e-6, rtol=0)
    torch.testing.assert_close(gradient, expected_gradient, atol=1e-8, rtol=1e-5)


def test_perfect_is_zero() -> None:
    """Right and certain logits cost nothing, wrong ones much."""
    labels = torch.zeros(2, 1, 8, 8, 8, dtype=torch.uint8)
    labels[:, :, 2:5, 3:6] = 1
    logits = 50.0 * torch.nn.functional.one_hot(labels[:, 0].long(), 2).movedim(-1, 1).float()
    for kind in ("dice_ce", "dice"):
        loss = VolumeLoss(kind)
        assert float(loss(logits, labels, Reduction.local(2, CPU))) < 1e-3
        assert float(loss(-logits, labels, Reduction.local(2, CPU))) > 0.9


def test_padding_count_nothing() -> None:
    """A row of weight 0 changes neither value nor gradient, regardless of its content."""
    logits, labels = volumes()
    reduction = Reduction(torch.tensor([1.0, 1.0, 0.0]), 2)
    for loss in (VolumeLoss("dice_ce"), VolumeLoss("dice")):
        value, without = loss(logits, labels, reduction), loss(logits[:2], labels[:2], Reduction.local(2, CPU))
        torch.testing.assert_close(value, without)
        [gradient] = torch.autograd.grad(value, logits)
        assert not gradient[2].any()
        assert gradient[:2].any()
    scores, classes = logits.mean(dim=(2, 3, 4)), torch.tensor([0, 2, 1])
    torch.testing.assert_close(
        ImageLoss()(scores, classes, reduction), torch.nn.functional.cross_entropy(scores[:2], classes[:2])
    )


def test_class_weights_count_over_images_not_over_their_sum() -> None:
    """Torch's own mean divides by the batch's weights; ours by its images, so that batches can be added."""
    scores, classes = torch.randn(4, 3, dtype=torch.float64), torch.tensor([0, 0, 2, 1])
    weights = torch.tensor([0.5, 1.0, 4.0], dtype=torch.float64)
    each = torch.nn.functional.cross_entropy(scores, classes, weight=weights, reduction="none", label_smoothing=0.1)
    value = ImageLoss(weights, 0.1)(scores, classes, Reduction.local(4, CPU))
    torch.testing.assert_close(value, each.mean())


def test_half_precision_logits_are_summed_in_float32() -> None:
    """A sum over a million voxels doesn't fit bfloat16."""
    labels = torch.ones(1, 1, 96, 96, 96, dtype=torch.uint8)
    logits = torch.zeros(1, 2, 96, 96, 96, dtype=torch.bfloat16)
    value = VolumeLoss("dice")(logits, labels, Reduction.local(1, CPU))
    assert value.dtype == torch.float32
    assert float(value) == pytest.approx(1 - 2 * 0.5 / 1.5, abs=1e-5)
