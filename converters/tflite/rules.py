"""Why XNNPACK or the GPU delegate leaves an operator of a ``.tflite`` file: each rule with its source.

The rules see operators as the file holds them, and operators that do not exist yet (``converters.tflite.foretelling``).
"""

from typing import Final

from lspdmobile.delegation import DelegationRule, Firmness
from lspdmobile.operators import Operator, Value

__all__ = ["CHECKED", "GPU", "XNNPACK", "has_integer_form"]

_SOURCES: Final = "https://github.com/google-ai-edge/LiteRT/blob/main/tflite"
_XNNPACK_LIST: Final = f"{_SOURCES}/delegates/xnnpack/README.md"
_GPU_SOURCE: Final = f"{_SOURCES}/delegates/gpu/common/model_builder.cc"
_GPU_CHECK: Final = f"{_SOURCES}/tools/versioning/gpu_compatibility.cc"

_FLOAT_NAMES: Final = """
ABS ADD CEIL COS DIV ELU EXP FLOOR GELU HARD_SWISH LEAKY_RELU LOG LOGISTIC MAXIMUM MINIMUM MUL NEG PRELU RELU RELU6
RELU_0_TO_1 RELU_N1_TO_1 ROUND RSQRT SIN SQRT SQUARE SQUARED_DIFFERENCE SUB TANH
CONCATENATION DEPTH_TO_SPACE EXPAND_DIMS PAD RESHAPE RESIZE_BILINEAR SLICE SPACE_TO_DEPTH SPLIT STRIDED_SLICE TRANSPOSE
AVERAGE_POOL_2D BATCH_MATMUL CONV_2D DEPTHWISE_CONV_2D FULLY_CONNECTED MAX_POOL_2D MEAN SOFTMAX SUM TRANSPOSE_CONV
REDUCE_MAX REDUCE_MIN
QUANTIZE DEQUANTIZE
"""
_INTEGER_NAMES: Final = """
ADD BATCH_MATMUL CONCATENATION CONV_2D DEPTH_TO_SPACE DEPTHWISE_CONV_2D DEQUANTIZE ELU EXPAND_DIMS FULLY_CONNECTED
LEAKY_RELU LOGISTIC MAX_POOL_2D MEAN MUL PAD QUANTIZE RESHAPE RESIZE_BILINEAR SLICE SPACE_TO_DEPTH SPLIT STRIDED_SLICE
SUB SUM TANH TRANSPOSE TRANSPOSE_CONV
"""
_KNOWN: Final = frozenset(_FLOAT_NAMES.split())
_INTEGER: Final = frozenset(_INTEGER_NAMES.split())
_GPU_TYPES: Final = ("float32", "float16", "int8", "uint8")
_GPU_ALSO: Final = {
    "CAST": ("bool", "int32"),
    "GATHER": ("int32",),
    "LOGICAL_AND": ("bool",),
    "ONE_HOT": ("int32",),
    "SELECT": ("bool",),
    "SELECT_V2": ("bool",),
}
_COMPARISONS: Final = ("EQUAL", "GREATER", "GREATER_EQUAL", "LESS", "LESS_EQUAL", "NOT_EQUAL", "LOGICAL_AND")


def has_integer_form(kind: str) -> bool:
    """Tell whether XNNPACK's delegate has an operator in 8-bit integers."""
    return kind in _INTEGER


def _types(operator: Operator) -> tuple[str, ...]:
    return tuple(value.dtype for value in (*operator.computed, *operator.outputs))


def _is_unknown(operator: Operator) -> bool:
    return operator.kind not in _KNOWN


def _has_other_types(operator: Operator) -> bool:
    return bool(operator.computed) and any(t not in ("float32", "int8", "uint8") for t in _types(operator))


def _has_4_bit_kernel(operator: Operator) -> bool:
    places = {"CONV_2D": 1, "DEPTHWISE_CONV_2D": 1, "DEQUANTIZE": 0}
    weights = operator.inputs[places[operator.kind] :][:1] if operator.kind in places else ()
    return any("int4" in (value.dtype, value.stored) for value in weights)


