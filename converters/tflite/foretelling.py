"""What XNNPACK will take of a network as a ``.tflite`` file, told by the rules before anything is converted."""

from dataclasses import replace
from typing import TYPE_CHECKING, Final

from converters.tflite.delegates import XNNPACK_TARGET
from converters.tflite.rules import XNNPACK, has_integer_form
from converters.traced import ARGUMENTS, base_name, traced_operators
from lspdmobile.choices import Precision
from lspdmobile.delegation import Delegation, forecast
from lspdmobile.operators import Operator, Value

if TYPE_CHECKING:
    from torch import nn

__all__ = ["foretell"]

_KINDS: Final = {
    "abs": "ABS",
    "adaptive_avg_pool2d": "MEAN",
    "add": "ADD",
    "amax": "REDUCE_MAX",
    "argmax": "ARG_MAX",
    "avg_pool2d": "AVERAGE_POOL_2D",
    "cat": "CONCATENATION",
    "ceil": "CEIL",
    "clamp": "MINIMUM",
    "cos": "COS",
    "cumsum": "CUMSUM",
    "div": "DIV",
    "elu": "ELU",
    "exp": "EXP",
    "floor": "FLOOR",
    "gelu": "GELU",
    "hardtanh": "RELU6",
    "leaky_relu": "LEAKY_RELU",
    "linear": "FULLY_CONNECTED",
    "log": "LOG",
    "matmul": "BATCH_MATMUL",
    "max_pool2d": "MAX_POOL_2D",
    "maximum": "MAXIMUM",
    "mean": "MEAN",
    "minimum": "MINIMUM",
    "mul": "MUL",
    "neg": "NEG",
    "pad": "PAD",
    "permute": "TRANSPOSE",
    "pixel_shuffle": "TRANSPOSE",
    "prelu": "PRELU",
    "relu": "RELU",
    "relu6": "RELU6",
    "reshape": "RESHAPE",
    "rsqrt": "RSQRT",
    "sigmoid": "LOGISTIC",
    "sin": "SIN",
    "slice": "STRIDED_SLICE",
    "softmax": "SOFTMAX",
    "sqrt": "SQRT",
    "sub": "SUB",
    "sum": "SUM",
    "tanh": "TANH",
    "transpose": "TRANSPOSE",
    "unsqueeze": "RESHAPE",
    "upsample_bilinear2d": "RESIZE_BILINEAR",
    "upsample_nearest2d": "RESIZE_NEAREST_NEIGHBOR",
    "view": "RESHAPE",
}
"""ATen operator to the operator litert-torch makes of it; of several, the one that decides."""
_SCALED_ELU: Final = ("EXP", "SUB", "GREATER_EQUAL", "SELECT")
_FREE: Final = frozenset(("alias", "clone", "detach", "dropout", "contiguous", "_assert_tensor_metadata"))
_WEIGHTS: Final = {Precision.W4: "int4", Precision.W8: "int8", Precision.W8A8: "int8", Precision.W8A16: "int8"}


def foretell(network: "nn.Module", input_size: tuple[int, int], precision: Precision) -> Delegation:
    """Foretell the partition of a ``.tflite`` file; operators are ATen's, so that their number is not the file's.

    Args:
        network: Fused, in eval mode; maps ``[1, 3, H, W]`` to heatmaps.
        input_size: Rows and columns H, W.
        precision: Sets the dtypes that the operators will have.
    """
    traced = traced_operators(network, input_size)
    wanted = [each for each in traced if base_name(each.kind) not in _FREE]
    working = [_typed(each, kind, precision) for each in wanted for kind in _kinds(each)]
    working += [_expansion(each) for each in working if precision is Precision.W4 and each.kind == "CONV_2D"]
    return forecast(working, XNNPACK, delegate="XNNPACK", target=XNNPACK_TARGET)


def _typed(operator: Operator, kind: str, precision: Precision) -> Operator:
    """Give an operator its kind and types in the file."""
    computes = {Precision.W8A8: "int8", Precision.W8A16: "int16"}.get(precision, "float32")
    if computes == "int8" and not has_integer_form(kind):
        computes = "float32"
    weights = _WEIGHTS.get(precision, "float32")
    if weights == "int4" and kind in ("DEPTHWISE_CONV_2D", "TRANSPOSE_CONV"):
        weights = "int8"

    def typed(value: Value) -> Value:
        told = weights if value.constant else computes
        return replace(value, dtype=told) if value.is_float else value

    inputs, outputs = (tuple(map(typed, values)) for values in (operator.inputs, operator.outputs))
    return replace(operator, name=f"{kind} {operator.name}", kind=kind, inputs=inputs, outputs=outputs)


def _expansion(operator: Operator) -> Operator:
    """Give the operator that a 4-bit file has in front of a convolution, for its weights."""
    name = f"DEQUANTIZE {operator.inputs[1].name}"
    return Operator(name=name, kind="DEQUANTIZE", inputs=operator.inputs[1:2], outputs=())


def _kinds(operator: Operator) -> tuple[str, ...]:
    """Give what an operator becomes; one that is not in the table keeps its name, which no runtime knows."""
    base = base_name(operator.kind)
    if base in ("conv2d", "conv_transpose2d"):
        groups = operator.attributes[ARGUMENTS].get(6, 1)
        if base == "conv_transpose2d":
            return ("TRANSPOSE_CONV",)
        return ("DEPTHWISE_CONV_2D" if groups == operator.inputs[0].shape[1] > 1 else "CONV_2D",)
    if base == "elu" and operator.attributes[ARGUMENTS].get(1, 1) != 1:
        return _SCALED_ELU
    return (_KINDS.get(base, f"aten.{base}"),)
