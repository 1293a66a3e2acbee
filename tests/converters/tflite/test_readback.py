"""What a file does not honour is listed layer by layer, and a number that is off is found where it is."""

import copy
import importlib
import re
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from converters.tflite.flatbuffer import main_graph, operators, read_model, tensor_name, to_bytes
from converters.tflite.plan import TensorRanges, tensor_ranges
from converters.tflite.readback import (
    activation_shortfalls,
    float_shortfalls,
    require_plan,
    unexplained,
    weight_shortfalls,
)
from lspdmobile.artifact import Artifact
from lspdmobile.choices import Layout, Precision
from lspdmobile.errors import ConversionError
from lspdmobile.shortfall import Shortfall
from quantization.plan import TensorRange

if TYPE_CHECKING:
    from tests.converters.tflite.conftest import World

INTEGER = (Precision.W8A8, Precision.W8A16)


@pytest.fixture(scope="module")
def float_model(emitted: dict[Precision, Artifact]) -> Any:
    return read_model(emitted[Precision.FP32].path)


@pytest.fixture(scope="module")
def ranges(world: "World", emitted: dict[Precision, Artifact], float_model: Any) -> TensorRanges:
    content = emitted[Precision.FP32].path.read_bytes()
    return tensor_ranges(content, float_model, world.network, world.plan(Precision.W8A8), Layout.NHWC)


def reread(model: Any) -> Any:
    """Write a changed model and read it back."""
    return read_model(to_bytes(model))


@pytest.mark.parametrize("precision", INTEGER)
def test_only_grids_shared_with_an_input_are_listed(emitted: dict[Precision, Artifact], precision: Precision) -> None:
    listed = emitted[precision].not_honoured
    assert listed
    assert all(" keeps the grid of its input " in each.reason for each in listed)
    kinds = {each.reason.split()[0] for each in listed}
    assert kinds <= {"PAD", "RESIZE_BILINEAR"}


@pytest.mark.parametrize("precision", INTEGER)
def test_a_doubled_activation_scale_is_listed_at_its_layer(
    emitted: dict[Precision, Artifact], ranges: TensorRanges, precision: Precision
) -> None:
    model = read_model(emitted[precision].path)
    before = set(activation_shortfalls(model, precision, ranges))
    graph = main_graph(model)
    tensor = next(graph.tensors[op.outputs[0]] for name, op, _ in operators(model) if name == "ADD")
    scale = float(tensor.quantization.scale[0])
    tensor.quantization.scale = [2 * scale]
    (added,) = set(activation_shortfalls(reread(model), precision, ranges)) - before
    assert added.layer == tensor_name(tensor).removesuffix("_quantized")
    assert f"scale {scale:.6g}," in added.wanted
    assert f"scale {2 * scale:.6g}," in added.found
    assert added.reason == "no rule of the quantizer explains it"


def test_a_moved_zero_point_is_listed(emitted: dict[Precision, Artifact], ranges: TensorRanges) -> None:
    model = read_model(emitted[Precision.W8A8].path)
    before = set(activation_shortfalls(model, Precision.W8A8, ranges))
    graph = main_graph(model)
    tensor = next(graph.tensors[op.outputs[0]] for name, op, _ in operators(model) if name == "CONV_2D")
    tensor.quantization.zeroPoint = [int(tensor.quantization.zeroPoint[0]) + 3]
    (added,) = set(activation_shortfalls(reread(model), Precision.W8A8, ranges)) - before
    assert added.layer == tensor_name(tensor).removesuffix("_quantized")


def _weights(model: Any, layer: int) -> tuple[str, Any, Any]:
    """Name, weight and bias of the n-th convolution."""
    graph = main_graph(model)
    operator = [op for name, op, _ in operators(model) if name in ("CONV_2D", "DEPTHWISE_CONV_2D")][layer]
    weight, bias = (graph.tensors[index] for index in operator.inputs[1:3])
    return tensor_name(graph.tensors[operator.outputs[0]]).removesuffix("_quantized"), weight, bias


@pytest.mark.parametrize("precision", INTEGER)
def test_a_doubled_weight_scale_is_listed_at_its_layer_and_channel(
    emitted: dict[Precision, Artifact], float_model: Any, precision: Precision
) -> None:
    model = read_model(emitted[precision].path)
    assert list(weight_shortfalls(model, float_model)) == []
    name, weight, _ = _weights(model, 3)
    scales = [float(scale) for scale in weight.quantization.scale]
    weight.quantization.scale = [*scales[:2], scales[2] / 2, *scales[3:]]
    (listed,) = weight_shortfalls(reread(model), float_model)
    assert listed.layer == name
    assert "in channel 2" in listed.wanted
    assert "1 of" in listed.found


