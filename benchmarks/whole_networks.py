"""Whole networks as they ship, and what one gets of them who exports without fusion."""

from typing import Final

import torch
from torch import nn
from torch.fx.experimental import optimization
from torch.nn.utils.fusion import fuse_conv_bn_eval

from lspdmobile.fusion import randomise_norms
from lspdmobile.fusion.operations import Dtype
from lspdmobile.networks.architectures import deployed_network
from lspdmobile.networks.presets import preset
from lspdmobile.student import load_student

__all__ = ["STUDENTS", "network_named", "norm_as_conv", "unfused"]

STUDENTS: Final = ("lspd-s", "lspd-m", "okdhp-s", "ldcrn-s")
_TRAINED: Final = "lspd-s"


def network_named(name: str) -> tuple[nn.Module, tuple[int, int]]:
    """Give a network and its input size; one that is not bundled has random weights and random norms."""
    if name == _TRAINED:
        student = load_student(name)
        return student.network, student.contract.input_size
    config = preset(name)
    torch.manual_seed(0)
    network = deployed_network(config)
    randomise_norms(network, torch.Generator().manual_seed(0))
    return network, config.input_size


def unfused(network: nn.Module, dtype: Dtype) -> nn.Module:
    """Give what is exported of a network that is not fused: every branch is kept.

    In float the network as it is: both converters fold the norms they can. For int8, whose ranges belong to folded
    layers, each norm is folded into the convolution before it by PyTorch, and is a depthwise 1x1 where there is none.
    """
    if dtype == "fp32":
        return network
    folded = optimization.fuse(network)
    for path, module in list(folded.named_modules()):
        if isinstance(module, nn.BatchNorm2d):
            folded.set_submodule(path, norm_as_conv(module))
    return folded.eval()


def norm_as_conv(norm: nn.BatchNorm2d) -> nn.Conv2d:
    """Write a norm in eval mode as a depthwise 1x1 convolution."""
    channels = norm.num_features
    same = nn.Conv2d(channels, channels, 1, groups=channels, bias=False).eval()
    nn.init.ones_(same.weight)
    return fuse_conv_bn_eval(same, norm)
