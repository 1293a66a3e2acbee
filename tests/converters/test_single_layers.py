"""Networks of one layer: what each runtime computes in integers is the simulation's, within one step of the grid.

The layer under test reads integers that every runtime makes alike: a 1x1 convolution in front of it copies the
picture's channels, its weights are 127 steps and its grid is the picture's.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from converters import FORMATS, coreml, tflite
from lspdmobile.artifact import EmitRequest
from lspdmobile.choices import Format, Precision
from lspdmobile.deviation import Deviation, TensorSteps
from quantization.calibrate import calibrate
from quantization.graph import activation_grids, quantized_module
from quantization.layerwise import layer_by_layer

SIZE = (16, 12)
WIDTH = 12
Array = NDArray[np.float32]


class Copied(nn.Module):
    """Repeats the picture's channels, times a gain, which changes the grid but not the integers."""

    def __init__(self, gain: float = 1.0) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, WIDTH, 1, bias=False)
        with torch.no_grad():
            self.conv.weight.copy_(gain * torch.eye(3).repeat(WIDTH // 3, 1)[:, :, None, None])

    def forward(self, x: Tensor) -> Tensor:
        """Map ``[N, 3, H, W]`` to ``[N, 12, H, W]``."""
        y: Tensor = self.conv(x)
        return y


class One(nn.Module):
    """A layer behind the copied picture."""

    def __init__(self, *layers: nn.Module) -> None:
        super().__init__()
        self.source, self.layers = Copied(), nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        """Map a picture."""
        y: Tensor = self.layers(self.source(x))
        return y


class Resized(One):
    """A resize behind the copied picture."""

    def __init__(self, mode: str, size: tuple[int, int]) -> None:
        super().__init__()
        self.mode, self.size = mode, size

    def forward(self, x: Tensor) -> Tensor:
        """Map a picture to rows and columns of another number."""
        return F.interpolate(self.source(x), self.size, mode=self.mode)


class Two(nn.Module):
    """An operator on the copied picture and on the same at another scale."""

    def __init__(self, operator: Callable[[Tensor, Tensor], Tensor]) -> None:
        super().__init__()
        self.left, self.right, self.operator = Copied(), Copied(0.37), operator

    def forward(self, x: Tensor) -> Tensor:
        """Map a picture."""
        return self.operator(self.left(x), self.right(x))


def _conv(size: int, **options: int) -> nn.Module:
    return nn.Conv2d(WIDTH, options.pop("channels", 8), size, **options)  # type: ignore[arg-type]


NETWORKS: Final[dict[str, Callable[[], nn.Module]]] = {
    "3x3 padded": lambda: One(_conv(3, padding=1)),
    "1x1": lambda: One(_conv(1)),
    "3x3 unpadded": lambda: One(_conv(3)),
    "stride 2": lambda: One(_conv(3, stride=2, padding=1)),
    "dilated": lambda: One(_conv(3, padding=2, dilation=2)),
    "grouped": lambda: One(_conv(3, padding=1, groups=4)),
    "relu": lambda: One(_conv(3, padding=1), nn.ReLU()),
    "relu6": lambda: One(_conv(3, padding=1), nn.ReLU6()),
    "depthwise relu6": lambda: One(_conv(3, channels=WIDTH, padding=1, groups=WIDTH), nn.ReLU6()),
    "add relu6": lambda: Two(lambda a, b: F.relu6(a + b)),
    "hardswish": lambda: One(_conv(3, padding=1), nn.Hardswish()),
    "elu": lambda: One(_conv(3, padding=1), nn.ELU()),
    "depthwise 3x3": lambda: One(_conv(3, channels=WIDTH, padding=1, groups=WIDTH)),
    "depthwise 5x5 relu": lambda: One(_conv(5, channels=WIDTH, padding=2, groups=WIDTH), nn.ReLU()),
    "transposed": lambda: One(nn.ConvTranspose2d(WIDTH, 8, 4, stride=2, padding=1)),
    "add": lambda: Two(torch.add),
    "add relu": lambda: Two(lambda a, b: F.relu(a + b)),
    "concat": lambda: Two(lambda a, b: torch.cat([a, b], 1)),
    "nearest": lambda: Resized("nearest", (32, 24)),
    "bilinear": lambda: Resized("bilinear", (32, 24)),
    "bilinear to 22x21": lambda: Resized("bilinear", (22, 21)),
    "max-pool": lambda: One(nn.MaxPool2d(3, 2)),
    "max-pool padded": lambda: One(nn.MaxPool2d(3, 2, padding=1)),
    "average pool": lambda: One(nn.AvgPool2d(2)),
}
QUICK: Final = ("3x3 padded", "depthwise 3x3", "add", "concat", "nearest", "bilinear")


@dataclass(frozen=True, kw_only=True)
class Case:
    """A network, its pictures and how to write it."""

    network: nn.Module
    pictures: Array
    folder: Path

    def emit(self, form: Format, precision: Precision = Precision.W8A8) -> EmitRequest:
        """Write a file; gives what it was made from."""
        converter = FORMATS[form]
        request = EmitRequest(
            network=self.network,
            plan=calibrate(self.network, self.pictures, precision=precision),
            input_size=SIZE,
            layout=converter.supported()[precision],
            metadata={},
            deployment_target="iOS17",
            path=self.folder / f"x{converter.SUFFIX}",
            calibration=self.pictures,
        )
        converter.emit(request)
        return request


@pytest.fixture(params=[pytest.param(n, marks=() if n in QUICK else pytest.mark.slow) for n in NETWORKS])
def case(request: pytest.FixtureRequest, tmp_path: Path) -> Case:
    """Every network; the quick tests take one of each kind."""
    torch.manual_seed(0)
    pictures = np.random.default_rng(0).normal(size=(4, 3, *SIZE)).astype(np.float32)
    return Case(network=NETWORKS[request.param]().eval(), pictures=pictures, folder=tmp_path)


def copies_are_exact(found: Deviation) -> None:
    """The picture and what copies it are the simulation's to the last integer."""
    assert [t.largest for t in found.tensors[:2]] == [0.0, 0.0]


def within_a_step(tensors: tuple[TensorSteps, ...], *, equal: float) -> None:
    """No value is farther off, and this share is the same."""
    assert max(t.largest for t in tensors) <= 1
    assert min(t.equal for t in tensors) >= equal


@pytest.mark.parametrize("built_in", [False, True])
def test_tflite_int8(case: Case, built_in: bool) -> None:
    asked = case.emit(Format.TFLITE)
    found = tflite.deviation(
        asked.path, network=case.network, plan=asked.plan, pictures=case.pictures, built_in=built_in
    )
    assert found.faults == ()
    copies_are_exact(found)
    within_a_step(found.tensors, equal=0.9 if built_in else 0.99)


INT16_COARSE: Final = "bilinear to 22x21"
"""TFLite's int16 kernel counts positions in 1024ths of a cell and rounds the distance between two, so the error grows
along the axis; twice the size is exact."""


@pytest.mark.parametrize("built_in", [False, True])
def test_tflite_int16(case: Case, built_in: bool, request: pytest.FixtureRequest) -> None:
    asked = case.emit(Format.TFLITE, Precision.W8A16)
    found = tflite.deviation(
        asked.path, network=case.network, plan=asked.plan, pictures=case.pictures, built_in=built_in
    )
    assert found.faults == ()
    copies_are_exact(found)
    if INT16_COARSE in request.node.name:
        off = 0.5 / 1024 * (22 + 21)  # cells
        assert 100 < found.tensors[-1].largest <= off * 65534
    else:
        within_a_step(found.tensors, equal=0.9)


STEEPEST: Final = {"hardswish": 1.5}
"""Largest slope of what XNNPACK computes in float after the last integers."""


def test_executorch_int8(case: Case, request: pytest.FixtureRequest) -> None:
    asked = case.emit(Format.EXECUTORCH)
    found = FORMATS[Format.EXECUTORCH].open_executor(asked.path).heatmaps(case.pictures)
    grids = activation_grids(quantized_module(case.network, asked.plan, SIZE))
    simulated = layer_by_layer(case.network, asked.plan, SIZE, grids)
    wanted = np.concatenate([simulated.run(picture)[1].numpy() for picture in torch.from_numpy(case.pictures).split(1)])
    steps = np.abs(found - wanted) / list(grids.values())[-1].scale
    slope = next((slope for name, slope in STEEPEST.items() if name in request.node.name), 1.0)
    assert steps.max() <= slope + 1e-3
    assert (steps < 1e-2).mean() >= 0.99


def test_core_ml_int8(case: Case) -> None:
    asked = case.emit(Format.COREML)
    found = coreml.deviation(asked.path, network=case.network, plan=asked.plan, pictures=case.pictures)
    assert found.faults == ()
    within_a_step(found.tensors, equal=0.99)
    assert found.heatmaps < 1e-5


def test_core_ml_int8_in_float16_arithmetic(case: Case) -> None:
    asked = case.emit(Format.COREML)
    rounded = FORMATS[Format.COREML].open_executor(asked.path).heatmaps(case.pictures)
    grids = activation_grids(quantized_module(case.network, asked.plan, SIZE))
    simulated = layer_by_layer(case.network, asked.plan, SIZE, grids)
    wanted = np.concatenate([simulated.run(picture)[1].numpy() for picture in torch.from_numpy(case.pictures).split(1)])
    assert np.abs(rounded - wanted).max() <= len(grids) * list(grids.values())[-1].scale
