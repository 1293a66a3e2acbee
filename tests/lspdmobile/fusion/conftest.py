"""Fusing a block and counting what is left of it, and a network that has one of each place a rewrite may go wrong."""

from collections import Counter
from collections.abc import Callable
from functools import cache
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from lspdmobile.fusion import Certificate, Fused, fuse, randomise_norms
from lspdmobile.fusion.fusing import fuse_captured
from lspdmobile.fusion.graph import Captured, capture
from lspdmobile.fusion.largest_kernel import LargestKernel
from lspdmobile.fusion.planner import Planner

CHANNELS = 6


@pytest.fixture
def fused() -> Callable[..., Fused]:
    """Give a function that fuses a block of six input channels whose norms are nowhere near the identity."""

    def fused(block: nn.Module) -> Fused:
        block = block.eval()
        randomise_norms(block, torch.Generator().manual_seed(2))
        return fuse(block, inputs=(torch.randn(1, CHANNELS, 11, 12),))

    return fused


@pytest.fixture
def operators() -> Callable[[Fused], Counter[str]]:
    """Give a function that counts what a fused network computes: layers by class and kernel, operators by name."""

    def operators(found: Fused) -> Counter[str]:
        counts: Counter[str] = Counter()
        for node in found.network.graph.nodes:
            if node.op == "call_module":
                layer = found.network.get_submodule(str(node.target))
                kernel = " {}x{}".format(*layer.kernel_size) if isinstance(layer, nn.Conv2d) else ""
                counts[type(layer).__name__ + kernel] += 1
            elif node.op == "call_function":
                counts[node.target.__name__.partition(".")[0]] += 1
        return counts

    return operators


class Everything(nn.Module):
    """One of each place a rewrite may go wrong, small enough to be certified in a second."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.ZeroPad2d(1), nn.Conv2d(3, 4, 3, bias=False), nn.BatchNorm2d(4), nn.ReLU())
        self.dense = nn.Sequential(nn.Conv2d(4, 4, 3, padding=1, bias=False), nn.BatchNorm2d(4))
        self.wide = nn.Sequential(nn.Conv2d(4, 4, 3, padding=2, dilation=2), nn.BatchNorm2d(4))
        self.pool = nn.Sequential(nn.AvgPool2d(3, 1, 1), nn.BatchNorm2d(4))
        self.identity = nn.BatchNorm2d(4)
        self.thin, self.thick = nn.Conv2d(4, 12, 1), nn.Conv2d(12, 3, 1)
        self.pad_norm = nn.Sequential(nn.BatchNorm2d(3), nn.Conv2d(3, 4, 3))
        self.up = nn.Sequential(nn.ConvTranspose2d(4, 4, 2, 2), nn.BatchNorm2d(4))
        self.left, self.right = nn.Conv2d(4, 2, 1), nn.Conv2d(4, 3, 1)
        self.upper, self.lower = (nn.Conv2d(2, 2, 3, padding=1, groups=2) for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        """See the class."""
        x = self.stem(x)
        x = torch.relu(self.dense(x) + self.wide(x) + self.pool(x) + self.identity(x))
        x = torch.nn.functional.pad(self.thick(self.thin(x)), (1, 1, 1, 1))
        x = torch.relu(self.up(self.pad_norm(x)))
        upper, lower = torch.split(x, 2, dim=1)
        y = torch.relu(torch.cat((self.upper(upper), self.lower(lower)), dim=1))
        return torch.cat((self.left(x), self.right(x), y), dim=1)


def network(*, fresh: bool = False) -> nn.Module:
    torch.manual_seed(3)
    module = Everything().eval()
    if not fresh:
        randomise_norms(module, torch.Generator().manual_seed(1))
    return module


@cache
def captured_network(forward: Any, *, fresh: bool = False) -> Captured:
    """Export once for each form the network's code takes."""
    assert Everything.forward is forward
    return capture(network(fresh=fresh), (torch.randn(1, 3, 12, 11),))


@pytest.fixture
def everything() -> type[Everything]:
    """Give the class of the network, to change its code."""
    return Everything


@pytest.fixture
def captured() -> Callable[..., Captured]:
    """Give a function that captures the network; ``fresh`` leaves its norms as they were made."""
    return lambda **options: captured_network(Everything.forward, **options)


@pytest.fixture
def certify(captured: Callable[..., Captured]) -> Callable[..., Certificate]:
    """Give a function that fuses the network and gives its certificate; raises where that fails."""
    planner = Planner(model=LargestKernel())
    return lambda **options: fuse_captured(captured(**options), planner).certificate
