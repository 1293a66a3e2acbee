"""Networks that others wrote, randomly initialised, with norms that are nowhere near the identity.

Their definitions come from packages of the ``dev`` extra; nothing is downloaded. What is said of the MIL executor in
docs/mil_networks.md, and what tests/converters/coreml/mil/test_whole_networks.py holds it to, is about these.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import torch
from torch import Tensor, nn
from torch.nn import functional

from lspdmobile.fusion import randomise_norms

__all__ = ["NETWORKS", "Network", "pictures"]

_BATCH: Final = 8


@dataclass(frozen=True, kw_only=True)
class Network:
    """A network to convert.

    Attributes:
        package: That defines it, as it is installed.
        size: Rows and columns of its pictures.
        define: Gives it as the package initialises it; it maps ``[N, 3, H, W]`` to one tensor.
    """

    package: str
    size: tuple[int, int]
    define: Callable[[], nn.Module]

    def build(self, seed: int = 0) -> nn.Module:
        """Give the network in eval mode: affine parts of its norms at random, statistics measured on noise.

        With statistics at random too, a deep network's values grow or fade until its output is all rounding.
        """
        torch.manual_seed(seed)
        network = self.define()
        randomise_norms(network, torch.Generator().manual_seed(seed))
        for module in network.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                module.momentum = 1.0
            elif isinstance(module, nn.LayerNorm | nn.GroupNorm):
                nn.init.uniform_(module.weight, 0.5, 1.5)
                nn.init.normal_(module.bias, 0.0, 0.5)
        with torch.no_grad():
            network.train()(pictures(self, count=_BATCH))
        network.eval()
        return network.requires_grad_(requires_grad=False)


def pictures(network: Network, *, count: int = 1, seed: int = 0) -> Tensor:
    """Give normalised pictures ``[count, 3, H, W]`` of smooth random colours with noise on them."""
    generator = torch.Generator().manual_seed(seed)
    smooth = torch.randn(count, 3, 5, 5, generator=generator)
    noise = torch.randn(count, 3, *network.size, generator=generator)
    return functional.interpolate(smooth, network.size, mode="bicubic") + noise / 4


class _Pick(nn.Module):
    """A network that gives several things, of which one is asked for."""

    def __init__(self, network: nn.Module, key: str | int) -> None:
        super().__init__()
        self.network = network
        self.key = key

    def forward(self, pictures: Tensor) -> Tensor:
        """Map what the network maps."""
        chosen: Tensor = self.network(pictures)[self.key]
        return chosen


def _pytorchcv(name: str, side: int = 224, *, pick: int | None = None, **options: Any) -> Network:
    def define() -> nn.Module:
        from pytorchcv.model_provider import get_model

        network: nn.Module = get_model(name, **options)
        return network if pick is None else _Pick(network, pick)

    return Network(package="pytorchcv", size=(side, side), define=define)


def _transformers(name: str, **config: Any) -> Network:
    def define() -> nn.Module:
        import transformers

        made = getattr(transformers, f"{name}Config")(**config)
        return _Pick(getattr(transformers, f"{name}Model")(made), "last_hidden_state")

    return Network(package="transformers", size=(96, 96), define=define)


def _efficientnet_lite() -> nn.Module:
    from efficientnet_lite_pytorch import EfficientNet

    network: nn.Module = EfficientNet.from_name("efficientnet-lite0")
    return network


def _hourglass() -> nn.Module:
    """Two passes of IBPPose, narrower than published; its own start of 0.001 per weight fades to nothing."""
    from pytorchcv.models.ibppose_coco import IbpPose

    network: nn.Module = IbpPose(
        passes=2, backbone_out_channels=64, outs_channels=17, depth=4, growth_rate=32, use_bn=True
    )
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            module.reset_parameters()
    return network


def _mobileone() -> nn.Module:
    from mobileone_pytorch import mobileone_s0

    network: nn.Module = mobileone_s0()
    return network


NETWORKS: Final[Mapping[str, Network]] = {
    "MobileNetV2 x0.25": _pytorchcv("mobilenetv2_wd4"),
    "MobileNetV3-small x0.5": _pytorchcv("mobilenetv3_small_wd2"),
    "ShuffleNetV2 x0.5": _pytorchcv("shufflenetv2b_wd2"),
    "EfficientNet-B0": _pytorchcv("efficientnet_b0b", 96),
    "EfficientNet-lite0": Network(package="efficientnet-lite-pytorch", size=(224, 224), define=_efficientnet_lite),
    "GhostNet": _pytorchcv("ghostnet"),
    "MobileOne-S0": Network(package="mobileone-pytorch", size=(224, 224), define=_mobileone),
    "SqueezeNet 1.1": _pytorchcv("squeezenet_v1_1"),
    "ResNet-10": _pytorchcv("resnet10"),
    "PreResNet-10": _pytorchcv("preresnet10"),
    "RegNetY-200MF": _transformers(
        "RegNet", hidden_sizes=[24, 56, 152, 368], depths=[1, 1, 4, 7], groups_width=8, layer_type="y"
    ),
    "ConvNeXt": _transformers(
        "ConvNext", hidden_sizes=[24, 48, 96, 192], depths=[1, 1, 2, 1], layer_scale_init_value=1.0
    ),
    "SwiftFormer": _transformers("SwiftFormer", embed_dims=[24, 32, 48, 64], depths=[2, 2, 2, 2]),
    "PoolFormer": _transformers("PoolFormer", hidden_sizes=[16, 32, 48, 64], depths=[1, 1, 2, 1]),
    "HRNet-W18-small": _pytorchcv("hrnet_w18_small_v1"),
    "U-Net": _pytorchcv("unet_cityscapes", 64, in_size=(64, 64)),
    "DeepLabV3 on ResNet-50": _pytorchcv("deeplabv3_resnetd50b_voc", 96, pick=0, in_size=(96, 96)),
    "SimplePose on ResNet-18": _pytorchcv("simplepose_resnet18_coco", 128, in_size=(128, 128), return_heatmap=True),
    "Lightweight OpenPose": _pytorchcv(
        "lwopenpose2d_mobilenet_cmupan_coco", 128, in_size=(128, 128), return_heatmap=True
    ),
    "IBPPose (hourglass)": Network(package="pytorchcv", size=(128, 128), define=_hourglass),
}
"""By the name they are known by."""
