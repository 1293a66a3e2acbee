"""Stacked hourglass (Newell et al., ECCV 2016), in the widths and with the biases OKDHP deploys.

Stem to stride 4, then 2, 4 or 8 stacks. A stack is an hourglass of depth 4 (13 pre-activation bottlenecks), one more
bottleneck, a 1x1 with norm and ReLU, and a 1x1 to K heatmaps; a join adds the features and the heatmaps of a stack,
each through a 1x1, to what the stack read. All convolutions have biases. C is 256, or 128 for the narrow form.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from torch import Tensor, nn
from torch.nn import functional as F

from lspdmobile.networks.blocks import ConvNormAct, initialise
from lspdmobile.networks.config import NetworkConfig

__all__ = [
    "Bottleneck",
    "HourglassConfig",
    "Join",
    "Stack",
    "StackedHourglass",
    "chained",
    "joins_of",
    "stacks_of",
    "stem",
]

_DEPTH: Final = 4
_STRIDE: Final = 4


@dataclass(frozen=True, kw_only=True)
class HourglassConfig(NetworkConfig):
    """Everything that shapes a stacked hourglass as it ships.

    Attributes:
        stacks: Hourglasses one after the other.
        channels: Width C between stacks, 256 in the papers, 128 for FPD's student.
    """

    stacks: int
    channels: int = 256

    @property
    def size_step(self) -> int:
        """What both sides of the input picture are multiples of: stride 4, halved once per level."""
        return _STRIDE << _DEPTH


class Bottleneck(nn.Module):
    """Pre-activation bottleneck: norm, ReLU, 1x1, norm, ReLU, 3x3, norm, ReLU, 1x1, plus the input.

    The middle is half as wide as the output. Where the widths differ, the input goes through a bare 1x1.
    """

    def __init__(self, in_channels: int, channels: int) -> None:
        super().__init__()
        middle = channels // 2
        self.body = nn.Sequential(
            nn.BatchNorm2d(in_channels),
            nn.ReLU(),
            nn.Conv2d(in_channels, middle, 1),
            nn.BatchNorm2d(middle),
            nn.ReLU(),
            nn.Conv2d(middle, middle, 3, padding=1),
            nn.BatchNorm2d(middle),
            nn.ReLU(),
            nn.Conv2d(middle, channels, 1),
        )
        self.shortcut = nn.Identity() if in_channels == channels else nn.Conv2d(in_channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Map ``[N, C_in, H, W]`` to ``[N, C, H, W]``."""
        y: Tensor = self.shortcut(x) + self.body(x)
        return y


class _Hourglass(nn.Module):
    """Depth-4 hourglass: bottlenecks beside (skip), before (down) and after (up) each halving, one at the bottom."""

    def __init__(self, channels: int) -> None:
        super().__init__()

        def level() -> nn.ModuleList:
            return nn.ModuleList(Bottleneck(channels, channels) for _ in range(_DEPTH))

        self.skip, self.down, self.up = level(), level(), level()
        self.bottom = Bottleneck(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        """Map ``[N, C, H, W]`` to the same shape; H and W are multiples of 16."""
        skipped: list[Tensor] = []
        for skip, down in zip(self.skip, self.down, strict=True):
            skipped.append(skip(x))
            x = down(F.max_pool2d(x, 2))
        x = self.bottom(x)
        for up in self.up:
            x = skipped.pop() + F.interpolate(up(x), scale_factor=2.0, mode="nearest")
        return x


class Stack(nn.Module):
    """One hourglass with its heatmaps."""

    def __init__(self, channels: int, keypoints: int) -> None:
        super().__init__()
        self.features = nn.Sequential(
            _Hourglass(channels), Bottleneck(channels, channels), ConvNormAct(channels, channels, bias=True)
        )
        self.heatmap = nn.Conv2d(channels, keypoints, 1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Map ``[N, C, h, w]`` to features of the same shape and heatmaps ``[N, K, h, w]``."""
        features = self.features(x)
        return features, self.heatmap(features)


class Join(nn.Module):
    """What the next stack reads: input, features and heatmaps of the stack before, added."""

    def __init__(self, channels: int, keypoints: int) -> None:
        super().__init__()
        self.features = nn.Conv2d(channels, channels, 1)
        self.heatmaps = nn.Conv2d(keypoints, channels, 1)

    def forward(self, x: Tensor, features: Tensor, heatmaps: Tensor) -> Tensor:
        """Map ``[N, C, h, w]`` twice and ``[N, K, h, w]`` to ``[N, C, h, w]``."""
        y: Tensor = x + self.features(features) + self.heatmaps(heatmaps)
        return y


def stem(channels: int) -> nn.Sequential:
    """Make the layers before the stacks: a picture ``[N, 3, H, W]`` to ``[N, C, H/4, W/4]``."""
    return nn.Sequential(
        ConvNormAct(3, channels // 4, 7, stride=2, bias=True),
        Bottleneck(channels // 4, channels // 2),
        nn.MaxPool2d(2),
        Bottleneck(channels // 2, channels),
        Bottleneck(channels, channels),
    )


def stacks_of(config: HourglassConfig, count: int) -> nn.ModuleList:
    """Make that many stacks."""
    return nn.ModuleList(Stack(config.channels, config.keypoints) for _ in range(count))


def joins_of(config: HourglassConfig, count: int) -> nn.ModuleList:
    """Make that many joins."""
    return nn.ModuleList(Join(config.channels, config.keypoints) for _ in range(count))


def chained(x: Tensor, stacks: Iterable[nn.Module], joins: Iterable[nn.Module]) -> tuple[Tensor, list[Tensor]]:
    """Run stacks one after the other, each followed by its join while there is one.

    Returns:
        What the next stack would read (meaningless where the last stack has no join), and each stack's heatmaps.
    """
    found: list[Tensor] = []
    following = iter(joins)
    for stack in stacks:
        features, heatmaps = stack(x)
        found.append(heatmaps)
        join = next(following, None)
        if join is not None:
            x = join(x, features, heatmaps)
    return x, found


class StackedHourglass(nn.Module):
    """What ships: stem, stacks and the joins between them."""

    def __init__(self, config: HourglassConfig) -> None:
        super().__init__()
        self.config = config
        self.stem = stem(config.channels)
        self.stacks = stacks_of(config, config.stacks)
        self.joins = joins_of(config, config.stacks - 1)
        initialise(self)

    def forward(self, pictures: Tensor) -> Tensor:
        """Map normalised pictures ``[N, 3, H, W]`` to the last stack's heatmaps ``[N, K, H/4, W/4]``."""
        return chained(self.stem(pictures), self.stacks, self.joins)[1][-1]
