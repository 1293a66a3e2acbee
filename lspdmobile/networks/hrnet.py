"""HRNet (Sun et al., CVPR 2019): branches at strides 4, 8, 16 and 32 that exchange features after every module.

HRNet-W32 is the yardstick LDCRN measures itself against; LDCRN keeps its stem, its transitions and its exchange.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from torch import Tensor, nn
from torch.nn import functional as F

from lspdmobile.networks.blocks import ConvNormAct, DepthwiseSeparable, ResidualBlock, doubled, initialise
from lspdmobile.networks.config import NetworkConfig

__all__ = ["Exchange", "HrModule", "HrNet", "HrNetConfig", "Transition", "hr_stem"]

_STEM: Final = 64
_BASIC_BLOCKS: Final = 4
_BOTTLENECKS: Final = 4
_BOTTLENECK_EXPANSION: Final = 4


@dataclass(frozen=True, kw_only=True)
class HrNetConfig(NetworkConfig):
    """Everything that shapes an HRNet.

    Attributes:
        widths: Channels at strides 4, 8, 16, 32; W32 is 32, 64, 128, 256.
        modules: Modules of stages 2, 3, 4.
    """

    widths: tuple[int, ...] = (32, 64, 128, 256)
    modules: tuple[int, ...] = (1, 4, 3)


def hr_stem(channels: int) -> nn.Sequential:
    """Make two 3x3 at stride 2: a picture ``[N, 3, H, W]`` to ``[N, C, H/4, W/4]``."""
    return nn.Sequential(ConvNormAct(3, channels, 3, stride=2), ConvNormAct(channels, channels, 3, stride=2))


class _Bottleneck(nn.Module):
    """ResNet bottleneck: 1x1, 3x3, 1x1 to four times the width, around a shortcut; ReLU after the sum."""

    def __init__(self, in_channels: int, middle: int) -> None:
        super().__init__()
        channels = middle * _BOTTLENECK_EXPANSION
        self.body = nn.Sequential(
            ConvNormAct(in_channels, middle), ConvNormAct(middle, middle, 3), ConvNormAct(middle, channels, act=False)
        )
        same = in_channels == channels
        self.shortcut = nn.Identity() if same else ConvNormAct(in_channels, channels, act=False)

    def forward(self, x: Tensor) -> Tensor:
        """Map ``[N, C_in, H, W]`` to ``[N, 4 middle, H, W]``."""
        return F.relu(self.shortcut(x) + self.body(x))


class Transition(nn.Module):
    """Begins a stage: adapts each scale whose width changes by a 3x3, and adds the next one by a 3x3 at stride 2."""

    def __init__(self, before: Sequence[int], after: Sequence[int], *, light: bool = False) -> None:
        super().__init__()
        self.adapt = nn.ModuleList(
            nn.Identity() if low == high else ConvNormAct(low, high, 3)
            for low, high in zip(before, after, strict=False)
        )
        new: nn.Module = (
            DepthwiseSeparable(before[-1], after[-1], stride=2)
            if light
            else ConvNormAct(before[-1], after[-1], 3, stride=2)
        )
        self.coarser = new

    def forward(self, scales: Sequence[Tensor]) -> list[Tensor]:
        """Map S scales, finest first, to S + 1."""
        return [*(adapt(x) for adapt, x in zip(self.adapt, scales, strict=True)), self.coarser(scales[-1])]


class _Up(nn.Module):
    """1x1 with norm, then upsampling by 2 to the number of steps: nearest at once, or bilinear step by step (light)."""

    def __init__(self, in_channels: int, channels: int, *, steps: int, light: bool) -> None:
        super().__init__()
        self.project = ConvNormAct(in_channels, channels, act=False)
        self.steps, self.light = steps, light

    def forward(self, x: Tensor) -> Tensor:
        """Map ``[N, C_in, h, w]`` to ``[N, C, 2^steps h, 2^steps w]``."""
        x = self.project(x)
        if not self.light:
            return F.interpolate(x, scale_factor=float(2**self.steps), mode="nearest")
        for _ in range(self.steps):
            x = doubled(x)
        return x


def _down(in_channels: int, channels: int, *, steps: int, light: bool) -> nn.Sequential:
    """Make 3x3 at stride 2, that often; all but the last keep the width and have a ReLU. Light: separable ones."""
    make = _separable_half if light else _half
    kept = (make(in_channels, in_channels, act=True) for _ in range(steps - 1))
    return nn.Sequential(*kept, make(in_channels, channels, act=False))


def _half(in_channels: int, channels: int, *, act: bool) -> nn.Module:
    return ConvNormAct(in_channels, channels, 3, stride=2, act=act)


def _separable_half(in_channels: int, channels: int, *, act: bool) -> nn.Module:
    return DepthwiseSeparable(in_channels, channels, stride=2, act=act)


class Exchange(nn.Module):
    """Every scale receives the sum of all scales, brought to its resolution and width; ReLU after the sum.

    Args:
        widths: Channels of the S scales, finest first.
        outputs: How many of the finest scales are made.
        light: Separable steps down and bilinear steps up instead of dense and nearest ones.
    """

    def __init__(self, widths: Sequence[int], *, outputs: int, light: bool = False) -> None:
        super().__init__()
        self.paths = nn.ModuleList(
            nn.ModuleList(self._path(widths, source, target, light) for source in range(len(widths)))
            for target in range(outputs)
        )

    @staticmethod
    def _path(widths: Sequence[int], source: int, target: int, light: bool) -> nn.Module:
        if source == target:
            return nn.Identity()
        if source > target:
            return _Up(widths[source], widths[target], steps=source - target, light=light)
        return _down(widths[source], widths[target], steps=target - source, light=light)

    def forward(self, scales: Sequence[Tensor]) -> list[Tensor]:
        """Map S scales, finest first, to ``outputs`` scales of the same shapes."""
        found: list[Tensor] = []
        for paths in self.paths:
            assert isinstance(paths, nn.ModuleList)
            total, *others = (path(x) for path, x in zip(paths, scales, strict=True))
            for other in others:
                total = total + other
            found.append(F.relu(total))
        return found


class HrModule(nn.Module):
    """Layers for each scale by itself, then an exchange.

    Args:
        widths: Channels of the S scales, finest first.
        branch: Makes the layers of a scale, given its place among the widths; they keep its width.
        outputs: How many of the finest scales come out; all if not said.
        light: Form of the exchange.
    """

    def __init__(
        self,
        widths: Sequence[int],
        branch: Callable[[int], nn.Module],
        *,
        outputs: int | None = None,
        light: bool = False,
    ) -> None:
        super().__init__()
        self.branches = nn.ModuleList(branch(scale) for scale in range(len(widths)))
        self.exchange = Exchange(widths, outputs=outputs or len(widths), light=light)

    def forward(self, scales: Sequence[Tensor]) -> list[Tensor]:
        """Map S scales, finest first, to as many, or to the ``outputs`` finest."""
        found: list[Tensor] = self.exchange([b(x) for b, x in zip(self.branches, scales, strict=True)])
        return found


def _module(widths: Sequence[int], *, outputs: int) -> HrModule:
    def branch(scale: int) -> nn.Module:
        return nn.Sequential(*(ResidualBlock(widths[scale]) for _ in range(_BASIC_BLOCKS)))

    return HrModule(widths, branch, outputs=outputs)


class HrNet(nn.Module):
    """The whole network; its heatmaps come from the finest scale."""

    def __init__(self, config: HrNetConfig) -> None:
        super().__init__()
        self.config = config
        wide = _STEM * _BOTTLENECK_EXPANSION
        self.stem = hr_stem(_STEM)
        self.layer1 = nn.Sequential(
            _Bottleneck(_STEM, _STEM), *(_Bottleneck(wide, _STEM) for _ in range(_BOTTLENECKS - 1))
        )
        self.transitions = nn.ModuleList()
        self.stages = nn.ModuleList()
        before: Sequence[int] = (wide,)
        for scales, modules in enumerate(config.modules, start=2):
            widths = config.widths[:scales]
            self.transitions.append(Transition(before, widths))
            ends = scales == len(config.widths)
            kept = [scales] * (modules - 1) + [1 if ends else scales]
            self.stages.append(nn.Sequential(*(_module(widths, outputs=outputs) for outputs in kept)))
            before = widths
        self.heatmap = nn.Conv2d(config.widths[0], config.keypoints, 1)
        initialise(self)

    def forward(self, pictures: Tensor) -> Tensor:
        """Map normalised pictures ``[N, 3, H, W]`` to heatmaps ``[N, K, H/4, W/4]``."""
        scales = [self.layer1(self.stem(pictures))]
        for transition, stage in zip(self.transitions, self.stages, strict=True):
            scales = stage(transition(scales))
        heatmaps: Tensor = self.heatmap(scales[0])
        return heatmaps
