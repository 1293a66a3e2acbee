"""Integer weights with float activations, number by number, and everything that is not the network's."""

import copy
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from torch import nn

from converters import tflite
from converters.tflite.flatbuffer import dtype_name, read_model
from converters.tflite.readback import layers, numbers
from converters.tflite.weights import require_weights
from lspdmobile.artifact import Artifact
from lspdmobile.choices import Precision
from lspdmobile.errors import ConversionError
from quantization.plan import QuantizationPlan

if TYPE_CHECKING:
    from tests.converters.tflite.conftest import World

Emitted = dict[Precision, Artifact]
PATH = Path("tiny.tflite")


def test_w4_rounds_weights_to_four_bits_but_depthwise_ones_and_nothing_else(world: "World", emitted: Emitted) -> None:
    rounded = copy.deepcopy(world.network)
    for parameter in rounded.parameters():
        if parameter.ndim == 4:
            scale = parameter.data.abs().amax(dim=(1, 2, 3), keepdim=True) / (127 if parameter.shape[1] == 1 else 7)
            parameter.data = (parameter.data / scale).round() * scale
    heatmaps = tflite.open_executor(emitted[Precision.W4].path).heatmaps(world.pictures)
    assert world.error(heatmaps, world.run(rounded)) <= 1e-5
    assert world.loss(heatmaps) > 4 * world.loss(
        tflite.open_executor(emitted[Precision.W8].path).heatmaps(world.pictures)
    )


def test_it_says_what_xnnpack_leaves(emitted: Emitted) -> None:
    delegation = tflite.inspect(emitted[Precision.W4].path).delegation
    assert delegation is not None
    assert any(each.startswith("CONV_2D") for each in delegation.not_delegated)
    assert any("XNNPACK takes no int4 weights" in note for note in emitted[Precision.W4].notes)


def test_a_layer_of_one_input_channel_has_eight_bits(world: "World") -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 1, 1), nn.ReLU(), nn.Conv2d(1, 4, 3, padding=1)).eval()
    request = world.request(Precision.FP32, "narrow.tflite")
    path = tflite.emit(replace(request, network=network, plan=QuantizationPlan(precision=Precision.W4))).path
    assert sorted(dtype_name(layer.weight) for layer in layers(read_model(path))) == ["int4", "int8"]


@pytest.mark.parametrize("precision", [Precision.W8, Precision.W4])
def test_each_file_holds_its_own_weights_and_no_other_s(emitted: Emitted, precision: Precision) -> None:
    floats = read_model(emitted[Precision.FP32].path)
    model = read_model(emitted[precision].path)
    require_weights(model, floats, precision, PATH)
    other = Precision.W4 if precision is Precision.W8 else Precision.W8
    with pytest.raises(ConversionError, match=rf"tiny.tflite: 18 weights are not {other}'s: .* weights, not int"):
        require_weights(model, floats, other, PATH)


def test_two_values_share_a_byte_the_first_in_its_lower_half(emitted: Emitted) -> None:
    model = read_model(emitted[Precision.W4].path)
    layer = next(each for each in layers(model) if dtype_name(each.weight) == "int4")
    data = np.array(model.buffers[layer.weight.buffer].data, np.uint8)
    data[:2] = [0xF1, 0x7A]
    model.buffers[layer.weight.buffer].data = data
    assert numbers(model, layer.weight).ravel()[:4].tolist() == [1, -1, -6, 7]


def _one_integer(model: Any, weight: Any) -> None:
    data = np.array(model.buffers[weight.buffer].data, np.uint8)
    data[0] ^= 0x04
    model.buffers[weight.buffer].data = data


def _one_scale(model: Any, weight: Any) -> None:  # noqa: ARG001
    weight.quantization.scale = np.array([*weight.quantization.scale[:-1], weight.quantization.scale[-1] * 1.01])


def _zero_point(model: Any, weight: Any) -> None:  # noqa: ARG001
    weight.quantization.zeroPoint = np.ones_like(weight.quantization.zeroPoint)


@pytest.mark.parametrize(
    ("plant", "complaint"),
    [
        (_one_integer, r"has 1 of \d+ weights .* that are not the nearest integer"),
        (_one_scale, r"has weight scale .* in channel \d+, not"),
        (_zero_point, r"has weight scale .* around 0"),
    ],
)
@pytest.mark.parametrize("precision", [Precision.W8, Precision.W4])
def test_a_planted_fault_is_named(
    emitted: Emitted, precision: Precision, plant: Callable[[Any, Any], None], complaint: str
) -> None:
    model, floats = read_model(emitted[precision].path), read_model(emitted[Precision.FP32].path)
    layer = list(layers(model))[2]
    plant(model, layer.weight)
    with pytest.raises(ConversionError, match=f"1 weights are not {precision}'s: {layer.name} {complaint}"):
        require_weights(model, floats, precision, PATH)
