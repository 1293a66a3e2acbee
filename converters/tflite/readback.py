"""What a written integer file holds of its plan, layer by layer: grids, weights, biases, operators in float."""

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from converters.tflite.flatbuffer import constant_behind, dtype_name, main_graph, op_name, operators, tensor_name
from converters.tflite.plan import PASSES_RANGE_ON, TensorRanges
from lspdmobile.choices import Precision
from lspdmobile.errors import ConversionError
from lspdmobile.shortfall import Shortfall
from quantization.affine import activation_grid, weight_scales
from quantization.plan import TensorRange

__all__ = [
    "BORDER",
    "CONVOLUTIONS",
    "SMALLEST_RANGE",
    "Layer",
    "activation_grids",
    "activation_shortfalls",
    "float_shortfalls",
    "layers",
    "numbers",
    "plain_names",
    "require_plan",
    "unexplained",
    "wanted_scale",
    "weight_shortfalls",
]

CONVOLUTIONS: Final = frozenset({"CONV_2D", "DEPTHWISE_CONV_2D", "TRANSPOSE_CONV", "FULLY_CONNECTED"})
BORDER: Final = frozenset({"QUANTIZE", "DEQUANTIZE"})
_SUFFIX: Final = "_quantized"
_TOLERANCE: Final = 1e-4
SMALLEST_RANGE: Final = 1e-9
"""ai-edge-quantizer widens a narrower range to this."""
_KEEPS_GRID: Final = PASSES_RANGE_ON | frozenset(
    {"AVERAGE_POOL_2D", "MAX_POOL_2D", "SLICE", "STRIDED_SLICE", "SPLIT", "SPACE_TO_DEPTH", "GATHER", "BROADCAST_TO"}
)
_ONE_GRID: Final = frozenset({"CONCATENATION", "MAXIMUM", "MINIMUM", "PACK", "SELECT", "SELECT_V2"})
_FIXED: Final = frozenset({"LOGISTIC", "SOFTMAX", "TANH"})
_UNEXPLAINED: Final = "no rule of the quantizer explains it"


@dataclass(frozen=True, kw_only=True)
class Layer:
    """An operator with constant weights.

    Attributes:
        name: Of its result.
        kind: Of operator.
        weight, bias: Their tensors; no bias is None.
        axis: Of the weight's output channels.
    """

    name: str
    kind: str
    weight: Any
    bias: Any
    axis: int


def plain_names(model: Any) -> dict[str, str]:
    """Give the float file's name of every computed int8 or int16 tensor, by its own.

    A tensor that the quantizer put beside a float one has a suffix. So has the copy it makes of an integer tensor for
    a reader of another grid, a concatenation for instance: that keeps its own name.
    """
    names = {tensor_name(tensor) for tensor in _integer_tensors(model)}
    plain = {name: name.removesuffix(_SUFFIX) for name in names}
    return {name: name if short != name and short in names else short for name, short in plain.items()}


def activation_grids(model: Any) -> dict[str, tuple[float, int]]:
    """Read back scale and zero point of every computed int8 or int16 tensor of a file, by its plain name."""
    plain, grids = plain_names(model), dict[str, tuple[float, int]]()
    for tensor in _integer_tensors(model):
        grid = tensor.quantization
        grids[plain[tensor_name(tensor)]] = float(grid.scale[0]), int(grid.zeroPoint[0])
    return grids


def _integer_tensors(model: Any) -> Iterator[Any]:
    for tensor in main_graph(model).tensors:
        grid = tensor.quantization
        if grid is not None and grid.scale is not None and model.buffers[tensor.buffer].data is None:
            yield tensor


def unexplained(shortfalls: Iterable[Shortfall]) -> tuple[Shortfall, ...]:
    """Give those that no rule of the quantizer explains: a sound file has none."""
    return tuple(each for each in shortfalls if each.reason == _UNEXPLAINED)


