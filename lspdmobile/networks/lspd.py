"""LSPD-style student: backbone, neck and a chain of light stages; what ships is backbone + neck + first stage.

From the paper (LSPD, IEEE Sensors Journal 2023, abstract level): a fully convolutional backbone followed by a sequence
of a small number of compact pose stages trained end to end; a stage is built from a lightweight multiscale residual
block; only the backbone and the **first** stage are deployed, later stages carry the pose knowledge that is distilled.

Our own choices, because the paper's inside is not public (every one is a field of :class:`LspdConfig`): the trunk
(dilated MobileNetV1 as in Lightweight OpenPose, or a small dense residual pyramid meant for training on a
CPU), the neck, widths, the block's inside, the number of stages, that a stage works at stride 8 and may give its
heatmaps at stride 4 (detail), and that a later stage reads the features concatenated with the previous heatmaps. No
number of the paper is, or can be, claimed for this network.
"""

from dataclasses import dataclass, replace
from typing import Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lspdmobile.networks.blocks import (
    ConvNormAct,
    DepthwiseSeparable,
    MultiscaleBlock,
    ResidualBlock,
    doubled,
    initialise,
)
from lspdmobile.networks.config import NetworkConfig

__all__ = [
    "AlignmentNeck",
    "LspdChain",
    "LspdConfig",
    "LspdStudent",
    "MobileNetTrunk",
    "PyramidTrunk",
    "StudentStage",
    "Trunk",
]

Trunk = Literal["mobilenet", "pyramid"]


@dataclass(frozen=True, kw_only=True)
class LspdConfig(NetworkConfig):
    """Everything that shapes an LSPD-style network.

    Attributes:
        trunk: ``"mobilenet"`` or ``"pyramid"`` (dense residual); both end at stride 8.
        width: Channel factor of the MobileNet trunk.
        pyramid_channels: Channels of the pyramid trunk at strides 2, 4, 8, 16 (and 32 if five are given).
        pyramid_blocks: Residual blocks at strides 4, 8, 16 (and 32).
        features: Channels C after the neck.
        detail: Channels D in which a stage joins its result with the trunk's stride 4, for heatmaps at stride 4; 0 for
            heatmaps at stride 8. The pyramid trunk alone has it.
        mid_channels: Channels m inside a multiscale block.
        blocks: Multiscale blocks per stage.
        branches: Linear branches of a multiscale block.
        stages: Length of the training chain; the first is the student.
        later_blocks, later_mid_channels: Multiscale blocks of every stage after the first, and their channels m; 0 for
            as many as the first has. A larger last stage is a better teacher and costs nothing that ships.
    """

    trunk: Trunk
    width: float = 1.0
    pyramid_channels: tuple[int, ...] = (24, 32, 64, 96)
    pyramid_blocks: tuple[int, ...] = (2, 3, 4)
    features: int = 128
    detail: int = 0
    mid_channels: int = 64
    blocks: int = 3
    branches: tuple[str, ...] = ("3x3d1", "3x3d2", "1x1", "identity")
    stages: int = 3
    later_blocks: int = 0
    later_mid_channels: int = 0

    def __post_init__(self) -> None:
        """Refuse a trunk that does not exist, or that has no stride 4 to take detail from.

        Raises:
            ValueError: The trunk is neither of the two, or not the pyramid and detail is asked for.
        """
        if self.trunk not in get_args(Trunk):
            message = f"unknown trunk {self.trunk!r}: one of {', '.join(get_args(Trunk))}"
            raise ValueError(message)
        if self.detail and self.trunk != "pyramid":
            message = f"detail = {self.detail}: only the pyramid trunk gives heatmaps at stride 4"
            raise ValueError(message)

    @property
    def heatmap_stride(self) -> int:
        """Input pixels per heatmap cell."""
        return 4 if self.detail else 8


class MobileNetTrunk(nn.Sequential):
    """Dilated MobileNetV1 up to conv5_5, stride 8 (Lightweight OpenPose, arXiv 1811.12004)."""

    def __init__(self, width: float = 1.0) -> None:
        def c(channels: int) -> int:
            return max(8, int(channels * width))

        super().__init__(
            ConvNormAct(3, c(32), 3, stride=2),
            DepthwiseSeparable(c(32), c(64)),
            DepthwiseSeparable(c(64), c(128), stride=2),
            DepthwiseSeparable(c(128), c(128)),
            DepthwiseSeparable(c(128), c(256), stride=2),
            DepthwiseSeparable(c(256), c(256)),
            DepthwiseSeparable(c(256), c(512)),
            DepthwiseSeparable(c(512), c(512), dilation=2),
            *(DepthwiseSeparable(c(512), c(512)) for _ in range(4)),
        )
        self.out_channels = c(512)


class AlignmentNeck(nn.Module):
    """Alignment block of Lightweight OpenPose: 1x1, three normless separable convolutions around a shortcut, 3x3."""

    def __init__(self, in_channels: int, channels: int) -> None:
        super().__init__()
        self.align = nn.Conv2d(in_channels, channels, 1)
        layers: list[nn.Module] = []
        for _ in range(3):
            layers += [
                nn.Conv2d(channels, channels, 3, padding=1, groups=channels, bias=False),
                nn.ELU(),
                nn.Conv2d(channels, channels, 1, bias=False),
                nn.ELU(),
            ]
        self.trunk = nn.Sequential(*layers)
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """Map ``[N, C_in, H, W]`` to ``[N, C, H, W]``."""
        x = F.relu(self.align(x))
        return F.relu(self.conv(x + self.trunk(x)))