def test_a_bias_that_was_changed_is_listed(emitted: dict[Precision, Artifact], float_model: Any) -> None:
    model = read_model(emitted[Precision.W8A8].path)
    name, _, bias = _weights(model, 2)
    bias.quantization.scale = [2 * float(scale) for scale in bias.quantization.scale]
    (listed,) = weight_shortfalls(reread(model), float_model)
    assert listed.layer == name
    assert listed.wanted.startswith("bias ")
    assert unexplained([listed]) == (listed,)


def test_a_bias_that_was_cut_off_where_its_integer_ends_is_listed(
    emitted: dict[Precision, Artifact], float_model: Any
) -> None:
    model, changed = read_model(emitted[Precision.W8A8].path), copy.deepcopy(float_model)
    name, _, bias = _weights(model, 2)
    values = np.frombuffer(bytes(model.buffers[bias.buffer].data), np.int32).copy()
    values[1] = np.iinfo(np.int32).max
    model.buffers[bias.buffer].data = values.view(np.uint8)
    _, _, wanted = _weights(changed, 2)
    floats = np.frombuffer(bytes(changed.buffers[wanted.buffer].data), np.float32).copy()
    floats[1] = 2 * np.iinfo(np.int32).max * float(bias.quantization.scale[1])
    changed.buffers[wanted.buffer].data = floats.view(np.uint8)
    (listed,) = weight_shortfalls(reread(model), changed)
    assert (listed.layer, unexplained([listed])) == (name, (listed,))


def test_a_file_with_a_number_that_no_rule_explains_is_refused_by_the_layer_s_name(
    emitted: dict[Precision, Artifact], ranges: TensorRanges
) -> None:
    path = emitted[Precision.W8A8].path
    require_plan(emitted[Precision.W8A8].not_honoured, path)
    model = read_model(path)
    graph = main_graph(model)
    tensor = next(graph.tensors[op.outputs[0]] for name, op, _ in operators(model) if name == "ADD")
    tensor.quantization.scale = [2 * float(tensor.quantization.scale[0])]
    name = tensor_name(tensor).removesuffix("_quantized")
    with pytest.raises(ConversionError, match=rf"{re.escape(name)} has scale .*, the plan scale .*: no rule"):
        require_plan(activation_shortfalls(reread(model), Precision.W8A8, ranges), path)


def test_emission_fails_where_the_quantizer_did_not_take_a_range(
    world: "World", tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    emit_module = importlib.import_module("converters.tflite.emit")
    honest = emit_module._quantize

    def careless(content: bytes, precision: Precision, ranges: TensorRanges) -> bytes:
        name = next(name for name, node in ranges.planned.items() if node.low == 0 < node.high)
        other = TensorRange(low=0.0, high=3 * ranges.by_name[name].high)
        quantized: bytes = honest(content, precision, replace(ranges, by_name={**ranges.by_name, name: other}))
        return quantized

    monkeypatch.setattr(emit_module, "_quantize", careless)
    with pytest.raises(ConversionError, match=r"x\.tflite: .* has scale .*, the plan scale"):
        emit_module.emit(replace(world.request(Precision.W8A8, "x"), path=tmp_path / "x.tflite"))


def test_a_tensor_without_a_node_is_listed(emitted: dict[Precision, Artifact], ranges: TensorRanges) -> None:
    model = read_model(emitted[Precision.W8A8].path)
    name = next(iter(ranges.planned))
    measured = TensorRanges(by_name=ranges.by_name, planned=ranges.planned, measured=(name,))
    listed = [each for each in activation_shortfalls(model, Precision.W8A8, measured) if each.layer == name]
    assert [each.wanted for each in listed] == ["a range of the plan"]


def test_operators_in_float_are_listed_unless_the_plan_keeps_them(emitted: dict[Precision, Artifact]) -> None:
    model = read_model(emitted[Precision.FP32].path)
    names = [tensor_name(graph.tensors[op.outputs[0]]) for _, op, graph in operators(model)]
    listed = list(float_shortfalls(copy.deepcopy(model), Precision.W8A8, names[:3]))
    assert [each.layer for each in listed] == names[3:]
    assert listed[0] == Shortfall(layer=names[3], wanted="w8a8", found="float32", reason=listed[0].reason)