def require_plan(shortfalls: Iterable[Shortfall], path: Path) -> None:
    """Check that whatever a file holds otherwise than its plan follows from a rule of the quantizer.

    Raises:
        ConversionError: Something does not.
    """
    if wrong := unexplained(shortfalls):
        first, more = wrong[0], f" and {len(wrong) - 1} more" if len(wrong) > 1 else ""
        message = (
            f"{path.name}: {first.layer} has {first.found}, the plan {first.wanted}{more}: {first.reason}, "
            "so the file must not pass for the plan's"
        )
        raise ConversionError(message)


def wanted_scale(observed: TensorRange, precision: Precision) -> float:
    """Give the scale a range asks for: asymmetric int8 that holds 0, or symmetric int16."""
    low, high = min(observed.low, 0.0), max(observed.high, 0.0)
    return max(-low, high) / 32767 if precision is Precision.W8A16 else (high - low) / 255


def activation_shortfalls(model: Any, precision: Precision, ranges: TensorRanges) -> Iterator[Shortfall]:
    """Compare the grid of every integer activation with the plan's range for that tensor.

    Args:
        model: Read back from disk.
        precision: A static integer precision.
        ranges: What the quantizer was given, and what the plan said.
    """
    makers = _makers(model)
    found = activation_grids(model)
    for name, (scale, zero_point) in found.items():
        if name in ranges.measured:
            reason = "the plan has no node with its values; the range was measured on the float TFLite file"
            yield Shortfall(layer=name, wanted="a range of the plan", found=f"scale {scale:.6g}", reason=reason)
        elif name in ranges.planned:
            planned = ranges.planned[name]
            wanted = wanted_scale(planned, precision)
            middle = activation_grid(planned, smallest_scale=1e-30).zero_point if precision is Precision.W8A8 else 0
            if abs(scale - wanted) > _TOLERANCE * wanted or zero_point != middle:
                yield Shortfall(
                    layer=name,
                    wanted=f"scale {wanted:.6g}, zero point {middle}",
                    found=f"scale {scale:.6g}, zero point {zero_point}",
                    reason=_why(name, wanted, scale, makers, found),
                )


def _why(
    name: str,
    wanted: float,
    scale: float,
    makers: Mapping[str, tuple[str, tuple[str, ...]]],
    found: Mapping[str, tuple[float, int]],
) -> str:
    kind, sources = makers.get(name, ("", ()))
    if kind in _KEEPS_GRID and found.get(sources[0], (0.0, 0))[0] == scale:
        return f"{kind} keeps the grid of its input {sources[0]}"
    for result, (other, inputs) in makers.items():
        if other in _ONE_GRID and name in (result, *inputs) and found.get(result, (0.0, 0))[0] == scale:
            return f"{other} has one grid for its inputs and its result {result}"
    if kind in _FIXED:
        return f"{kind} has one grid by TFLite's specification"
    if wanted <= SMALLEST_RANGE:
        return f"the quantizer has no scale below {SMALLEST_RANGE:g}"
    return _UNEXPLAINED


def weight_shortfalls(model: Any, float_model: Any) -> Iterator[Shortfall]:
    """Compare the scales of every layer's weights with ``max|w| / 127`` of its float weights, and biases with theirs.

    Args:
        model: Read back from disk.
        float_model: What was quantized.
    """
    floats_of = {layer.name: (layer.weight, layer.bias) for layer in layers(float_model)}
    for layer in layers(model):
        name, weight, bias, axis = layer.name, layer.weight, layer.bias, layer.axis
        if name not in floats_of or dtype_name(weight) != "int8":
            continue
        floats, float_bias = floats_of[name]
        wanted = weight_scales(np.moveaxis(numbers(float_model, floats), axis, 0))
        scales = np.broadcast_to(np.asarray(weight.quantization.scale, np.float64), wanted.shape)
        off = np.abs(scales / wanted - 1)
        if np.any(np.asarray(weight.quantization.zeroPoint) != 0) or off.max() > _TOLERANCE:
            worst, differ = int(off.argmax()), int((off > _TOLERANCE).sum())
            raised = np.all(scales >= wanted * (1 - _TOLERANCE)) and _have_biases(off, float_model, float_bias)
            yield Shortfall(
                layer=name,
                wanted=f"weight scale {wanted[worst]:.6g} in channel {worst}, zero point 0",
                found=f"weight scale {scales[worst]:.6g}; {differ} of {len(off)} channels differ",
                reason="raised so that the bias fits its integer" if raised else _UNEXPLAINED,
            )
        yield from _bias_shortfall(model, name, bias, float_model, float_bias)