class PyramidTrunk(nn.Module):
    """Dense residual encoder with a top-down path that ends at stride 8.

    Has no depthwise convolution, for the sake of training on a CPU. The top-down path (its neck) adds bilinearly
    upsampled coarse features to 1x1 laterals, then one 3x3.
    """

    def __init__(self, config: LspdConfig) -> None:
        super().__init__()
        channels, features = config.pyramid_channels, config.features
        self.stem = ConvNormAct(3, channels[0], 3, stride=2)
        self.levels = nn.ModuleList(
            nn.Sequential(ConvNormAct(low, high, 3, stride=2), *(ResidualBlock(high) for _ in range(count)))
            for low, high, count in zip(channels[:-1], channels[1:], config.pyramid_blocks, strict=True)
        )
        self.laterals = nn.ModuleList(ConvNormAct(high, features, act=False) for high in channels[2:])
        self.smooth = ConvNormAct(features, features, 3)
        self.detail = ConvNormAct(channels[1], config.detail, act=False) if config.detail else None

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor | None]:
        """Map a picture ``[N, 3, H, W]`` to features ``[N, C, H/8, W/8]`` and detail ``[N, D, H/4, W/4]``, if any."""
        x = self.levels[0](self.stem(x))
        detail = None if self.detail is None else self.detail(x)
        levels: list[Tensor] = []
        for level in list(self.levels)[1:]:
            x = level(x)
            levels.append(x)
        sides = [lateral(level) for lateral, level in zip(self.laterals, levels, strict=True)]
        top: Tensor = sides.pop()
        for side in reversed(sides):
            top = side + doubled(top)
        out: Tensor = self.smooth(F.relu(top))
        return out, detail


class StudentStage(nn.Module):
    """Pose stage: 1x1 in, n multiscale blocks, 1x1, 1x1 to K heatmaps.

    With detail the end is: 1x1 to D channels, upsampled bilinearly and added to the detail, 3x3, 1x1 to K heatmaps.
    """

    def __init__(self, in_channels: int, config: LspdConfig) -> None:
        super().__init__()
        wide = config.detail or config.features
        self.entry = ConvNormAct(in_channels, config.features)
        self.blocks = nn.Sequential(
            *(MultiscaleBlock(config.features, config.mid_channels, config.branches) for _ in range(config.blocks))
        )
        self.exit = ConvNormAct(config.features, wide, act=not config.detail)
        self.refine = ConvNormAct(wide, wide, 3) if config.detail else None
        self.heatmap = nn.Conv2d(wide, config.keypoints, 1)

    def forward(self, x: Tensor, detail: Tensor | None = None) -> Tensor:
        """Map features ``[N, C_in, h, w]`` to heatmaps ``[N, K, h, w]``, or ``[N, K, 2h, 2w]`` with detail."""
        y: Tensor = self.exit(self.blocks(self.entry(x)))
        if self.refine is not None and detail is not None:
            y = self.refine(F.relu(detail + doubled(y)))
        heatmaps: Tensor = self.heatmap(y)
        return heatmaps


class _MobileNetBackbone(nn.Sequential):
    """MobileNet trunk and its neck; has no detail."""

    def __init__(self, config: LspdConfig) -> None:
        trunk = MobileNetTrunk(config.width)
        super().__init__(trunk, AlignmentNeck(trunk.out_channels, config.features))

    def forward(self, x: Tensor) -> tuple[Tensor, None]:
        """Map a picture ``[N, 3, H, W]`` to features ``[N, C, H/8, W/8]``."""
        for module in self:
            x = module(x)
        return x, None


def _backbone(config: LspdConfig) -> nn.Module:
    return _MobileNetBackbone(config) if config.trunk == "mobilenet" else PyramidTrunk(config)


class LspdStudent(nn.Module):
    """What ships: backbone, neck and the first stage."""

    def __init__(self, config: LspdConfig) -> None:
        super().__init__()
        self.config = config
        self.backbone = _backbone(config)
        self.stage = StudentStage(config.features, config)
        initialise(self)

    def forward(self, pictures: Tensor) -> Tensor:
        """Map normalised pictures ``[N, 3, H, W]`` to heatmaps ``[N, K, H/stride, W/stride]``."""
        heatmaps: Tensor = self.stage(*self.backbone(pictures))
        return heatmaps


class LspdChain(nn.Module):
    """What trains: the student, and later stages that refine its heatmaps and teach it."""

    def __init__(self, config: LspdConfig) -> None:
        super().__init__()
        self.student = LspdStudent(config)
        self.finer = 8 // config.heatmap_stride
        later = replace(
            config,
            blocks=config.later_blocks or config.blocks,
            mid_channels=config.later_mid_channels or config.mid_channels,
        )
        self.refine = nn.ModuleList(
            StudentStage(config.features + config.keypoints * self.finer**2, later) for _ in range(config.stages - 1)
        )
        for stage in self.refine:
            initialise(stage)

    def forward(self, pictures: Tensor) -> list[Tensor]:
        """Give the heatmaps of every stage, first (the student's) to last, each ``[N, K, H/stride, W/stride]``."""
        features, detail = self.student.backbone(pictures)
        heatmaps = [self.student.stage(features, detail)]
        for stage in self.refine:
            # Heatmaps finer than the features are laid out as channels: nothing of them is lost.
            seen = F.pixel_unshuffle(heatmaps[-1], self.finer)
            heatmaps.append(stage(torch.cat((features, seen), dim=1), detail))
        return heatmaps
