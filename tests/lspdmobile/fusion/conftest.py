"""Fusing a block and counting what is left of it."""

from collections import Counter
from collections.abc import Callable

import pytest
import torch
from torch import nn

from lspdmobile.fusion import Fused, fuse, randomise_norms

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
                counts[str(node.target).split(".")[1]] += 1
        return counts

    return operators
