"""Networks drawn at random, operator by operator: whatever is rewritten in them is certified, and nothing crashes."""

import random
from collections.abc import Callable
from typing import Final

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lspdmobile.fusion import fuse, randomise_norms

CHANNELS: Final = 4
QUICK, MANY = 12, 250


def any_convolution(chance: random.Random, channels: int = CHANNELS) -> nn.Module:
    """A convolution that keeps size and channels."""
    side, dilation = chance.choice([1, 1, 3, 3, 5]), chance.choice([1, 1, 2, 3])
    return nn.Conv2d(
        channels,
        channels,
        side,
        padding=dilation * (side // 2),
        dilation=dilation,
        groups=chance.choice([1, 2, channels]),
        bias=chance.random() < 0.5,
    )


class Halves(nn.Module):
    """A convolution for either half of the channels, concatenated, now and then the wrong way round."""

    def __init__(self, chance: random.Random) -> None:
        super().__init__()
        self.first, self.second = (any_convolution(chance, CHANNELS // 2) for _ in range(2))
        self.how, self.swapped = chance.choice(["chunk", "split", "slice", "same"]), chance.random() < 0.2

    def forward(self, x: Tensor) -> Tensor:
        """Map ``[N, C, H, W]`` to the same shape."""
        half = CHANNELS // 2
        ways: dict[str, Callable[[], tuple[Tensor, ...]]] = {
            "chunk": lambda: torch.chunk(x, 2, dim=1),
            "split": lambda: torch.split(x, [half, half], dim=-3),
            "slice": lambda: (x[:, :half], x[:, -half:]),
            "same": lambda: (x[:, half:], x[:, half:]),
        }
        one, other = ways[self.how]()
        made = self.first(one), self.second(other)
        return torch.cat(made[::-1] if self.swapped else made, dim=1)


class AnyGraph(nn.Module):
    """Up to sixteen operators in a row, each on some earlier value or two of them."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        self.chance = chance = random.Random(seed)
        self.layers = nn.ModuleList()
        self.steps: list[tuple[str, tuple[int, ...], int]] = []
        kinds = (
            ["conv"] * 4
            + ["norm"] * 3
            + ["add"] * 4
            + ["sub", "scale", "pool", "relu", "relu6", "again", "unpad", "cat", "halves", "halves"]
        )
        for number in range(chance.randint(4, 16)):
            kind = chance.choice(kinds)
            recent = [max(0, number - chance.choice([0, 0, 1, 2, 3])) for _ in range(2)]
            self.steps.append((kind, tuple(recent), len(self.layers)))
            self.layers.append(self._layer(kind))
        self.scale = nn.Parameter(torch.randn(CHANNELS, 1, 1))

    def _layer(self, kind: str) -> nn.Module:
        if kind == "norm":
            return nn.BatchNorm2d(CHANNELS)
        if kind == "pool":
            return nn.AvgPool2d(3, 1, 1, count_include_pad=self.chance.random() < 0.5)
        if kind == "halves":
            return Halves(self.chance)
        if kind == "cat":
            return nn.Conv2d(2 * CHANNELS, CHANNELS, 1)
        if kind == "unpad":
            return nn.Conv2d(CHANNELS, CHANNELS, 3, bias=self.chance.random() < 0.5)
        return any_convolution(self.chance)

    def forward(self, x: Tensor) -> Tensor:
        """Map ``[N, C, H, W]`` to the sum of the last two values."""
        values = [x]
        for kind, (first, second), index in self.steps:
            a, b, layer = values[first], values[second], self.layers[index]
            if kind in ("conv", "norm", "pool", "halves"):
                values.append(layer(a))
            elif kind == "unpad":
                values.append(layer(F.pad(a, (1, 1, 1, 1))))
            elif kind == "again":
                values.append(self.layers[self.steps[0][2]](a) if self.steps[0][0] in ("conv", "norm") else a)
            else:
                values.append(self._combined(kind, a, b, layer))
        return values[-1] + values[-2]

    def _combined(self, kind: str, a: Tensor, b: Tensor, layer: nn.Module) -> Tensor:
        combinations: dict[str, Callable[[], Tensor]] = {
            "add": lambda: a + b,
            "sub": lambda: torch.sub(a, b, alpha=2),
            "scale": lambda: a * self.scale - 0.5,
            "relu": lambda: F.relu(a),
            "relu6": lambda: F.relu6(a),
            "cat": lambda: layer(torch.cat((a, b), dim=1)),
        }
        return combinations[kind]()


def certified(seed: int) -> int:
    """Fuse one random network; give the number of rewritten places."""
    torch.manual_seed(seed)
    network = AnyGraph(seed).eval()
    randomise_norms(network, torch.Generator().manual_seed(seed))
    found = fuse(network, inputs=(torch.randn(1, CHANNELS, 9, 10),), seed=seed, largest_kernel=(3, 5, 9)[seed % 3])
    assert found.certificate.passed
    assert found.certificate.operators_after <= found.certificate.operators_before
    return len(found.certificate.sites)


def test_random_networks_are_certified() -> None:
    assert sum(certified(seed) for seed in range(QUICK)) > QUICK


@pytest.mark.slow
def test_many_random_networks_are_certified() -> None:
    assert sum(certified(seed) for seed in range(QUICK, QUICK + MANY)) > MANY
