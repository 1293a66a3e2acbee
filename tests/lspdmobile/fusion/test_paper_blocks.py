"""Blocks of other people's networks, written here from the descriptions in their papers; none knows of this tool.

Every one maps ``[N, C, H, W]`` and is linear up to its activation. Each has to merge into what its paper says.
"""

from collections import Counter
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lspdmobile.fusion import Fused

C = 6
ONE_3X3 = {"Conv2d 3x3": 1}

Fuse = Callable[[nn.Module], Fused]
Count = Callable[[Fused], Counter[str]]


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
        """See the class."""
        return F.relu(self.dense(x) + self.point(x) + self.identity(x))


class RepVggDown(nn.Module):
    """The first block of a RepVGG stage: stride 2, no identity, more channels."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.dense = conv_norm(inputs, outputs, 3, stride=2)
        self.point = conv_norm(inputs, outputs, 1, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        """See the class."""
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
        """See the class."""
        total = self.skip(x) + self.scale(x)
        for branch in self.branches:
            total += branch(x)
        out: Tensor = self.act(total)
        return out


class RepMixer(nn.Module):
    """FastViT (arXiv 2303.14189): ``x + scale (mix(x) - norm(x))``, where mix is a depthwise MobileOne sum."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.mix = nn.ModuleList(conv_norm(channels, channels, side, groups=channels) for side in (3, 1))
        self.mix_skip = nn.BatchNorm2d(channels)
        self.norm = nn.BatchNorm2d(channels)
        self.layer_scale = nn.Parameter(torch.rand(channels, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        """See the class."""
        mixed = self.mix[0](x) + self.mix[1](x) + self.mix_skip(x)
        out: Tensor = x + self.layer_scale * (mixed - self.norm(x))
        return out


class RepViTTokenMixer(nn.Module):
    """RepViT (arXiv 2307.09283): depthwise 3x3 + norm, a depthwise 1x1 and the input, summed, then a norm."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.dense = conv_norm(channels, channels, 3, groups=channels)
        self.point = nn.Conv2d(channels, channels, 1, groups=channels)
        self.norm = nn.BatchNorm2d(channels)

    def forward(self, x: Tensor) -> Tensor:
        """See the class."""
        out: Tensor = self.norm(self.dense(x) + self.point(x) + x)
        return out


class RepConv(nn.Module):
    """RepConv of YOLOv7 (arXiv 2207.02696): RepVGG with SiLU, and no identity where channels change."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.dense = conv_norm(inputs, outputs, 3)
        self.point = conv_norm(inputs, outputs, 1)
        self.identity = nn.BatchNorm2d(inputs) if inputs == outputs else None
        self.act = nn.SiLU()

    def forward(self, x: Tensor) -> Tensor:
        """See the class."""
        total = self.dense(x) + self.point(x)
        out: Tensor = self.act(total if self.identity is None else total + self.identity(x))
        return out


class AcNetBlock(nn.Module):
    """ACNet (arXiv 1908.03930): square, horizontal and vertical kernels, each with its norm, summed."""

    def __init__(self, inputs: int, outputs: int, *, stride: int = 1) -> None:
        super().__init__()
        self.square = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.flat = nn.Conv2d(inputs, outputs, (1, 3), stride, (0, 1), bias=False)
        self.tall = nn.Conv2d(inputs, outputs, (3, 1), stride, (1, 0), bias=False)
        self.norms = nn.ModuleList(nn.BatchNorm2d(outputs) for _ in range(3))

    def forward(self, x: Tensor) -> Tensor:
        """See the class."""
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
        """See the class."""
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
        """See the class."""
        total = self.large(x)
        for branch in self.small:
            total = total + branch(x)
        out: Tensor = total
        return out


@pytest.mark.parametrize(
    ("block", "expected"),
    [
        (RepVggBlock(C), ONE_3X3 | {"relu": 1}),
        (RepVggBlock(C, groups=2), ONE_3X3 | {"relu": 1}),
        (RepVggDown(C, 2 * C), ONE_3X3 | {"relu": 1}),
        (MobileOneBlock(C), ONE_3X3 | {"ReLU": 1}),
        (MobileOneBlock(C, branches=6, side=5), {"Conv2d 5x5": 1, "ReLU": 1}),
        (RepMixer(C), ONE_3X3),
        (RepViTTokenMixer(C), ONE_3X3),
        (RepConv(C, C), ONE_3X3 | {"SiLU": 1}),
        (RepConv(C, C + 2), ONE_3X3 | {"SiLU": 1}),
        (AcNetBlock(C, C + 1), ONE_3X3 | {"relu": 1}),
        (AcNetBlock(C, C, stride=2), ONE_3X3 | {"relu": 1}),
        (DiverseBranchBlock(C, C + 2), ONE_3X3 | {"relu": 1}),
        (DilatedReparamBlock(C), {"Conv2d 9x9": 1}),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, nn.Module) else "",
)
def test_a_block_becomes_one_convolution_and_its_activation(
    block: nn.Module, expected: dict[str, int], fused: Fuse, operators: Count
) -> None:
    found = fused(block)
    assert operators(found) == expected
    assert found.certificate.norms_left == ()
    assert found.certificate.passed
    assert found.certificate.error_fp64 < 1e-13
    assert found.certificate.operators_after < found.certificate.operators_before


def test_a_merged_kernel_has_the_groups_of_its_branches(fused: Fuse) -> None:
    convs = [m for m in fused(RepVggBlock(C, groups=2)).network.modules() if isinstance(m, nn.Conv2d)]
    assert [conv.groups for conv in convs] == [2]
    convs = [m for m in fused(RepMixer(C)).network.modules() if isinstance(m, nn.Conv2d)]
    assert [conv.groups for conv in convs] == [C]


def test_a_pooling_branch_whose_divisor_differs_at_the_border_stays_apart(fused: Fuse, operators: Count) -> None:
    found = fused(DiverseBranchBlock(C, C, count_include_pad=False))
    assert operators(found)["avg_pool2d"] == 1
    assert operators(found)["Conv2d 3x3"] == 1
    reasons = " ".join(refusal.reason for refusal in found.certificate.refused)
    assert "count_include_pad=False" in reasons or "avg_pool2d" in reasons


def test_a_chain_of_blocks_keeps_one_convolution_each(fused: Fuse, operators: Count) -> None:
    chain = nn.Sequential(RepVggBlock(C), MobileOneBlock(C), RepMixer(C), RepConv(C, C))
    found = fused(chain)
    assert sum(count for name, count in operators(found).items() if name.startswith("Conv2d")) == 4
    assert [site.name for site in found.certificate.sites][:2] == ["0", "1.branches.0.0"]
