"""Room for biases: weight scales of channels whose weights are nearly 0 are raised to the plan's smallest ones.

A bias is an int32 (int64 in ``w8a16``) in steps of input scale times weight scale. ai-edge-quantizer takes the scale of
a channel of dead weights from those weights, however small, and cuts the bias off where int32 ends. The plan has a
smallest scale and widens the others until the bias fits; so have its files.
"""

from typing import Any

import numpy as np

from converters.tflite.flatbuffer import dtype_name
from converters.tflite.readback import Layer, layers, numbers
from quantization.affine import SMALLEST_SCALE, largest_weight, smallest_weight_scale

__all__ = ["make_room"]


def make_room(model: Any, float_model: Any) -> None:
    """Raise the weight scales of a static integer model in place, and write their weights and biases anew.

    Args:
        model: As the quantizer left it.
        float_model: What was quantized.
    """
    floats = {layer.name: layer for layer in layers(float_model)}
    for layer in layers(model):
        if dtype_name(layer.weight) == "int8" and layer.name in floats:
            _make_room(model, layer, float_model, floats[layer.name])


def _make_room(model: Any, layer: Layer, float_model: Any, exact: Layer) -> None:
    rows = np.moveaxis(numbers(float_model, exact.weight), exact.axis, 0)
    held = np.asarray(layer.weight.quantization.scale, np.float64)
    if len(held) != len(rows):
        return
    floor, bias, step = np.full(len(rows), SMALLEST_SCALE), np.zeros(len(rows)), 0.0
    if layer.bias is not None and exact.bias is not None:
        bias = numbers(float_model, exact.bias)
        step = float(np.asarray(layer.bias.quantization.scale, np.float64)[0] / held[0])
        if dtype_name(layer.bias) == "int32":
            floor = np.maximum(floor, smallest_weight_scale(bias, step))
    low = held < floor
    if not low.any():
        return
    scales = np.where(low, floor, held).astype(np.float32)
    most, integers = largest_weight(8), np.moveaxis(numbers(model, layer.weight), layer.axis, 0)
    shaped = scales.astype(np.float64).reshape(-1, *[1] * (rows.ndim - 1))
    integers = np.where(low.reshape(shaped.shape), np.clip(np.rint(rows / shaped), -most, most), integers)
    layer.weight.quantization.scale = scales.tolist()
    _write(model, layer.weight, np.moveaxis(integers, 0, layer.axis))
    if step:
        steps = step * scales.astype(np.float64)
        layer.bias.quantization.scale = steps.astype(np.float32).tolist()
        _write(model, layer.bias, np.where(low, np.rint(bias / steps), numbers(model, layer.bias)))


def _write(model: Any, tensor: Any, values: Any) -> None:
    content = np.ascontiguousarray(values, np.dtype(dtype_name(tensor))).tobytes()
    model.buffers[tensor.buffer].data = np.frombuffer(content, np.uint8)
