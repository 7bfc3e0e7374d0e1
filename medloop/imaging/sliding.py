"""Inference on a preprocessed volume: sliding windows with Gaussian blending, or the whole volume at once."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from itertools import combinations

import torch
from torch import Tensor

from medloop.training.model_record import Inference

WINDOWS_AT_ONCE = 4
SPATIAL = (2, 3, 4)
Network = Callable[[Tensor], Tensor]


def infer_logits(model: Network, image: Tensor, rule: Inference) -> Tensor:
    """Run the network over a preprocessed volume.

    Logits are blended, not probabilities: so they serve the loss too, and confident windows weigh more. A volume
    smaller than the patch is padded with zeros, as in training.

    Args:
        model: Takes [N, 1, x, y, z], gives [N, C, x, y, z].
        image: float32 [x, y, z], on the model's device.
        rule: model.json's.

    Returns:
        float32 [C, x, y, z].
    """
    batch = image[None, None]
    logits = _infer(model, batch, rule)
    if not rule.mirroring:
        return logits[0]
    mirrors = [axes for count in (1, 2, 3) for axes in combinations(SPATIAL, count)]
    for axes in mirrors:
        logits += _infer(model, batch.flip(axes), rule).flip(axes)
    return logits[0] / (len(mirrors) + 1)


def _infer(model: Network, batch: Tensor, rule: Inference) -> Tensor:
    if rule.patch_size is None:
        return _forward(model, batch)
    from monai.inferers import sliding_window_inference  # seconds to import

    logits: Tensor = sliding_window_inference(
        batch,
        rule.patch_size,
        WINDOWS_AT_ONCE,
        partial(_forward, model),
        overlap=rule.overlap,
        mode=rule.blending,
    )
    return logits


def _forward(model: Network, batch: Tensor) -> Tensor:
    logits: Tensor = model(batch)
    return logits.to(torch.float32)
