"""A package beside its plan: equal as emitted, and every number of it that is changed is seen where it is."""

import copy
from collections.abc import Callable
from dataclasses import replace
from math import isnan
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import nn

from benchmarks.mutations.package import Package
from converters import coreml
from converters.coreml import deviation
from converters.coreml.mil.program import MilProgram
from lspdmobile.artifact import EmitRequest
from lspdmobile.choices import Precision
from lspdmobile.deviation import Deviation
from quantization.plan import QuantizationPlan, TensorRange

Copied = Callable[[Precision], Path]
Look = Callable[[Path], Deviation]
DEPTHWISE = "conv2d_2"


@pytest.fixture
def plan(request_for: Callable[..., EmitRequest], tmp_path: Path) -> QuantizationPlan:
    """What the w8a8 package was made from."""
    return request_for(Precision.W8A8, tmp_path / "unused.mlpackage").plan


@pytest.fixture
def look(tiny_pose: nn.Module, plan: QuantizationPlan, inputs: NDArray[np.float32]) -> Look:
    """Compare a w8a8 package with its plan."""
    return lambda path: deviation(path, network=tiny_pose, plan=plan, pictures=inputs)


def change(path: Path, operation: int, parameter: str, *kinds: str, to: Callable[[NDArray[Any]], NDArray[Any]]) -> str:
    """Change a constant parameter of the n-th operation of some kinds; gives the operation's output."""
    package = Package(path)
    op = package.operations(*kinds)[operation]
    value = package.constant(op, parameter)
    array = package.numbers(value)
    package.write(value, np.asarray(to(array), array.dtype))
    package.save()
    return str(op.outputs[0].name)


@pytest.mark.parametrize("precision", [Precision.W8, Precision.W8A8])
def test_an_emitted_package_says_what_its_plan_says(
    precision: Precision, copied: Copied, tiny_pose: nn.Module, plan: QuantizationPlan, inputs: NDArray[np.float32]
) -> None:
    planned = replace(plan, precision=precision)
    found = deviation(copied(precision), network=tiny_pose, plan=planned, pictures=inputs)
    assert (found.faults, found.pictures) == ((), len(inputs))
    assert found.steps < 0.1
    assert found.heatmaps < 1e-5
    assert (found.tensor == "") == (precision is Precision.W8)


def test_the_network_is_left_as_it_was(copied: Copied, tiny_pose: nn.Module, look: Look) -> None:
    before = copy.deepcopy(tiny_pose.state_dict())
    look(copied(Precision.W8A8))
    assert all(torch.equal(value, before[name]) for name, value in tiny_pose.state_dict().items())


def test_one_weight_scale_is_seen_in_its_own_layer(copied: Copied, look: Look) -> None:
    path = copied(Precision.W8A8)

    def doubled(scales: NDArray[Any]) -> NDArray[Any]:
        scales[3] *= 2
        return scales

    change(path, 2, "scale", "constexpr_affine_dequantize", to=doubled)
    found = look(path)
    assert found.steps > 1
    assert found.tensor in (DEPTHWISE, "relu_2")


def test_one_zero_point_is_seen_by_how_much_it_moved(copied: Copied, look: Look) -> None:
    path = copied(Precision.W8A8)
    change(path, 0, "zero_point", "dequantize", to=lambda zero_point: zero_point + 10)
    found = look(path)
    assert found.tensor == "pictures"
    assert found.steps == pytest.approx(10, rel=1e-3)


def test_one_lost_bias_is_seen(copied: Copied, look: Look, tiny_pose: nn.Module) -> None:
    path = copied(Precision.W8A8)

    def lost(bias: NDArray[Any]) -> NDArray[Any]:
        bias[np.abs(bias).argmax()] = 0
        return bias

    change(path, 1, "bias", "conv", to=lost)
    assert look(path).steps > 1
    assert isinstance(tiny_pose, nn.Module)


def test_another_plan_is_seen_at_the_tensor_that_differs(
    copied: Copied, plan: QuantizationPlan, tiny_pose: nn.Module, inputs: NDArray[np.float32]
) -> None:
    wider = TensorRange(low=plan.ranges["relu_1"].low, high=1.3 * plan.ranges["relu_1"].high)
    other = replace(plan, ranges={**plan.ranges, "relu_1": wider})
    found = deviation(copied(Precision.W8A8), network=tiny_pose, plan=other, pictures=inputs)
    assert found.tensor == "relu_1"
    assert found.steps > 0.25


def test_a_tensor_that_is_not_int8_in_the_file_is_named(copied: Copied, look: Look) -> None:
    path = copied(Precision.W8A8)
    package = Package(path)
    quantize = package.operations("quantize")[1]
    lost = quantize.inputs["input"].arguments[0].name
    quantize.inputs["input"].arguments[0].name = package.operations("conv")[0].outputs[0].name
    package.save()
    planned, unplanned = look(path).faults
    assert planned == "conv2d is int8 in the file, not in the plan"
    assert unplanned == f"{lost.removesuffix('_cast_fp16')} is int8 in the plan, not in the file"


def test_numbers_that_are_none_are_the_worst(copied: Copied, look: Look) -> None:
    path = copied(Precision.W8A8)
    change(path, 0, "scale", "dequantize", to=lambda scale: scale * np.float32("inf"))
    found = look(path)
    assert not found.steps <= 1e9
    assert found.tensor == "pictures"
    assert not isnan(found.heatmaps)


def test_given_values_take_the_place_of_computed_ones(copied: Copied, inputs: NDArray[np.float32]) -> None:
    program = MilProgram.load(copied(Precision.FP32))
    picture = {program.inputs[0].name: inputs[:1]}
    steps = list(program.program.operations)
    relu = next(op.outputs[0].name for op in steps if op.kind == "relu")
    zeros = torch.zeros(1, 8, 32, 24)
    for step, values in program.walk(picture, given={relu: zeros}):
        if step.outputs[0].name == relu:
            assert values[relu].abs().max() > 0
        elif relu in values:
            assert not values[relu].any()


def test_layers_kept_in_float32_are_compared_with_float32_numbers(
    request_for: Callable[..., EmitRequest], tiny_pose: nn.Module, inputs: NDArray[np.float32], tmp_path: Path
) -> None:
    asked = request_for(Precision.W8, tmp_path / "kept.mlpackage", keep_fp32=frozenset({"conv2d", "conv2d_2"}))
    coreml.emit(asked)
    found = deviation(asked.path, network=tiny_pose, plan=asked.plan, pictures=inputs)
    assert (found.faults, found.steps) == ((), 0.0)
    assert found.heatmaps < 1e-5