def _has_no_integer_form(operator: Operator) -> bool:
    return operator.kind not in _INTEGER and any(t in ("int8", "uint8") for t in _types(operator))


def _reads_computed_weights(operator: Operator) -> bool:
    weighted = ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED", "TRANSPOSE_CONV")
    return operator.kind in weighted and not all(value.constant for value in operator.inputs[1:2])


def _skips(operator: Operator) -> bool:
    return operator.kind == "STRIDED_SLICE" and any(step != 1 for step in operator.attributes.get("input3", ()))


XNNPACK: Final = (
    DelegationRule(
        name="no such operator",
        text="XNNPACK's delegate does not have this operator",
        source=_XNNPACK_LIST,
        firmness=Firmness.DOCUMENTED,
        applies=_is_unknown,
    ),
    DelegationRule(
        name="types",
        text="XNNPACK computes in float32 and 8-bit integers; other integers and booleans are left",
        source=_XNNPACK_LIST,
        firmness=Firmness.DOCUMENTED,
        applies=_has_other_types,
    ),
    DelegationRule(
        name="4-bit convolutions",
        text="XNNPACK takes 4-bit weights in FULLY_CONNECTED, not in convolutions, nor their expansion to float",
        source="tests/converters/tflite/test_weights.py reads the interpreter's partition of such a file",
        firmness=Firmness.OBSERVED,
        applies=_has_4_bit_kernel,
    ),
    DelegationRule(
        name="computed weights",
        text="XNNPACK takes weights that are constants",
        source=_XNNPACK_LIST,
        firmness=Firmness.DOCUMENTED,
        applies=_reads_computed_weights,
    ),
    DelegationRule(
        name="slices with steps",
        text="XNNPACK takes slices whose steps are all 1",
        source=_XNNPACK_LIST,
        firmness=Firmness.DOCUMENTED,
        applies=_skips,
    ),
    DelegationRule(
        name="no 8-bit form",
        text="XNNPACK has this operator in float only",
        source=f"{_XNNPACK_LIST}#quantized-operators",
        firmness=Firmness.DOCUMENTED,
        applies=_has_no_integer_form,
    ),
)
"""Why XNNPACK leaves an operator; what it takes, the interpreter says."""


def _is_gpu_type(operator: Operator, value: Value, *, made: bool) -> bool:
    also = _GPU_ALSO.get(operator.kind, ())
    if made and operator.kind in _COMPARISONS:
        also = (*also, "bool")
    return value.dtype in (*_GPU_TYPES, *also)


def _has_no_gpu_type(operator: Operator) -> bool:
    read = all(_is_gpu_type(operator, value, made=False) for value in operator.computed)
    return not (read and all(_is_gpu_type(operator, value, made=True) for value in operator.outputs))


def _has_five_axes(operator: Operator) -> bool:
    return any(len(value.shape) >= 5 for value in (*operator.inputs, *operator.outputs))


CHECKED: Final = DelegationRule(
    name="LiteRT's own check",
    text="the check of operators, attributes and shapes that LiteRT ships refuses it",
    source=_GPU_CHECK,
    firmness=Firmness.DOCUMENTED,
    applies=lambda _: False,
)
"""Filled in for each operator by the check itself, with what it says."""

GPU: Final = (
    DelegationRule(
        name="types",
        text=(
            "the GPU delegate computes in float16 or float32 and takes 8-bit integers by expanding them; "
            "int16, int32 and int64 values that are computed stay outside, but for a few operators"
        ),
        source=_GPU_SOURCE,
        firmness=Firmness.DOCUMENTED,
        applies=_has_no_gpu_type,
    ),
    DelegationRule(
        name="five axes",
        text="the GPU delegate takes tensors of at most four axes",
        source=_GPU_SOURCE,
        firmness=Firmness.DOCUMENTED,
        applies=_has_five_axes,
    ),
)
"""What the GPU delegate says of tensors; of operators, attributes and shapes its own check is asked."""