def _have_biases(off: NDArray[np.float64], float_model: Any, bias: Any) -> bool:
    """Whether the channels whose scale differs have a bias at all."""
    values = numbers(float_model, bias) if bias is not None else np.zeros(len(off))
    return bool(np.all(values[off > _TOLERANCE] != 0))


def _bias_shortfall(model: Any, name: str, bias: Any, float_model: Any, float_bias: Any) -> Iterator[Shortfall]:
    if bias is None or float_bias is None or bias.quantization is None or bias.quantization.scale is None:
        return
    scales, wanted = np.asarray(bias.quantization.scale, np.float64), numbers(float_model, float_bias)
    found = numbers(model, bias) * scales
    off = np.abs(found - wanted) / scales
    worst = int(off.argmax())
    if off[worst] > 1 + np.abs(wanted[worst] / scales[worst]) * 2.0**-23:
        yield Shortfall(
            layer=name,
            wanted=f"bias {wanted[worst]:.6g} in channel {worst}",
            found=f"bias {found[worst]:.6g}",
            reason=_UNEXPLAINED,
        )


def float_shortfalls(model: Any, precision: Precision, kept_float: Collection[str]) -> Iterator[Shortfall]:
    """List the operators that compute in float though the plan does not keep them so."""
    for kind, operator, graph in operators(model):
        result = graph.tensors[operator.outputs[0]]
        name = tensor_name(result)
        if kind not in BORDER and dtype_name(result) == "float32" and name not in kept_float:
            reason = f"the quantizer has no {precision} form of {kind}"
            yield Shortfall(layer=name, wanted=precision.value, found="float32", reason=reason)


def _makers(model: Any) -> dict[str, tuple[str, tuple[str, ...]]]:
    """Give the operator that makes each tensor, by plain name, and the tensors it reads."""
    graph, plain = main_graph(model), plain_names(model)

    def named(index: int) -> str:
        name = tensor_name(graph.tensors[index])
        return plain.get(name, name)

    return {
        named(operator.outputs[0]): (op_name(model, operator), tuple(named(i) for i in operator.inputs if i >= 0))
        for operator in graph.operators
        if tensor_name(graph.tensors[operator.outputs[0]]) in plain
    }


def layers(model: Any) -> Iterator[Layer]:
    """Yield every layer with constant weights."""
    plain = plain_names(model)
    for kind, operator, graph in operators(model):
        if kind in CONVOLUTIONS and (weight := constant_behind(model, graph, operator.inputs[1])) is not None:
            last = operator.inputs[2] if kind != "TRANSPOSE_CONV" and len(operator.inputs) > 2 else -1
            bias = constant_behind(model, graph, last) if last >= 0 else None
            axis, name = 3 if kind == "DEPTHWISE_CONV_2D" else 0, tensor_name(graph.tensors[operator.outputs[0]])
            yield Layer(name=plain.get(name, name), kind=kind, weight=weight, bias=bias, axis=axis)


def numbers(model: Any, tensor: Any) -> NDArray[np.float64]:
    """Give the values of a constant; int4 ones are two to a byte, the first in its lower half."""
    data = bytes(model.buffers[tensor.buffer].data)
    if dtype_name(tensor) != "int4":
        values: NDArray[Any] = np.frombuffer(data, np.dtype(dtype_name(tensor)))
    else:
        pairs = np.frombuffer(data, np.int8)
        halves = np.stack([np.left_shift(pairs, 4), pairs], axis=1).ravel()
        values = np.right_shift(halves, 4)[: np.prod(tensor.shape)]
    return values.reshape(tensor.shape).astype(np.float64)
