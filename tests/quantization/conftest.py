"""A small network with every operator a fused student has, its pictures and its plan, and one with a planted fault."""

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from lspdmobile.choices import Precision
from quantization.calibrate import calibrate
from quantization.plan import QuantizationPlan


class Branched(nn.Module):
    """Convolutions with and without ReLU, a depthwise one, an addition, a resize; one tensor that two layers read."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1, stride=2)
        self.down = nn.Conv2d(8, 8, 3, padding=1, stride=2)
        self.depthwise = nn.Conv2d(8, 8, 5, padding=2, groups=8)
        self.head = nn.Conv2d(8, 4, 1)

    def forward(self, pictures: Tensor) -> Tensor:
        """Map ``[1, 3, H, W]`` to ``[1, 4, H/2, W/2]``."""
        x = F.relu(self.stem(pictures))
        y = F.relu(self.depthwise(self.down(x)))
        up = F.interpolate(y, scale_factor=2.0, mode="bilinear", align_corners=False)
        heatmaps: Tensor = self.head(F.relu(x + up))
        return heatmaps


@pytest.fixture
def branched() -> Branched:
    return Branched().eval()


@pytest.fixture
def loud(branched: Branched) -> Branched:
    """The same function, but channel 3 of the depthwise layer's input is 40 times as loud as it was."""
    with torch.no_grad():
        branched.down.weight[3] *= 40
        assert branched.down.bias is not None
        branched.down.bias[3] *= 40
        branched.depthwise.weight[3] /= 40
    return branched


@pytest.fixture
def few_pictures() -> NDArray[np.float32]:
    return np.random.default_rng(0).normal(size=(4, 3, 16, 16)).astype(np.float32)


@pytest.fixture
def branched_plan(branched: Branched, few_pictures: NDArray[np.float32]) -> QuantizationPlan:
    return calibrate(branched, few_pictures, precision=Precision.W8A8)
