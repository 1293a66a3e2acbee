"""The read-back must find what was asked for, and must find it missing when it is."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from torch import nn

from converters.coreml.mil.package import read_program
from converters.coreml.plan import check_precision, check_scales, coarse_scales
from lspdmobile.choices import Precision
from lspdmobile.errors import ConversionError
from quantization.calibrate import calibrate
from quantization.graph import activation_grids, quantized_module

Packages = Mapping[Precision, Path]
LAYERS = 6


@pytest.fixture(scope="session")
def scales(tiny_pose: nn.Module, inputs: NDArray[np.float32]) -> dict[str, float]:
    """Activation scales of the plan that the packages were made with."""
    plan = calibrate(tiny_pose, inputs, precision=Precision.W8A8)
    grids = activation_grids(quantized_module(tiny_pose, plan, (64, 48)))
    return {name: grid.scale for name, grid in grids.items()}


@pytest.mark.parametrize("precision", [Precision.FP32, Precision.FP16, Precision.W8, Precision.W8A8])
def test_each_package_passes_its_own_check_and_no_other(precision: Precision, packages: Packages) -> None:
    check_precision(read_program(packages[precision]), precision, integer_layers=LAYERS)
    for other in (Precision.FP32, Precision.FP16, Precision.W8):
        if other is not precision and {other, precision} != {Precision.W8, Precision.W8A8}:
            with pytest.raises(ConversionError, match=f"{other} was asked for, but 6 layers are not"):
                check_precision(read_program(packages[precision]), other, integer_layers=LAYERS)


def test_int8_weights_alone_are_not_w8a8(packages: Packages) -> None:
    with pytest.raises(ConversionError, match="0 quantized activations for 6 int8 layers"):
        check_precision(read_program(packages[Precision.W8]), Precision.W8A8, integer_layers=LAYERS)


def test_a_float_file_is_not_w8a8(packages: Packages) -> None:
    with pytest.raises(ConversionError, match=r"6 layers are not int8: conv2d.*\(float16\)"):
        check_precision(read_program(packages[Precision.FP16]), Precision.W8A8, integer_layers=LAYERS)


def test_every_calibrated_scale_is_in_the_file(packages: Packages, scales: dict[str, float]) -> None:
    assert len(scales) >= LAYERS
    check_scales(read_program(packages[Precision.W8A8]), scales)


def test_a_scale_that_is_off_by_one_percent_is_missed(packages: Packages, scales: dict[str, float]) -> None:
    name = next(iter(scales))
    with pytest.raises(ConversionError, match=f"calibrated ranges of {name} .1 in all"):
        check_scales(read_program(packages[Precision.W8A8]), {**scales, name: scales[name] * 1.01})


def test_a_float_file_holds_no_scale(packages: Packages, scales: dict[str, float]) -> None:
    with pytest.raises(ConversionError, match=f"{len(scales)} in all"):
        check_scales(read_program(packages[Precision.FP16]), scales)


def test_scales_that_float16_cannot_hold_are_counted(save_program: Callable[..., Path]) -> None:
    scale = np.array([1e-2, 1e-4, 1e-5, 1e-6, 1e-7], np.float16)
    data = np.ones((5, 3), np.int8)

    def body(mb: Any, x: Any) -> Any:
        weight = mb.constexpr_affine_dequantize(quantized_data=data, zero_point=np.int8(0), scale=scale, axis=0)
        return mb.add(x=x, y=weight)

    assert coarse_scales(read_program(save_program(body, x=(5, 3), dtype="fp16"))) == 2


def test_ordinary_scales_are_not_coarse(packages: Packages) -> None:
    assert [coarse_scales(read_program(path)) for path in packages.values()] == [0] * len(packages)
