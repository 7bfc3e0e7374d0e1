"""Networks of both tasks: from hyperparameters to what model.json records, and from that to a network.

The builders have the names of the table `medloop.documents.networks.NETWORKS`. Every network ends in one output per
class (softmax; two classes for binary segmentation). MONAI and torchvision are imported only by the networks that come
from them: importing MONAI costs a job 5 to 8 s.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any, cast

import torch
from torch import nn

from medloop.documents.hyperparameters import AnyHyperparameters
from medloop.documents.model import Network
from medloop.documents.networks import NETWORKS
from medloop.errors import DataError

VIT_PATCH = 16


def describe(settings: AnyHyperparameters, num_classes: int) -> Network:
    """Make model.json's record of the network that hyperparameters specify.

    Args:
        settings: Of either task.
        num_classes: Outputs of the network, the background included.
    """
    names = NETWORKS[settings.model_name].arguments
    arguments = {name: num_classes if name == "classes" else getattr(settings, name) for name in names}
    return Network(name=settings.model_name, arguments=arguments)


def build(network: Network) -> nn.Module:
    """Build a network with fresh weights.

    Raises:
        DataError: model.json names an unknown network, or arguments that it doesn't take.
    """
    if network.name not in NETWORKS:
        raise DataError(f"model.json: network {network.name} is unknown; known: {', '.join(sorted(NETWORKS))}")
    builder = getattr(import_module(NETWORKS[network.name].module), network.name)
    try:
        return cast(nn.Module, builder(**network.arguments))
    except (TypeError, ValueError, RuntimeError, AssertionError) as error:
        raise DataError(f"model.json: network {network.name} can't be built: {error}; fix its arguments") from None


def shape_multiple(network: Network) -> int:
    """The number that every edge of a segmenter's input must be a multiple of, in voxels."""
    return NETWORKS[network.name].shape_multiple(network.arguments)


def densenet121(channels: int, classes: int, dropout: float) -> nn.Module:
    """DenseNet-121 of MONAI."""
    from monai.networks.nets import DenseNet121

    return cast(nn.Module, DenseNet121(2, channels, classes, dropout_prob=dropout))


def vit(channels: int, classes: int, dropout: float, image_size: int) -> nn.Module:
    """ViT-Base of MONAI, patches of 16 pixels."""
    from monai.networks.nets import ViT

    # MONAI's classification head ends in Tanh, which bounds the logits; "none" leaves it out.
    vit = ViT(
        spatial_dims=2, in_channels=channels, img_size=image_size, patch_size=VIT_PATCH, hidden_size=768, mlp_dim=3072,
        num_layers=12, num_heads=12, classification=True, num_classes=classes, dropout_rate=dropout,
        post_activation="none",
    )  # fmt: skip
    # MONAI builds weights for cross-attention that it doesn't use: DDP would wait for their gradients for ever, and a
    # checkpoint would lack their optimiser's state. Their names stay in the files.
    for name, weight in vit.named_parameters():
        weight.requires_grad_("cross_attn" not in name)
    return _FirstOutput(vit)


def resnet18(channels: int, classes: int, dropout: float) -> nn.Module:
    """ResNet-18 of torchvision."""
    return _resnet("resnet18", channels, classes, dropout)


def resnet50(channels: int, classes: int, dropout: float) -> nn.Module:
    """ResNet-50 of torchvision."""
    return _resnet("resnet50", channels, classes, dropout)


def _resnet(name: str, channels: int, classes: int, dropout: float) -> nn.Module:
    from torchvision import models

    network: Any = getattr(models, name)(weights=None)
    if channels != 3:
        network.conv1 = nn.Conv2d(channels, 64, kernel_size=7, stride=2, padding=3, bias=False)
        nn.init.kaiming_normal_(network.conv1.weight, mode="fan_out", nonlinearity="relu")
    # Dropout has no weights: the names stay the same at every rate.
    network.fc = nn.Sequential(nn.Dropout(dropout), nn.Linear(network.fc.in_features, classes))
    return cast(nn.Module, network)


def segresnet(classes: int, dropout: float, init_filters: int) -> nn.Module:
    """SegResNet of MONAI."""
    from monai.networks.nets import SegResNet

    network: nn.Module = SegResNet(
        spatial_dims=3, in_channels=1, out_channels=classes, init_filters=init_filters, dropout_prob=dropout or None
    )
    return network


def unet(classes: int, dropout: float, unet_channels: list[int]) -> nn.Module:
    """U-Net of MONAI."""
    from monai.networks.nets import UNet

    strides = [2] * (len(unet_channels) - 1)
    network: nn.Module = UNet(
        spatial_dims=3, in_channels=1, out_channels=classes, channels=unet_channels, strides=strides, dropout=dropout
    )
    return network


def swinunetr(classes: int, dropout: float, feature_size: int) -> nn.Module:
    """SwinUNETR of MONAI."""
    from monai.networks.nets import SwinUNETR

    return cast(nn.Module, SwinUNETR(1, classes, feature_size=feature_size, drop_rate=dropout))


class _FirstOutput(nn.Module):
    """MONAI's ViT returns (logits, hidden states); the logits are what a classifier returns."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """[N, channels, H, W] to [N, classes]."""
        return cast(torch.Tensor, self.network(images)[0])
