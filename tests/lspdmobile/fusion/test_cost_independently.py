"""The counter against two independent ones, on a dozen networks: ours, foreign ones, and others written here.

PyTorch's ``FlopCounterMode`` has formulas of its own for every operator (two FLOPs per MAC). The second counter knows
modules instead of operators: forward hooks on convolutions and linear layers, as the papers' own scripts count.
"""

from collections.abc import Callable
from math import prod
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from lspdmobile.fusion.cost import cost_of
from lspdmobile.networks.hourglass import HourglassConfig, StackedHourglass
from lspdmobile.networks.hrnet import HrNet, HrNetConfig
from lspdmobile.networks.ldcrn import Ldcrn, LdcrnConfig
from lspdmobile.networks.lspd import LspdConfig, LspdStudent
from lspdmobile.networks.mobile_pose import MobilePose, MobilePoseConfig

SIZE = (64, 64)


class ResNet(nn.Module):
    """Two stages of basic blocks and a classifier."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 7, stride=2, padding=3)
        self.first = nn.Conv2d(8, 8, 3, padding=1, bias=False)
        self.second = nn.Conv2d(8, 16, 3, stride=2, padding=1, bias=False)
        self.shortcut = nn.Conv2d(8, 16, 1, stride=2)
        self.classes = nn.Linear(16, 10)

    def forward(self, x: Tensor) -> Tensor:
        """Map a picture to class scores."""
        x = F.max_pool2d(F.relu(self.stem(x)), 2)
        x = F.relu(x + self.first(x))
        x = F.relu(self.shortcut(x) + self.second(x))
        classes: Tensor = self.classes(x.mean(dim=(2, 3)))
        return classes


class SimpleBaseline(nn.Module):
    """Strided encoder, transposed convolutions up, heatmaps (Xiao et al., ECCV 2018)."""

    def __init__(self) -> None:
        super().__init__()
        self.down = nn.Sequential(*(nn.Conv2d(i, o, 3, 2, 1) for i, o in ((3, 8), (8, 12), (12, 16), (16, 24))))
        self.up = nn.Sequential(*(nn.ConvTranspose2d(i, o, 4, 2, 1) for i, o in ((24, 16), (16, 8))))
        self.heatmap = nn.Conv2d(8, 5, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Map a picture to heatmaps."""
        heatmaps: Tensor = self.heatmap(F.relu(self.up(F.relu(self.down(x)))))
        return heatmaps


class Shuffled(nn.Module):
    """Grouped, shuffled and dilated convolutions of unequal kernels."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 12, (3, 5), stride=(2, 1), padding=(1, 2))
        self.grouped = nn.Conv2d(12, 24, 3, groups=3, dilation=2)
        self.depthwise = nn.Conv2d(24, 48, (1, 3), groups=24)
        self.last = nn.Conv2d(48, 4, 1, groups=2)

    def forward(self, x: Tensor) -> Tensor:
        """Map a picture to a map of four channels."""
        x = F.channel_shuffle(self.grouped(F.hardswish(self.stem(x))), 3)
        last: Tensor = self.last(torch.sigmoid(self.depthwise(x)))
        return last


class MixerBlock(nn.Module):
    """Patches through linear layers along tokens and along channels."""

    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, 16, 8, stride=8)
        self.tokens = nn.Sequential(nn.Linear(64, 32), nn.GELU(), nn.Linear(32, 64))
        self.channels = nn.Sequential(nn.LayerNorm(16), nn.Linear(16, 40, bias=False), nn.GELU(), nn.Linear(40, 16))

    def forward(self, x: Tensor) -> Tensor:
        """Map a picture to tokens."""
        x = self.patches(x).flatten(2)
        x = x + self.tokens(x)
        mixed: Tensor = self.channels(x.mT)
        return mixed


class Tokens(nn.Module):
    """A foreign network, torch's own transformer encoder, over patches: products of activations as well."""

    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, 24, 16, stride=16)
        layer = nn.TransformerEncoderLayer(24, nhead=3, dim_feedforward=32, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, num_layers=2, enable_nested_tensor=False)

    def forward(self, x: Tensor) -> Tensor:
        """Map a picture to tokens."""
        tokens: Tensor = self.encoder(self.patches(x).flatten(2).mT)
        return tokens


