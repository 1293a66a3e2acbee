"""Every grid of a ``w8a8`` package is the plan's, and one that is not is named; what float16 rounds away is listed."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import nn
from torch.fx import GraphModule

from benchmarks.mutations.package import Package
from converters import coreml
from converters.coreml.mil.package import read_program
from converters.coreml.readback import check_grids
from lspdmobile.artifact import EmitRequest
from lspdmobile.choices import Precision
from lspdmobile.errors import ConversionError
from quantization.calibrate import calibrate
from quantization.graph import quantized_module

Copied = Callable[[Precision], Path]


@pytest.fixture(scope="module")
def module(tiny_pose: nn.Module, inputs: NDArray[np.float32]) -> GraphModule:
    """What the w8a8 package was converted from."""
    return quantized_module(tiny_pose, calibrate(tiny_pose, inputs, precision=Precision.W8A8), (64, 48))


def changed(path: Path, kind: str, index: int, parameter: str, to: Callable[[NDArray[Any]], NDArray[Any]]) -> None:
    """Change a constant of the n-th operation of a kind."""
    package = Package(path)
    value = package.constant(package.operations(kind)[index], parameter)
    package.write(value, to(package.numbers(value)))
    package.save()


def named(path: Path, module: GraphModule) -> str:
    with pytest.raises(ConversionError, match="1 grids are not the plan's") as caught:
        check_grids(read_program(path), module)
    return str(caught.value).split("the plan's: ")[1]


def test_an_emitted_package_holds_every_grid(copied: Copied, module: GraphModule) -> None:
    assert check_grids(read_program(copied(Precision.W8A8)), module) == ()


@pytest.mark.parametrize("kind", ["quantize", "dequantize"])
def test_a_doubled_activation_scale_is_named(kind: str, copied: Copied, module: GraphModule) -> None:
    path = copied(Precision.W8A8)
    changed(path, kind, 0, "scale", lambda scale: 2 * scale)
    assert named(path, module).startswith("pictures has scale ")


def test_a_moved_zero_point_is_named(copied: Copied, module: GraphModule) -> None:
    path = copied(Precision.W8A8)
    changed(path, "quantize", 0, "zero_point", lambda zero_point: zero_point + zero_point.dtype.type(3))
    assert named(path, module).startswith("pictures has zero point ")


@pytest.mark.parametrize("layer", [0, 2])
def test_a_doubled_weight_scale_is_named(layer: int, copied: Copied, module: GraphModule) -> None:
    path = copied(Precision.W8A8)

    def doubled(scales: NDArray[Any]) -> NDArray[Any]:
        scales[3] *= 2
        return scales

    changed(path, "constexpr_affine_dequantize", layer, "scale", doubled)
    assert named(path, module).startswith(f"conv2d{f'_{layer}' if layer else ''} has weight scale ")


def test_scales_that_float16_rounds_away_are_listed_by_layer(
    request_for: Callable[..., EmitRequest], tiny_pose: nn.Module, inputs: NDArray[np.float32], tmp_path: Path
) -> None:
    import copy

    network = copy.deepcopy(tiny_pose)
    with torch.no_grad():
        weight = network.get_parameter("lateral.weight")
        weight[1] *= 1e-4
        weight[2] *= 2e-4
    plan = calibrate(network, inputs, precision=Precision.W8A8)
    asked = request_for(Precision.W8A8, tmp_path / "small.mlpackage", network=network, plan=plan)
    (listed,) = coreml.emit(asked).not_honoured
    assert listed.layer == "conv2d_4"
    assert listed.wanted.startswith("weight scale ")
    assert listed.found.endswith("2 of 12 channels differ")
    assert listed.reason.startswith("float16 ")
