"""Networks of both tasks: how settings name one, how it is built, and which of its weights depend on the classes.

Every network ends in one output per class (softmax; two classes for binary segmentation). MONAI and torchvision are
imported only by the networks that come from them: importing MONAI costs a job 5 to 8 s.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import nn

from medloop.documents.hyperparameters import (
    ClassificationHyperparameters,
    Hyperparameters,
    SegmentationHyperparameters,
)
from medloop.documents.model import Network
from medloop.errors import DataError

VIT_PATCH = 16


@dataclass(frozen=True)
class Traits:
    """How a network is best computed.

    Args:
        blocks: Class names of its repeated parts: what FSDP gathers at a time, and activations are recomputed by.
        channels_last: Whether that layout was measured to be faster (docs/measurements.md).
    """

    blocks: tuple[str, ...] = ()
    channels_last: bool = False


def describe(settings: Hyperparameters, num_classes: int) -> Network:
    """The network that hyperparameters ask for, as model.json records it.

    Args:
        settings: Of either task.
        num_classes: Outputs of the network, the background included.
    """
    if isinstance(settings, ClassificationHyperparameters):
        arguments = _describe_classifier(settings, num_classes)
    elif isinstance(settings, SegmentationHyperparameters):
        arguments = _describe_segmenter(settings, num_classes)
    else:
        raise TypeError(f"{type(settings).__name__} names no network")
    return Network(name=settings.model_name, arguments=arguments)


def build(network: Network) -> nn.Module:
    """Build a network with fresh weights.

    Classifiers map [N, channels, H, W] to logits [N, classes]; segmenters map [N, 1, X, Y, Z] to logits
    [N, classes, X, Y, Z].

    Raises:
        DataError: model.json names an unknown network, or arguments that it doesn't take.
    """
    builder = _BUILDERS.get(network.name)
    if builder is None:
        raise DataError(f"model.json: network {network.name} is unknown; known: {', '.join(sorted(_BUILDERS))}")
    try:
        return builder(**network.arguments)
    except (TypeError, ValueError, RuntimeError, AssertionError) as error:
        raise DataError(f"model.json: network {network.name} can't be built: {error}; mend its arguments") from None


def traits(name: str | None) -> Traits:
    """How the network of that name is best computed; of an unknown one nothing is known."""
    return _TRAITS.get(name or "", Traits())


def head_prefix(name: str) -> str:
    """What the names of the weights begin with whose shapes depend on the number of classes."""
    return _HEADS[name]


def shape_multiple(network: Network) -> int:
    """What every edge of a segmenter's input must be a multiple of, in voxels."""
    if network.name == "unet":
        return int(2 ** (len(network.arguments["unet_channels"]) - 1))
    return {"segresnet": 8, "swinunetr": 32}[network.name]


def count_parameters(network: nn.Module) -> int:
    """Number of weights."""
    return sum(p.numel() for p in network.parameters())


def _describe_classifier(settings: ClassificationHyperparameters, num_classes: int) -> dict[str, Any]:
    arguments: dict[str, Any] = {"channels": settings.channels, "classes": num_classes, "dropout": settings.dropout}
    if settings.model_name == "vit":  # the only one whose weights depend on the image's size
        arguments["image_size"] = settings.image_size
    return arguments


def _describe_segmenter(settings: SegmentationHyperparameters, num_classes: int) -> dict[str, Any]:
    widths: dict[str, dict[str, Any]] = {
        "segresnet": {"init_filters": settings.init_filters},
        "unet": {"unet_channels": settings.unet_channels},
        "swinunetr": {"feature_size": settings.feature_size},
    }
    return {"classes": num_classes, "dropout": settings.dropout, **widths[settings.model_name]}


def _densenet121(channels: int, classes: int, dropout: float) -> nn.Module:
    from monai.networks.nets import DenseNet121

    return _module(DenseNet121(spatial_dims=2, in_channels=channels, out_channels=classes, dropout_prob=dropout))


def _vit(channels: int, classes: int, dropout: float, image_size: int) -> nn.Module:
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


def _resnet(name: str) -> Callable[..., nn.Module]:
    def build_resnet(channels: int, classes: int, dropout: float) -> nn.Module:
        from torchvision import models

        network = getattr(models, name)(weights=None)
        if channels != 3:
            network.conv1 = nn.Conv2d(channels, 64, kernel_size=7, stride=2, padding=3, bias=False)
            nn.init.kaiming_normal_(network.conv1.weight, mode="fan_out", nonlinearity="relu")
        # Dropout has no weights: the names stay the same whatever its rate.
        network.fc = nn.Sequential(nn.Dropout(dropout), nn.Linear(network.fc.in_features, classes))
        return _module(network)

    return build_resnet


def _segresnet(classes: int, dropout: float, init_filters: int) -> nn.Module:
    from monai.networks.nets import SegResNet

    return _module(
        SegResNet(
            spatial_dims=3, in_channels=1, out_channels=classes, init_filters=init_filters, dropout_prob=dropout or None
        )
    )


def _unet(classes: int, dropout: float, unet_channels: list[int]) -> nn.Module:
    from monai.networks.nets import UNet

    strides = [2] * (len(unet_channels) - 1)
    return _module(
        UNet(
            spatial_dims=3,
            in_channels=1,
            out_channels=classes,
            channels=unet_channels,
            strides=strides,
            dropout=dropout,
        )
    )


def _swinunetr(classes: int, dropout: float, feature_size: int) -> nn.Module:
    from monai.networks.nets import SwinUNETR

    return _module(SwinUNETR(in_channels=1, out_channels=classes, feature_size=feature_size, drop_rate=dropout))


def _module(network: object) -> nn.Module:
    """MONAI and torchvision are untyped here."""
    return cast(nn.Module, network)


class _FirstOutput(nn.Module):
    """MONAI's ViT returns (logits, hidden states); the logits are what a classifier returns."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """[N, channels, H, W] to [N, classes]."""
        return cast(torch.Tensor, self.network(images)[0])


_BUILDERS: dict[str, Callable[..., nn.Module]] = {
    "densenet121": _densenet121,
    "vit": _vit,
    "resnet18": _resnet("resnet18"),
    "resnet50": _resnet("resnet50"),
    "segresnet": _segresnet,
    "unet": _unet,
    "swinunetr": _swinunetr,
}
_TRAITS = {
    "densenet121": Traits(("_DenseLayer",), channels_last=True),
    "vit": Traits(("TransformerBlock",)),
    "resnet18": Traits(("BasicBlock",), channels_last=True),
    "resnet50": Traits(("Bottleneck",), channels_last=True),
    "segresnet": Traits(("ResBlock",), channels_last=True),
    "unet": Traits(("Convolution", "ResidualUnit")),
    "swinunetr": Traits(("SwinTransformerBlock", "PatchMerging", "UnetResBlock")),
}
_HEADS = {
    "densenet121": "class_layers.out.",
    "vit": "network.classification_head.",
    "resnet18": "fc.",
    "resnet50": "fc.",
    "segresnet": "conv_final.2.",
    "unet": "model.2.",
    "swinunetr": "out.",
}