def _lspd(**fields: Any) -> nn.Module:
    base: dict[str, Any] = {"keypoints": 5, "input_size": SIZE, "features": 8, "mid_channels": 6, "blocks": 1}
    return LspdStudent(LspdConfig(**{**base, **fields}))


NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "lspd, pyramid": lambda: _lspd(trunk="pyramid", detail=4, pyramid_channels=(4, 6, 8, 10), pyramid_blocks=(1, 1, 1)),
    "lspd, mobilenet": lambda: _lspd(trunk="mobilenet", width=0.125),
    "hourglass": lambda: StackedHourglass(HourglassConfig(keypoints=5, input_size=SIZE, stacks=2, channels=16)),
    "mobile pose": lambda: MobilePose(
        MobilePoseConfig(keypoints=5, input_size=SIZE, channels=(4, 6, 8, 10), blocks=(1, 2, 2, 1))
    ),
    "ldcrn": lambda: Ldcrn(
        LdcrnConfig(
            keypoints=5, input_size=SIZE, stem=8, widths=(4, 6, 8, 10), first_modules=1, modules=(1, 1, 1), layers=1
        )
    ),
    "hrnet": lambda: HrNet(HrNetConfig(keypoints=5, input_size=SIZE, widths=(4, 6, 8, 10), modules=(1, 1, 1))),
    "resnet": ResNet,
    "simple baseline": SimpleBaseline,
    "shuffled": Shuffled,
    "mixer": MixerBlock,
    "transformer": Tokens,
    "torch's ShuffleNet unit": lambda: nn.Sequential(nn.Conv2d(3, 8, 1), nn.ChannelShuffle(4), nn.Conv2d(8, 8, 3)),
}


def by_flop_counter(network: nn.Module) -> int:
    """Count with PyTorch's own counter."""
    with torch.device("meta"), torch.no_grad(), FlopCounterMode(display=False) as counter:
        network.to("meta")(torch.empty(1, 3, *SIZE))
    return int(counter.get_total_flops()) // 2


def by_hooks(network: nn.Module) -> int:
    """Count convolutions and linear layers by their modules and the shapes that pass them."""
    total = 0

    def count(module: nn.Module, args: tuple[Tensor, ...], out: Tensor) -> None:
        nonlocal total
        if isinstance(module, nn.ConvTranspose2d):
            total += args[0].numel() * module.out_channels // module.groups * prod(module.kernel_size)
        elif isinstance(module, nn.Conv2d):
            total += out.numel() * module.in_channels // module.groups * prod(module.kernel_size)
        elif isinstance(module, nn.Linear):
            total += out.numel() * module.in_features

    for module in network.modules():
        module.register_forward_hook(count)
    with torch.no_grad():
        network(torch.zeros(1, 3, *SIZE))
    return total


@pytest.mark.parametrize("name", NETWORKS)
def test_both_counters_and_the_exported_program_agree(name: str) -> None:
    network = NETWORKS[name]().eval()
    with torch.no_grad():
        program = torch.export.export(network, (torch.zeros(1, 3, *SIZE),))
    cost, exported = cost_of(network, SIZE), cost_of(program)
    assert (exported.macs, exported.params) == (cost.macs, sum(p.numel() for p in network.parameters()))
    if name != "transformer":  # its attention is no module
        assert by_hooks(network) == cost.macs
    assert by_flop_counter(network) == cost.macs > 0


def test_the_counters_by_hooks_and_by_operators_part_where_a_function_is_called() -> None:
    """A counter of modules misses functional operators; the comparison would show it."""

    class Functional(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return F.conv2d(x, torch.ones(2, 3, 3, 3, device=x.device))

    assert by_hooks(Functional()) == 0
    assert cost_of(Functional(), SIZE).macs == by_flop_counter(Functional()) == 2 * 62 * 62 * 27
