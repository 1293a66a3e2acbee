"""Blocks of other people's networks, written here from the descriptions in their papers; none knows of this tool.

Every one keeps the shape of its input, ``[N, C, H, W]``, unless it says otherwise, and is linear up to its activation.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

__all__ = [
    "AcNetBlock",
    "DiverseBranchBlock",
    "DilatedReparamBlock",
    "MobileOneBlock",
    "RepConv",
    "RepMixer",
    "RepVggBlock",
    "RepViTTokenMixer",
]


def conv_norm(
    inputs: int, outputs: int, side: int, *, groups: int = 1, stride: int = 1, dilation: int = 1
) -> nn.Module:
    """A convolution that keeps the size, without bias, and its batch norm."""
    reach = dilation * (side - 1) // 2
    conv = nn.Conv2d(inputs, outputs, side, stride, reach, dilation, groups, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(outputs))


class RepVggBlock(nn.Module):
    """RepVGG (arXiv 2101.03697): 3x3 + norm, 1x1 + norm, and the norm of the input, summed, then ReLU."""

    def __init__(self, channels: int, *, groups: int = 1) -> None:
        super().__init__()
        self.dense = conv_norm(channels, channels, 3, groups=groups)
        self.point = conv_norm(channels, channels, 1, groups=groups)
        self.identity = nn.BatchNorm2d(channels)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.dense(x) + self.point(x) + self.identity(x))


class RepVggDown(nn.Module):
    """The first block of a RepVGG stage: stride 2, no identity, more channels."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.dense = conv_norm(inputs, outputs, 3, stride=2)
        self.point = conv_norm(inputs, outputs, 1, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.dense(x) + self.point(x))


class MobileOneBlock(nn.Module):
    """MobileOne (arXiv 2206.04040): k over-parameterised branches, a 1x1 scale branch and a norm, summed."""

    def __init__(self, channels: int, *, branches: int = 4, side: int = 3) -> None:
        super().__init__()
        self.branches = nn.ModuleList(conv_norm(channels, channels, side, groups=channels) for _ in range(branches))
        self.scale = conv_norm(channels, channels, 1, groups=channels)
        self.skip = nn.BatchNorm2d(channels)
        self.act = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        total = self.skip(x) + self.scale(x)
        for branch in self.branches:
            total += branch(x)
        return self.act(total)


class RepMixer(nn.Module):
    """FastViT (arXiv 2303.14189): ``x + scale (mix(x) - norm(x))``, where mix is a depthwise MobileOne sum."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.mix = nn.ModuleList(conv_norm(channels, channels, side, groups=channels) for side in (3, 1))
        self.mix_skip = nn.BatchNorm2d(channels)
        self.norm = nn.BatchNorm2d(channels)
        self.layer_scale = nn.Parameter(torch.rand(channels, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        mixed = self.mix[0](x) + self.mix[1](x) + self.mix_skip(x)
        return x + self.layer_scale * (mixed - self.norm(x))


class RepViTTokenMixer(nn.Module):
    """RepViT (arXiv 2307.09283): depthwise 3x3 + norm, a depthwise 1x1 and the input, summed, then a norm."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.dense = conv_norm(channels, channels, 3, groups=channels)
        self.point = nn.Conv2d(channels, channels, 1, groups=channels)
        self.norm = nn.BatchNorm2d(channels)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.dense(x) + self.point(x) + x)


class RepConv(nn.Module):
    """RepConv of YOLOv7 (arXiv 2207.02696): RepVGG with SiLU, and no identity where channels change."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.dense = conv_norm(inputs, outputs, 3)
        self.point = conv_norm(inputs, outputs, 1)
        self.identity = nn.BatchNorm2d(inputs) if inputs == outputs else None
        self.act = nn.SiLU()

    def forward(self, x: Tensor) -> Tensor:
        total = self.dense(x) + self.point(x)
        return self.act(total if self.identity is None else total + self.identity(x))


class AcNetBlock(nn.Module):
    """ACNet (arXiv 1908.03930): square, horizontal and vertical kernels, each with its norm, summed."""

    def __init__(self, inputs: int, outputs: int, *, stride: int = 1) -> None:
        super().__init__()
        self.square = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.flat = nn.Conv2d(inputs, outputs, (1, 3), stride, (0, 1), bias=False)
        self.tall = nn.Conv2d(inputs, outputs, (3, 1), stride, (1, 0), bias=False)
        self.norms = nn.ModuleList(nn.BatchNorm2d(outputs) for _ in range(3))

    def forward(self, x: Tensor) -> Tensor:
        square, flat, tall = (
            norm(conv(x)) for norm, conv in zip(self.norms, (self.square, self.flat, self.tall), strict=True)
        )
        return F.relu(square + flat + tall)


class DiverseBranchBlock(nn.Module):
    """Diverse branch block (arXiv 2103.13425): 1x1, 1x1-kxk, 1x1-average pooling and kxk, each step with its norm.

    In the branches of two steps the picture is padded before the 1x1, so that the second step sees the norm's constant
    at the border and not zeros, as the paper has it.
    """

    def __init__(self, inputs: int, outputs: int, *, count_include_pad: bool = True) -> None:
        super().__init__()
        self.dense = conv_norm(inputs, outputs, 3)
        self.point = conv_norm(inputs, outputs, 1)
        self.before = conv_norm(inputs, inputs, 1)
        self.after = nn.Conv2d(inputs, outputs, 3, bias=False)
        self.after_norm = nn.BatchNorm2d(outputs)
        self.pool_before = conv_norm(inputs, outputs, 1)
        self.pool = nn.AvgPool2d(3, 1, 0 if count_include_pad else 1, count_include_pad=count_include_pad)
        self.pool_norm = nn.BatchNorm2d(outputs)

    def forward(self, x: Tensor) -> Tensor:
        padded = F.pad(x, (1, 1, 1, 1))
        two_steps = self.after_norm(self.after(self.before(padded)))
        pooled = self.pool_norm(self.pool(self.pool_before(padded if self.pool.padding == 0 else x)))
        return F.relu(self.dense(x) + self.point(x) + two_steps + pooled)


class DilatedReparamBlock(nn.Module):
    """Dilated reparam block of UniRepLKNet (arXiv 2311.15599): a large depthwise kernel and dilated small ones."""

    def __init__(self, channels: int, *, large: int = 9) -> None:
        super().__init__()
        self.large = conv_norm(channels, channels, large, groups=channels)
        self.small = nn.ModuleList(
            conv_norm(channels, channels, side, groups=channels, dilation=dilation)
            for side, dilation in ((5, 1), (5, 2), (3, 3), (3, 4))
        )

    def forward(self, x: Tensor) -> Tensor:
        total = self.large(x)
        for branch in self.small:
            total = total + branch(x)
        return total
