"""The networks of the workshop from MONAI and torchvision, and inputs for them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import torch
from torch import Tensor, nn

from workshop.sizes import SEGMENTERS, Sizes

NUM_CLASSES = 8
"""Classes of the workshop's classification data."""
DROPOUT = 0.2


def build(network: str, sizes: Sizes, outputs: int | None = None) -> nn.Module:
    """Build a network of the workshop with fresh weights.

    Args:
        network: Its name.
        sizes: Gives widths and the edge of images.
        outputs: Channels or classes; None as the workshop: one channel for a mask, eight classes of images.
    """
    count = outputs or (1 if network in SEGMENTERS else NUM_CLASSES)
    return cast(nn.Module, _BUILDERS[network](sizes, count, **sizes.widths.get(network, {})))


def example(network: str, sizes: Sizes, batch_size: int = 1, device: torch.device | str = "cpu") -> Tensor:
    """Make random input of the training size."""
    spatial = sizes.resized if network in SEGMENTERS else (sizes.image_size, sizes.image_size)
    return torch.randn((batch_size, 1, *spatial), device=device)


def first_output(output: Any) -> Tensor:
    """Return the logits; MONAI's ViT returns (logits, hidden states)."""
    return cast(Tensor, output[0] if isinstance(output, tuple) else output)


def _segresnet(sizes: Sizes, outputs: int, init_filters: int) -> Any:
    from monai.networks.nets import SegResNet

    return SegResNet(in_channels=1, out_channels=outputs, init_filters=init_filters, dropout_prob=DROPOUT)


def _unet(sizes: Sizes, outputs: int, unet_channels: list[int]) -> Any:
    from monai.networks.nets import UNet

    strides = [2] * (len(unet_channels) - 1)
    return UNet(spatial_dims=3, in_channels=1, out_channels=outputs, channels=unet_channels, strides=strides)


def _swinunetr(sizes: Sizes, outputs: int, feature_size: int) -> Any:
    from monai.networks.nets import SwinUNETR

    return SwinUNETR(in_channels=1, out_channels=outputs, feature_size=feature_size)


def _densenet121(sizes: Sizes, outputs: int) -> Any:
    from monai.networks.nets import DenseNet121

    return DenseNet121(spatial_dims=2, in_channels=1, out_channels=outputs)


def _resnet18(sizes: Sizes, outputs: int) -> Any:
    from torchvision.models import resnet18

    network = resnet18(weights=None, num_classes=outputs)
    network.conv1 = nn.Conv2d(1, 64, kernel_size=7, stride=2, padding=3, bias=False)
    return network


def _vit(sizes: Sizes, outputs: int) -> Any:
    from monai.networks.nets import ViT

    return ViT(
        spatial_dims=2, in_channels=1, img_size=sizes.image_size, patch_size=16, hidden_size=768, mlp_dim=3072,
        num_layers=12, num_heads=12, classification=True, num_classes=outputs, post_activation="none",
    )  # fmt: skip


_BUILDERS: dict[str, Callable[..., Any]] = {
    "segresnet": _segresnet,
    "unet": _unet,
    "swinunetr": _swinunetr,
    "densenet121": _densenet121,
    "resnet18": _resnet18,
    "vit": _vit,
}
