"""What a written file of integer weights and float activations holds of the network's weights, number by number."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from converters.tflite.flatbuffer import dtype_name, tensor_name
from converters.tflite.readback import SMALLEST_RANGE, Layer, layers, numbers
from lspdmobile.choices import Precision
from lspdmobile.errors import ConversionError
from quantization.affine import largest_weight, weight_bits, weight_scales

__all__ = ["channels_of", "of_one_channel", "require_weights"]

_TOLERANCE: Final = 1e-4
_TIE: Final = 1e-3
"""How near to the middle of two integers float32 may take the other one."""


def channels_of(kind: str, weight: Any) -> int:
    """Give the input channels of an output of a layer; 1 for transposed convolutions, whose weights keep 8 bits."""
    return 1 if kind in ("DEPTHWISE_CONV_2D", "TRANSPOSE_CONV") else int(weight.shape[-1])


def of_one_channel(model: Any) -> tuple[str, ...]:
    """Name the layers that read one channel for each output, though they are no depthwise convolutions."""
    kinds = ("CONV_2D", "FULLY_CONNECTED")
    return tuple(each.name for each in layers(model) if each.kind in kinds and channels_of(each.kind, each.weight) == 1)


def require_weights(model: Any, float_model: Any, precision: Precision, path: Path) -> None:
    """Check bits, scales and integers of every layer's weights.

    Args:
        model: Read back from disk.
        float_model: What was quantized.
        precision: One with integer weights and float activations.
        path: For messages.

    Raises:
        ConversionError: A layer's weights are not the network's on the grid of that precision.
    """
    floats = {layer.name: layer for layer in layers(float_model)}
    wrong = [
        f"{layer.name} has {fault}"
        for layer in layers(model)
        for fault in _faults(model, layer, numbers(float_model, floats[layer.name].weight), precision)
    ]
    if wrong:
        message = f"{path.name}: {len(wrong)} weights are not {precision}'s: {'; '.join(wrong[:3])}"
        raise ConversionError(message)


def _faults(model: Any, layer: Layer, wanted: NDArray[np.float64], precision: Precision) -> Iterator[str]:
    bits, axis = weight_bits(precision, channels_of(layer.kind, layer.weight)), layer.axis
    if (found := dtype_name(layer.weight)) != f"int{bits}":
        yield f"{found} weights, not int{bits}"
        return
    grid, rows = layer.weight.quantization, np.moveaxis(wanted, axis, 0)
    scales = weight_scales(rows, bits=bits, smallest_scale=SMALLEST_RANGE / largest_weight(bits))
    held = np.broadcast_to(np.asarray(grid.scale, np.float64), scales.shape)
    alive = np.abs(rows).reshape(len(rows), -1).max(axis=1) > 0
    off = np.abs(held / scales - 1) * alive
    if off.max() > _TOLERANCE or np.any(np.asarray(grid.zeroPoint) != 0):
        worst = int(off.argmax())
        yield f"weight scale {held[worst]:.6g} in channel {worst}, not {scales[worst]:.6g} around 0"
        return
    integers = np.moveaxis(numbers(model, layer.weight), axis, 0)
    astray = np.abs(integers - rows / held.reshape(-1, *[1] * (rows.ndim - 1))) > 0.5 + _TIE
    too_far = np.abs(integers) > largest_weight(bits)
    if count := int((astray | too_far).sum()):
        yield f"{count} of {wanted.size} weights ({tensor_name(layer.weight)}) that are not the nearest integer"
