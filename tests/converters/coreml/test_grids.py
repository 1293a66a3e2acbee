"""Integers that are moved inside a package are those of the plan's moved tensor, and faults in them are seen."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.mutations.package import Package
from converters import coreml
from converters.coreml import deviation, grids
from converters.coreml.mil.package import read_program
from lspdmobile.artifact import EmitRequest
from lspdmobile.choices import Precision
from lspdmobile.deviation import Deviation
from quantization.calibrate import calibrate
from quantization.plan import QuantizationPlan

Size = tuple[int, int]


class Shuffled(nn.Module):
    """A channel shuffle, and two linear layers along the flattened rows."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.mix = nn.Conv2d(3, 4, 3, 4, 1), nn.Conv2d(4, 5, 1)
        self.inner, self.outer = nn.Linear(16 * 12, 12), nn.Linear(12, 7)

    def forward(self, pictures: Tensor) -> Tensor:
        """Map ``[N, 3, 64, 48]`` to ``[N, 5, 1, 7]``."""
        x = F.relu(self.stem(pictures))
        count, channels, rows, columns = x.shape
        pairs = x.view(count, 2, channels // 2, rows, columns).transpose(1, 2)
        maps = F.relu(self.mix(pairs.reshape(count, channels, rows, columns)))
        points: Tensor = self.outer(F.relu(self.inner(maps.flatten(2))))
        return points.reshape(-1, 5, 1, 7)


@pytest.fixture(scope="module")
def shuffled() -> nn.Module:
    """The network in eval mode, seeded."""
    torch.manual_seed(5)
    return Shuffled().eval()


@pytest.fixture(scope="module")
def plan(shuffled: nn.Module, inputs: NDArray[np.float32]) -> QuantizationPlan:
    """Its plan."""
    return calibrate(shuffled, inputs, precision=Precision.W8A8)


@pytest.fixture
def package(
    shuffled: nn.Module, plan: QuantizationPlan, request_for: Callable[..., EmitRequest], tmp_path: Path
) -> Path:
    """Its package."""
    path = tmp_path / "shuffled.mlpackage"
    coreml.emit(request_for(Precision.W8A8, path, network=shuffled, plan=plan))
    return path


@pytest.fixture
def look(
    package: Path, shuffled: nn.Module, plan: QuantizationPlan, inputs: NDArray[np.float32]
) -> Callable[[], Deviation]:
    """Compare the package with its plan."""
    return lambda: deviation(package, network=shuffled, plan=plan, pictures=inputs)


def test_moved_integers_are_the_plans(package: Path, look: Callable[[], Deviation]) -> None:
    moved = [
        operation.kind
        for operation in read_program(package).operations
        if operation.kind == "reshape" and operation.outputs[0].type.dtype.name == "int8"
    ]
    assert moved, "Core ML Tools moves no integers any more: this test shows nothing"
    found = look()
    assert found.faults == ()
    assert found.steps < 0.1
    assert found.heatmaps < 1e-5


@pytest.mark.parametrize("place", range(3))
def test_a_wrong_grid_beyond_a_move_is_seen(place: int, package: Path, look: Callable[[], Deviation]) -> None:
    file = Package(package)
    behind = [
        operation
        for operation in file.operations("dequantize")
        if any(
            each.outputs[0].name == operation.inputs["input"].arguments[0].name for each in file.operations("reshape")
        )
    ]
    value: Any = file.constant(behind[place], "zero_point")
    file.write(value, np.asarray(file.numbers(value) + 5, np.int8))
    file.save()
    found = look()
    assert found.steps > 4


def test_a_move_that_is_left_out_is_seen(package: Path, look: Callable[[], Deviation]) -> None:
    file = Package(package)
    transpose = file.operations("transpose")[0]
    value: Any = file.constant(transpose, "perm")
    file.write(value, np.asarray([0, 1, 2, 3, 4], np.int32))
    file.save()
    found = look()
    assert found.faults or found.steps > 1


def test_only_a_number_is_taken_off_a_name() -> None:
    names = ("conv2d", "relu")
    known = {name: grids._known(name, names) for name in ("relu", "relu_7", "relu_pool", "linear_1")}
    assert known == {"relu": "relu", "relu_7": "relu", "relu_pool": "relu_pool", "linear_1": "linear_1"}
