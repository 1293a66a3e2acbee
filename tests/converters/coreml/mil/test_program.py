"""Whole programs: values inside, float16 rounding, and planted faults that must show or be refused."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from converters.coreml.mil.package import specification_path
from converters.coreml.mil.program import MilProgram
from lspdmobile.choices import Precision
from lspdmobile.errors import BadInputError, ConversionError

Copied = Callable[[Precision], Path]
Edit = Callable[[Path, Callable[[Any], None]], None]
Floats = NDArray[np.float32]


def _operations(model: Any) -> Any:
    function = model.mlProgram.functions["main"]
    return function.block_specializations[function.opset].operations


def _constant(model: Any, operation: Any, name: str) -> Any:
    """Give the value message of an operation's constant input."""
    wanted = operation.inputs[name].arguments[0].name
    return next(o for o in _operations(model) if o.outputs[0].name == wanted).attributes["val"]


def _run(path: Path, inputs: Floats) -> NDArray[Any]:
    return MilProgram.load(path).predict({"input": inputs[:1]})["heatmaps"]


def _relative(result: NDArray[Any], reference: NDArray[Any]) -> float:
    return float(np.linalg.norm(result - reference) / np.linalg.norm(reference))


def test_values_inside_can_be_asked_for(copied: Copied, inputs: Floats, tiny_pose: torch.nn.Module) -> None:
    program = MilProgram.load(copied(Precision.FP32))
    first = next(o for o in program.program.operations if o.kind == "conv").outputs[0].name
    result = program.predict({"input": inputs[:1]}, [first, "heatmaps"])
    with torch.inference_mode():
        wanted = tiny_pose.get_submodule("stem")(torch.from_numpy(inputs[:1])).numpy()
    assert _relative(result[first], wanted) < 1e-6
    assert list(result) == [first, "heatmaps"]


def test_running_twice_gives_the_same(copied: Copied, inputs: Floats) -> None:
    program = MilProgram.load(copied(Precision.W8A8))
    first, second = (program.predict({"input": inputs[:1]})["heatmaps"] for _ in range(2))
    assert np.array_equal(first, second)


def test_float16_results_are_rounded_after_each_operation(save_program: Callable[..., Path]) -> None:
    path = save_program(
        lambda mb, x: mb.mul(x=mb.add(x=x, y=np.float16(0.1)), y=np.float16(3)), x=(1, 500), dtype="fp16"
    )
    x = np.random.default_rng(0).standard_normal((1, 500)).astype(np.float16)
    (result,) = MilProgram.load(path).predict({"x": x}).values()
    assert result.dtype == np.float16
    assert np.array_equal(result, (x + np.float16(0.1)) * np.float16(3))


def test_float16_overflows_as_float16_does(save_program: Callable[..., Path]) -> None:
    path = save_program(lambda mb, x: mb.mul(x=mb.mul(x=x, y=np.float16(8)), y=np.float16(0.125)), x=(2,), dtype="fp16")
    (result,) = MilProgram.load(path).predict({"x": np.array([1, 60000], np.float16)}).values()
    assert result.tolist() == [1, np.inf]


@pytest.mark.parametrize(
    ("given", "complaint"),
    [
        ({}, r"takes \['input'\], was given \[\]"),
        ({"picture": (1, 3, 64, 48)}, "was given \\['picture'\\]"),
        ({"input": (1, 3, 48, 64)}, r"'input' is float32\[1, 3, 64, 48\], was given shape"),
    ],
)
def test_wrong_inputs_are_refused(given: dict[str, tuple[int, ...]], complaint: str, copied: Copied) -> None:
    program = MilProgram.load(copied(Precision.FP16))
    with pytest.raises(BadInputError, match=complaint):
        program.predict({name: np.zeros(shape, np.float32) for name, shape in given.items()})


def test_an_unknown_value_cannot_be_asked_for(copied: Copied, inputs: Floats) -> None:
    with pytest.raises(BadInputError, match="computes no value 'elbows'"):
        MilProgram.load(copied(Precision.FP16)).predict({"input": inputs[:1]}, ["elbows"])


@pytest.mark.parametrize("precision", [Precision.FP32, Precision.FP16, Precision.W8, Precision.W8A8])
def test_flipped_bytes_in_the_weights_show(precision: Precision, copied: Copied, inputs: Floats) -> None:
    path = copied(precision)
    before = _run(path, inputs)
    file = specification_path(path).parent / "weights" / "weight.bin"
    raw = bytearray(file.read_bytes())
    for index in range(128, 128 + 216):  # the stem's weights, behind the header and the first record
        raw[index] ^= 0x40 if precision in (Precision.W8, Precision.W8A8) else 0x08
    file.write_bytes(raw)
    after = _run(path, inputs)
    assert not np.allclose(after, before, rtol=1e-3, atol=1e-4)


