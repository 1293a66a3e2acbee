"""4-bit weights in a written package: which layers have them, and whether they are the network's, number by number."""

from collections.abc import Iterator, Mapping
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from converters.coreml.mil.package import Operation, Program
from converters.coreml.palettes import LAYERS, constant_behind, layer_name
from lspdmobile.choices import Precision
from quantization.affine import largest_weight, weight_bits, weight_scales

__all__ = ["integer_faults", "stored_as"]

Numbers = NDArray[Any]

_UNPACKED_BY: Final = "constexpr_blockwise_shift_scale"
_FLOAT16: Final = 2.0**-10
"""Core ML Tools divides and rounds in float16: weight, scale and ratio are each off by half a last bit."""
_SMALLEST: Final = 2.0**-24


def stored_as(operation: Operation, makers: Mapping[str, Operation]) -> str:
    """Give the dtype a layer's weights must have under ``w4``."""
    bound = operation.inputs["weight"][0]
    kind = makers[bound].outputs[0].type if isinstance(bound, str) else bound.type
    return f"int{_bits(operation, kind.shape[1] or 0)}"


def integer_faults(program: Program, wanted: Mapping[str, Numbers], last: str) -> frozenset[str]:
    """Hold the scales and integers of every layer under ``w4`` to the network's weights.

    Args:
        program: Read from disk.
        wanted: The network's weights by layer.
        last: The layer that gives the heatmaps, whose name in the file is that of the program's output.

    Returns:
        Sentences on what is wrong, each beginning with the layer's name.
    """
    makers = {value.name: operation for operation in program.operations for value in operation.outputs}
    faults, seen = set[str](), set[str]()
    for operation in program.operations:
        if operation.kind not in LAYERS:
            continue
        layer = layer_name(operation, program, last)
        if layer not in wanted:
            faults.add(f"{layer}: no layer of the network has this name")
            continue
        seen.add(layer)
        bound = operation.inputs["weight"][0]
        maker = makers.get(bound) if isinstance(bound, str) else None
        bits = _bits(operation, wanted[layer].shape[1])
        faults.update(f"{layer}: {fault}" for fault in _faults(maker, makers, wanted[layer], bits))
    faults.update(f"{layer}: the file has no layer of this name" for layer in wanted.keys() - seen)
    return frozenset(faults)


def _bits(operation: Operation, channels: int) -> int:
    return weight_bits(Precision.W4, 1 if operation.kind == "conv_transpose" else channels)


def _faults(maker: Operation | None, makers: Mapping[str, Operation], wanted: Numbers, bits: int) -> Iterator[str]:
    """Say what is wrong with one layer's weights."""
    if maker is None or maker.kind != _UNPACKED_BY:
        yield "its weights are no integers in the file"
        return
    data, scale = (constant_behind(maker.inputs[name][0], makers) for name in ("data", "scale"))
    if data is None or scale is None or isinstance(data.value, str) or isinstance(scale.value, str):
        yield "its integers or scales are computed in the file"
        return
    if "offset" in maker.inputs:
        yield "its integers have an offset; 0 has to stand for 0"
        return
    if data.value.shape != wanted.shape or scale.value.shape != (len(wanted), *[1] * (wanted.ndim - 1)):
        yield f"its integers {list(data.value.shape)} or scales {list(scale.value.shape)} are of another shape"
        return
    held, integers = scale.value.astype(np.float64).ravel(), data.value.astype(np.float64)
    scales = weight_scales(wanted, bits=bits)
    off = np.abs(held - scales)
    if (off > np.maximum(_FLOAT16 * scales, _SMALLEST)).any():
        worst = int((off / scales).argmax())
        yield f"scale {held[worst]:.6g} in channel {worst}, not {scales[worst]:.6g}"
        return
    exact, largest = wanted / held.reshape(scale.value.shape), largest_weight(bits)
    astray = (np.abs(integers - exact) > 0.5 + 1.5 * _FLOAT16 * largest) | (np.abs(integers) > largest)
    if count := int(astray.sum()):
        yield f"{count} of {wanted.size} weights are not the nearest integer"
