"""Tiny networks with what quantization methods look for."""

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

SIZE = (12, 12)


class Residual(nn.Module):
    """Stem, depthwise layer, a residual block, a pyramid's two levels concatenated, and a head."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1, stride=2)
        self.depthwise = nn.Conv2d(8, 8, 3, padding=1, groups=8)
        self.project = nn.Conv2d(8, 8, 1)
        self.down = nn.Conv2d(8, 6, 3, padding=1, stride=2)
        self.head = nn.Conv2d(14, 4, 1)

    def forward(self, pictures: Tensor) -> Tensor:
        """Map ``[1, 3, H, W]`` to ``[1, 4, H/2, W/2]``."""
        x = F.relu(self.stem(pictures))
        x = F.relu(x + self.project(F.relu(self.depthwise(x))))
        low = F.interpolate(F.relu(self.down(x)), scale_factor=2.0, mode="bilinear", align_corners=False)
        heatmaps: Tensor = self.head(torch.cat([x, low], 1))
        return heatmaps


@pytest.fixture
def network() -> Residual:
    """The network in eval mode, seeded."""
    torch.manual_seed(3)
    return Residual().eval()


@pytest.fixture
def pictures() -> NDArray[np.float32]:
    """Eight pictures whose neighbouring pixels resemble each other."""
    return smooth_pictures(8, seed=5)


@pytest.fixture
def many_pictures() -> NDArray[np.float32]:
    """Forty."""
    return smooth_pictures(40, seed=6)


@pytest.fixture
def fresh_pictures() -> NDArray[np.float32]:
    """Sixteen others."""
    return smooth_pictures(16, seed=9)


def smooth_pictures(count: int, *, seed: int) -> NDArray[np.float32]:
    """Draw pictures of 3x3 coloured squares."""
    coarse = np.random.default_rng(seed).standard_normal((count, 3, 3, 3)).astype(np.float32)
    return np.ascontiguousarray(coarse.repeat(4, axis=2).repeat(4, axis=3))