CHANGES: dict[str, tuple[str, str, str, list[Any]]] = {
    "padding moved down": ("conv", "pad", "ints", [0, 2, 1, 1]),
    "padding moved right": ("conv", "pad", "ints", [1, 1, 0, 2]),
    "alpha halved": ("elu", "alpha", "floats", [0.5]),
    "corners aligned": ("upsample_bilinear", "align_corners", "bools", [True]),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_changed_attribute_shows(change: str, copied: Copied, edit: Edit, inputs: Floats) -> None:
    path = copied(Precision.FP32)
    before = _run(path, inputs)
    kind, name, holder, values = CHANGES[change]

    def turn(model: Any) -> None:
        operation = next(o for o in _operations(model) if o.type == kind)
        held = getattr(_constant(model, operation, name).immediateValue.tensor, holder).values
        assert len(held) == len(values)
        held[:] = values

    edit(path, turn)
    assert _relative(_run(path, inputs), before) > 1e-3


@pytest.mark.parametrize(("name", "values"), [("strides", [1, 1]), ("strides", [2, 1]), ("dilations", [2, 2])])
def test_an_attribute_that_changes_the_shape_is_refused(
    name: str, values: list[int], copied: Copied, edit: Edit, inputs: Floats
) -> None:
    path = copied(Precision.FP32)

    def change(model: Any) -> None:
        operation = next(o for o in _operations(model) if o.type == "conv")
        _constant(model, operation, name).immediateValue.tensor.ints.values[:] = values

    edit(path, change)
    with pytest.raises(ConversionError, match=r"conv .*gives .* where the file states float32\[1, 8, 32, 24\]"):
        _run(path, inputs)


def test_groups_that_do_not_fit_are_refused(copied: Copied, edit: Edit, inputs: Floats) -> None:
    path = copied(Precision.FP32)

    def change(model: Any) -> None:
        operation = next(o for o in _operations(model) if o.type == "conv")
        _constant(model, operation, "groups").immediateValue.tensor.ints.values[:] = [3]

    edit(path, change)
    with pytest.raises(ConversionError, match=r"conv .*cannot run"):
        _run(path, inputs)


def test_a_dropped_bias_shows(copied: Copied, edit: Edit, inputs: Floats) -> None:
    path = copied(Precision.FP16)
    before = _run(path, inputs)
    edit(path, lambda model: next(o for o in _operations(model) if o.type == "conv").inputs.pop("bias"))
    assert _relative(_run(path, inputs), before) > 1e-2


def test_a_shifted_zero_point_shows(copied: Copied, edit: Edit, inputs: Floats) -> None:
    path = copied(Precision.W8A8)
    before = _run(path, inputs)

    def shift(model: Any) -> None:
        operation = next(o for o in _operations(model) if o.type == "dequantize" and "zero_point" in o.inputs)
        value = _constant(model, operation, "zero_point").immediateValue.tensor
        held = np.frombuffer(value.bytes.values, np.int8)
        value.bytes.values = (held + np.int8(5)).tobytes()

    edit(path, shift)
    assert _relative(_run(path, inputs), before) > 1e-2


def test_operations_out_of_order_are_refused(copied: Copied, edit: Edit) -> None:
    path = copied(Precision.FP32)

    def reverse(model: Any) -> None:
        operations = list(_operations(model))
        del _operations(model)[:]
        _operations(model).extend(reversed(operations))

    edit(path, reverse)
    with pytest.raises(ConversionError, match="which no earlier operation makes"):
        MilProgram.load(path)


def test_an_unknown_operation_is_refused_by_name(copied: Copied, edit: Edit) -> None:
    path = copied(Precision.FP32)

    def rename(model: Any) -> None:
        next(o for o in _operations(model) if o.type == "elu").type = "frobnicate"

    edit(path, rename)
    with pytest.raises(ConversionError, match=r"copy\.mlpackage: frobnicate 'elu.*operation 'frobnicate' is not impl"):
        MilProgram.load(path)


def test_an_unknown_attribute_is_refused_by_name(copied: Copied, edit: Edit) -> None:
    path = copied(Precision.FP32)

    def add_attribute(model: Any) -> None:
        operations = _operations(model)
        conv = next(o for o in operations if o.type == "conv")
        relu = next(o for o in operations if o.type == "relu")
        relu.inputs["saturate"].CopyFrom(conv.inputs["groups"])

    edit(path, add_attribute)
    with pytest.raises(ConversionError, match=r"relu 'relu.*': saturate is not implemented"):
        MilProgram.load(path)


def test_an_unknown_choice_is_refused_by_name(copied: Copied, edit: Edit) -> None:
    path = copied(Precision.FP32)

    def change(model: Any) -> None:
        operation = next(o for o in _operations(model) if o.type == "conv")
        _constant(model, operation, "pad_type").immediateValue.tensor.strings.values[:] = ["wrap"]

    edit(path, change)
    with pytest.raises(ConversionError, match=r"conv .*: pad_type 'wrap' is not implemented; implemented: valid"):
        MilProgram.load(path)


def test_a_missing_input_is_refused_by_name(copied: Copied, edit: Edit) -> None:
    path = copied(Precision.FP32)
    edit(path, lambda model: next(o for o in _operations(model) if o.type == "conv").inputs.pop("weight"))
    with pytest.raises(ConversionError, match=r"conv .*: weight is missing"):
        MilProgram.load(path)


def test_a_dtype_that_is_not_implemented_is_refused_by_name(copied: Copied, edit: Edit) -> None:
    path = copied(Precision.FP32)

    def change(model: Any) -> None:
        operation = next(o for o in _operations(model) if o.type == "relu")
        operation.outputs[0].type.tensorType.dataType = 13

    edit(path, change)
    with pytest.raises(ConversionError, match=r"relu .*dtype bfloat16 is not implemented"):
        MilProgram.load(path)
