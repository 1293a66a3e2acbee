"""4-bit weights as emitted, and everything that passes for them without being them."""

import re
from collections.abc import Callable, Mapping
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
from converters.coreml.mil.package import read_program
from converters.coreml.plan import check_precision, weight_dtypes
from lspdmobile.artifact import EmitRequest
from lspdmobile.choices import Precision
from lspdmobile.deviation import Deviation
from lspdmobile.errors import ConversionError
from quantization.methods.rounding import round_weights
from quantization.methods.rounding_search import RoundingSettings
from quantization.plan import QuantizationPlan

RequestFor = Callable[..., EmitRequest]
Copied = Callable[[Precision], Path]
Packages = Mapping[Precision, Path]
Floats = NDArray[np.float32]
PLAN = QuantizationPlan(precision=Precision.W4)
DEPTHWISE = "conv2d_2"


def compared(path: Path, network: nn.Module, pictures: Floats) -> Deviation:
    return deviation(path, network=network, plan=PLAN, pictures=pictures)


def test_all_weights_have_four_bits_but_depthwise_ones(packages: Packages, tiny_pose: nn.Module) -> None:
    dtypes = {
        name.removesuffix("_cast_fp16"): d for name, d in weight_dtypes(read_program(packages[Precision.W4])).items()
    }
    assert dtypes.pop(DEPTHWISE) == "int8"
    assert set(dtypes.values()) == {"int4"}
    weights = [parameter for parameter in tiny_pose.parameters() if parameter.ndim == 4]
    held = coreml.inspect(packages[Precision.W4]).weight_bytes_by_dtype
    assert held["int4"] == sum(-(-weight.numel() // 2) for weight in weights if weight.shape[1] > 1)
    assert held["int8"] == sum(weight.numel() for weight in weights if weight.shape[1] == 1)


def test_it_passes_its_own_check_and_no_other(packages: Packages) -> None:
    for held, path in packages.items():
        if held is Precision.W4:
            check_precision(read_program(path), Precision.W4, integer_layers=0)
            continue
        # Of w8 files the depthwise layer is what it should be.
        wrong = 5 if held in (Precision.W8, Precision.W8A8) else 6
        with pytest.raises(ConversionError, match=f"w4 was asked for, but {wrong} layers are not int4"):
            check_precision(read_program(path), Precision.W4, integer_layers=0)
    with pytest.raises(ConversionError, match="w8 was asked for, but 5 layers are not int8"):
        check_precision(read_program(packages[Precision.W4]), Precision.W8, integer_layers=0)


def test_one_depthwise_layer_of_four_bits_is_named(core_ml_tools: Any, packages: Packages, tmp_path: Path) -> None:
    optimize = core_ml_tools.optimize.coreml
    model = core_ml_tools.models.MLModel(str(packages[Precision.FP16]), skip_model_load=True)
    model._spec.specificationVersion = 9
    config = optimize.OpLinearQuantizerConfig(
        mode="linear_symmetric", dtype="int4", granularity="per_channel", weight_threshold=0
    )
    path = tmp_path / "all.mlpackage"
    optimize.linear_quantize_weights(model, optimize.OptimizationConfig(global_config=config)).save(str(path))
    with pytest.raises(ConversionError, match=rf"1 layers are not .*: {DEPTHWISE}_cast_fp16 \(int4\)"):
        check_precision(read_program(path), Precision.W4, integer_layers=0)


def test_it_says_what_its_plan_says(packages: Packages, tiny_pose: nn.Module, inputs: Floats) -> None:
    found = compared(packages[Precision.W4], tiny_pose, inputs)
    assert (found.faults, found.tensor, found.steps) == ((), "", 0.0)
    assert found.heatmaps < 1e-5


def test_layers_kept_in_float32_have_four_bits_too(
    request_for: RequestFor, tiny_pose: nn.Module, inputs: Floats, tmp_path: Path
) -> None:
    path = tmp_path / "kept.mlpackage"
    kept = frozenset({"conv2d", "conv2d_2"})
    coreml.emit(request_for(Precision.W4, path, keep_fp32=kept, deployment_target="iOS18"))
    found = compared(path, tiny_pose, inputs)
    assert found.faults == ()
    assert found.heatmaps < 1e-5


def test_it_holds_the_integers_that_adaptive_rounding_chose(
    request_for: RequestFor, tiny_pose: nn.Module, tmp_path: Path
) -> None:
    coarse = np.random.default_rng(1).standard_normal((8, 3, 16, 12)).astype(np.float32)
    pictures = np.ascontiguousarray(coarse.repeat(4, axis=2).repeat(4, axis=3))
    settings = RoundingSettings(steps=60, batch=64, samples=512)
    rounded = round_weights(tiny_pose, PLAN, pictures, settings=settings).network
    path = tmp_path / "rounded.mlpackage"
    coreml.emit(request_for(Precision.W4, path, network=rounded, deployment_target="iOS18"))
    assert compared(path, rounded, pictures[:1]).faults == ()
    faults = compared(path, tiny_pose, pictures[:1]).faults
    assert len(faults) > 1
    assert all("weights are not the nearest integer" in fault for fault in faults)


def _planted(path: Path, change: Callable[[Package, Any], None]) -> None:
    package = Package(path)
    change(package, package.operations("constexpr_blockwise_shift_scale")[3])
    package.save()


def _one_integer(package: Package, unpack: Any) -> None:
    package.weights[package.start_of(package.constant(unpack, "data"))] ^= 0x04


def _one_scale(package: Package, unpack: Any) -> None:
    value = package.constant(unpack, "scale")
    scales = package.numbers(value)
    scales.ravel()[2] *= 1.01
    package.write(value, scales)


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (_one_integer, "conv2d_3: 1 of 1296 weights are not the nearest integer"),
        (_one_scale, "conv2d_3: scale .* in channel 2, not"),
    ],
)
def test_a_planted_fault_is_named(
    change: Callable[[Package, Any], None], complaint: str, copied: Copied, tiny_pose: nn.Module, inputs: Floats
) -> None:
    path = copied(Precision.W4)
    _planted(path, change)
    (fault,) = compared(path, tiny_pose, inputs).faults
    assert re.match(complaint, fault)


@pytest.mark.parametrize("precision", [Precision.FP16, Precision.W8, Precision.PALETTE4])
def test_another_file_is_none(precision: Precision, packages: Packages, tiny_pose: nn.Module, inputs: Floats) -> None:
    faults = compared(packages[precision], tiny_pose, inputs).faults
    assert len(faults) == len(weight_dtypes(read_program(packages[precision])))
    assert faults[0] == "conv2d: its weights are no integers in the file"


def test_a_network_whose_weights_are_others_is_noticed(
    packages: Packages, tiny_pose: nn.Module, inputs: Floats
) -> None:
    torch.manual_seed(11)
    other = type(tiny_pose)().eval()
    assert len(compared(packages[Precision.W4], other, inputs).faults) == 6
