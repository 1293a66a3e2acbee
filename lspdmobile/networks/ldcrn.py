"""LDCRN (Yang, Qin and Zhang, JRTIP 2020): HRNet with densely connected residual modules in place of basic blocks.

A dense residual layer reads the concatenation of all before it and adds a bottleneck path and a 3x3 shortcut into a few
new channels; four of them, concatenated, are a module (DCRM); a transition brings the width back. Fewer modules per
stage than HRNet, a top-down pyramid over the four scales at the end, and a sum with what every stage gave at stride 4.

The light form is ours, made for phones: every convolution comes before its norm (so that all norms fold, where the
paper's order leaves two of five in front of a ReLU), shortcuts and transitions are 1x1, steps down are separable and
steps up bilinear by two.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lspdmobile.networks.blocks import ConvNormAct, doubled, initialise
from lspdmobile.networks.config import NetworkConfig
from lspdmobile.networks.hrnet import HrModule, Transition, hr_stem

__all__ = ["DenseResidualLayer", "DenseResidualModule", "Ldcrn", "LdcrnConfig"]


@dataclass(frozen=True, kw_only=True)
class LdcrnConfig(NetworkConfig):
    """Everything that shapes an LDCRN; the defaults are the paper's.

    Attributes:
        stem: Channels of the stem, at strides 2 and 4.
        widths: Channels at strides 4, 8, 16, 32.
        first_modules: Dense modules of layer 1, at stride 4.
        modules: Modules of stages 2, 3, 4.
        layers: Dense residual layers of a module.
        growth: Channels each of them adds, at strides 4, 8, 16, 32; 12 everywhere in the paper.
        bottleneck: Width inside its main path, in units of the growth.
        light: The form for phones.
    """

    stem: int = 64
    widths: tuple[int, ...] = (32, 64, 128, 256)
    first_modules: int = 4
    modules: tuple[int, ...] = (1, 2, 2)
    layers: int = 4
    growth: tuple[int, ...] = (12, 12, 12, 12)
    bottleneck: int = 4
    light: bool = False


class DenseResidualLayer(nn.Module):
    """Main path norm, ReLU, 1x1, norm, ReLU, 3x3; shortcut 3x3, norm; their sum through a ReLU.

    Light: main path 1x1, norm, ReLU, 3x3, norm; shortcut 1x1, norm. No convolution has a bias.
    """

    def __init__(self, in_channels: int, growth: int, config: LdcrnConfig) -> None:
        super().__init__()
        middle = growth * config.bottleneck
        if config.light:
            self.main = nn.Sequential(ConvNormAct(in_channels, middle), ConvNormAct(middle, growth, 3, act=False))
        else:
            self.main = nn.Sequential(
                nn.BatchNorm2d(in_channels),
                nn.ReLU(),
                ConvNormAct(in_channels, middle),
                nn.Conv2d(middle, growth, 3, padding=1, bias=False),
            )
        self.shortcut = ConvNormAct(in_channels, growth, 1 if config.light else 3, act=False)

    def forward(self, x: Tensor) -> Tensor:
        """Map ``[N, C_in, h, w]`` to the new channels ``[N, growth, h, w]``."""
        return F.relu(self.main(x) + self.shortcut(x))


class DenseResidualModule(nn.Module):
    """DCRM: layers that each read everything before them."""

    def __init__(self, channels: int, growth: int, config: LdcrnConfig) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            DenseResidualLayer(channels + i * growth, growth, config) for i in range(config.layers)
        )
        self.out_channels = channels + config.layers * growth

    def forward(self, x: Tensor) -> Tensor:
        """Map ``[N, C, h, w]`` to ``[N, C + layers * growth, h, w]``: the input, then what each layer adds."""
        for layer in self.layers:
            x = torch.cat((x, layer(x)), dim=1)
        return x


def _narrowed(in_channels: int, channels: int, config: LdcrnConfig) -> nn.Module:
    """Make the transition after a dense module: norm, ReLU, 3x3 without bias; light: 1x1, norm, ReLU."""
    if config.light:
        return ConvNormAct(in_channels, channels)
    return nn.Sequential(
        nn.BatchNorm2d(in_channels), nn.ReLU(), nn.Conv2d(in_channels, channels, 3, padding=1, bias=False)
    )


def _first_layer(config: LdcrnConfig) -> tuple[nn.Sequential, int]:
    """Make layer 1, dense modules with a transition of unchanged width between them; give it and its output's width."""
    parts: list[nn.Module] = []
    channels = config.stem
    for i in range(config.first_modules):
        if i:
            parts.append(_narrowed(channels, channels, config))
        module = DenseResidualModule(channels, config.growth[0], config)
        parts.append(module)
        channels = module.out_channels
    return nn.Sequential(*parts), channels


class _Pyramid(nn.Module):
    """1x1 of each scale to the finest one's width, then top-down: bilinear upsampling and sum."""

    def __init__(self, widths: Sequence[int]) -> None:
        super().__init__()
        self.laterals = nn.ModuleList(nn.Conv2d(channels, widths[0], 1) for channels in widths)

    def forward(self, scales: Sequence[Tensor]) -> Tensor:
        """Map S scales, finest first, to ``[N, C, h, w]`` at the finest."""
        sides = [lateral(x) for lateral, x in zip(self.laterals, scales, strict=True)]
        top: Tensor = sides.pop()
        while sides:
            top = sides.pop() + doubled(top)
        return top


class Ldcrn(nn.Module):
    """The whole network, as it trains and as it ships."""

    def __init__(self, config: LdcrnConfig) -> None:
        super().__init__()
        self.config = config
        self.stem = hr_stem(config.stem)
        self.residual = ConvNormAct(config.stem, config.widths[0], 3, act=False)
        self.layer1, wide = _first_layer(config)
        self.transitions = nn.ModuleList()
        self.stages = nn.ModuleList()
        before: Sequence[int] = (wide,)
        for scales, modules in enumerate(config.modules, start=2):
            widths = config.widths[:scales]
            self.transitions.append(Transition(before, widths, light=config.light))
            self.stages.append(nn.Sequential(*(self._module(widths, config) for _ in range(modules))))
            before = widths
        self.pyramid = _Pyramid(config.widths)
        self.heatmap = nn.Conv2d(config.widths[0], config.keypoints, 1)
        initialise(self)

    @staticmethod
    def _module(widths: Sequence[int], config: LdcrnConfig) -> HrModule:
        def branch(scale: int) -> nn.Module:
            dense = DenseResidualModule(widths[scale], config.growth[scale], config)
            return nn.Sequential(dense, _narrowed(dense.out_channels, widths[scale], config))

        return HrModule(widths, branch, light=config.light)

    def forward(self, pictures: Tensor) -> Tensor:
        """Map normalised pictures ``[N, 3, H, W]`` to heatmaps ``[N, K, H/4, W/4]``."""
        start = self.stem(pictures)
        total = self.residual(start)
        scales = [self.layer1(start)]
        for transition, stage in zip(self.transitions, self.stages, strict=True):
            scales = stage(transition(scales))
            total = total + scales[0]
        heatmaps: Tensor = self.heatmap(F.relu(total + self.pyramid(scales)))
        return heatmaps
