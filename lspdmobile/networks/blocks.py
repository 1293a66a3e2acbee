"""Building blocks shared by the networks.

Shapes: N batch, C channels, H and W rows and columns of the feature map. All tensors are float, NCHW.
"""

from collections.abc import Sequence
from typing import Final

import torch
from torch import Tensor, nn
from torch.nn import functional as F

__all__ = [
    "ConvNormAct",
    "DepthwiseSeparable",
    "LinearBranches",
    "MultiscaleBlock",
    "ResidualBlock",
    "doubled",
    "initialise",
]

IDENTITY: Final = "identity"
POINTWISE: Final = "1x1"


class ConvNormAct(nn.Module):
    """Convolution, batch norm, optional ReLU; ``same`` padding for odd kernels.

    In the fused network ``norm`` is gone and the convolution at ``conv`` has a bias.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int = 1,
        *,
        stride: int = 1,
        dilation: int = 1,
        groups: int = 1,
        bias: bool = False,
        act: bool = True,
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(
            in_channels,
            out_channels,
            kernel_size,
            stride=stride,
            padding=dilation * (kernel_size - 1) // 2,
            dilation=dilation,
            groups=groups,
            bias=bias,
        )
        self.norm: nn.Module = nn.BatchNorm2d(out_channels)
        self.act: nn.Module = nn.ReLU() if act else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """Map ``[N, C_in, H, W]`` to ``[N, C_out, H/stride, W/stride]``."""
        y: Tensor = self.act(self.norm(self.conv(x)))
        return y


class DepthwiseSeparable(nn.Sequential):
    """Depthwise convolution + norm + ReLU, then 1x1 + norm, and ReLU unless said otherwise (MobileNetV1)."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        kernel: int = 3,
        stride: int = 1,
        dilation: int = 1,
        act: bool = True,
    ) -> None:
        super().__init__(
            ConvNormAct(in_channels, in_channels, kernel, stride=stride, dilation=dilation, groups=in_channels),
            ConvNormAct(in_channels, out_channels, act=act),
        )


class ResidualBlock(nn.Module):
    """Two dense 3x3 convolutions around a shortcut; ReLU after the sum."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = ConvNormAct(channels, channels, 3)
        self.second = ConvNormAct(channels, channels, 3, act=False)
        self.act = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        """Map ``[N, C, H, W]`` to the same shape."""
        y: Tensor = self.act(x + self.second(self.first(x)))
        return y


class LinearBranches(nn.Module):
    """Parallel depthwise linear branches, each with its batch norm, summed.

    Nothing in it is non-linear, so in eval mode the sum equals one depthwise convolution with a bias, whose kernel
    holds the largest branch (``lspdmobile.fusion.rewrites.branch_sum``).

    Args:
        channels: Width C, kept by every branch.
        branches: Names of the branches: ``"3x3d2"`` is a depthwise 3x3 at dilation 2, ``"1x1"`` a depthwise 1x1 and
            ``"identity"`` the input itself; each is followed by its own batch norm.
    """

    def __init__(self, channels: int, branches: Sequence[str]) -> None:
        super().__init__()
        self.branches = nn.ModuleList(_branch(channels, name) for name in branches)

    def forward(self, x: Tensor) -> Tensor:
        """Map ``[N, C, H, W]`` to the same shape."""
        total: Tensor = self.branches[0](x)
        for branch in list(self.branches)[1:]:
            total = total + branch(x)
        return total


def _branch(channels: int, name: str) -> nn.Module:
    if name == IDENTITY:
        return nn.BatchNorm2d(channels)
    if name == POINTWISE:
        return ConvNormAct(channels, channels, 1, groups=channels, act=False)
    kernel, _, dilation = name.partition("d")
    size = int(kernel.split("x")[0])
    return ConvNormAct(channels, channels, size, dilation=int(dilation or 1), groups=channels, act=False)


class MultiscaleBlock(nn.Module):
    """Lightweight multiscale residual block of the LSPD student stage.

    1x1 reduce, summed linear depthwise branches of several dilations, one ReLU after the sum, 1x1 project, residual
    add, ReLU. The LSPD abstract names a "lightweight multiscale residual block"; its inside is not public and this one
    is our own, made so that it can be fused exactly.
    """

    def __init__(self, channels: int, mid_channels: int, branches: Sequence[str]) -> None:
        super().__init__()
        self.reduce = ConvNormAct(channels, mid_channels)
        self.multiscale: nn.Module = LinearBranches(mid_channels, branches)
        self.mid_act = nn.ReLU()
        self.project = ConvNormAct(mid_channels, channels, act=False)
        self.act = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        """Map ``[N, C, H, W]`` to the same shape."""
        y = self.project(self.mid_act(self.multiscale(self.reduce(x))))
        out: Tensor = self.act(x + y)
        return out


def doubled(x: Tensor) -> Tensor:
    """Upsample ``[N, C, H, W]`` bilinearly to ``[N, C, 2H, 2W]``."""
    return F.interpolate(x, scale_factor=2.0, mode="bilinear", align_corners=False)


def initialise(network: nn.Module) -> None:
    """Kaiming-normal convolutions, unit norms, and last heatmap layers near zero (std 0.001)."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, nn.BatchNorm2d):
            nn.init.ones_(module.weight)
            nn.init.zeros_(module.bias)
    for module in network.modules():
        head = getattr(module, "heatmap", None)
        if isinstance(head, nn.Conv2d):
            torch.nn.init.normal_(head.weight, std=0.001)
