"""How a precision shows in a written package, and the read-back that proves it: nothing is quantized in name only."""

from collections import Counter
from collections.abc import Collection, Mapping
from typing import Final

import numpy as np

from converters.coreml.integers import stored_as
from converters.coreml.mil.constants import Constant
from converters.coreml.mil.package import Operation, Program
from converters.coreml.palettes import LAYERS, constant_behind, palette_of
from lspdmobile.choices import Precision
from lspdmobile.errors import ConversionError

__all__ = ["check_precision", "check_scales", "coarse_scales", "too_large_for_float16", "weight_dtypes"]

_DATA_INPUTS: Final = ("quantized_data", "data", "indices", "nonzero_data", "source_val", "val")
_LARGEST_FLOAT16: Final = 65504.0
_FLOAT16_STEP: Final = 2.0**-24
_COARSE: Final = 0.01


def weight_dtypes(program: Program) -> dict[str, str]:
    """Give how every layer's weight is stored, by the name of the layer's output; ``palette6`` is 6-bit indices."""
    makers = _makers(program)
    dtypes: dict[str, str] = {}
    for operation in program.operations:
        if operation.kind in LAYERS:
            bound = operation.inputs["weight"][0]
            dtypes[operation.outputs[0].name] = _stored_dtype(bound, makers)
    return dtypes


def check_precision(
    program: Program, precision: Precision, *, integer_layers: int, float32_layers: Collection[str] = ()
) -> None:
    """Compare what a package holds with what was asked for.

    Args:
        program: Read back from disk.
        precision: What was asked for.
        integer_layers: How many layers must have int8 weights under ``w8a8``; every layer must under ``w8`` and
            ``w4``, and every layer must have a palette of that many bits under ``palette6`` and ``palette4``.
        float32_layers: Outputs of those that may have float32 weights under ``fp16``.

    Raises:
        ConversionError: A layer's weights are of another dtype, or ``w8a8`` has no quantized activations.
    """
    dtypes, expected = weight_dtypes(program), _expected_dtypes(program, precision)
    wrong = {name: dtype for name, dtype in dtypes.items() if dtype != expected.get(name)}
    if precision is Precision.FP16:
        wrong = {name: dtype for name, dtype in wrong.items() if dtype != "float32" or name not in float32_layers}
    allowed = len(dtypes) - integer_layers if precision is Precision.W8A8 else 0
    if not dtypes or len(wrong) > allowed:
        examples = ", ".join(f"{name} ({dtype})" for name, dtype in list(wrong.items())[:3]) or "no layer has weights"
        promised = _in_words(precision)
        message = f"{program.path}: {precision} was asked for, but {len(wrong)} layers are not {promised}: {examples}"
        raise ConversionError(message)
    kinds = Counter(operation.kind for operation in program.operations)
    if precision is Precision.W8A8 and kinds["quantize"] < integer_layers:
        message = f"{program.path}: {kinds['quantize']} quantized activations for {integer_layers} int8 layers"
        raise ConversionError(message)


def _expected_dtypes(program: Program, precision: Precision) -> dict[str, str]:
    """Give how every layer's weight has to be stored, by the name of the layer's output."""
    makers, usual = _makers(program), _in_words(precision)
    layers = (operation for operation in program.operations if operation.kind in LAYERS)
    return {o.outputs[0].name: stored_as(o, makers) if precision is Precision.W4 else usual for o in layers}


def _in_words(precision: Precision) -> str:
    """Give how a precision stores weights."""
    known = {
        Precision.FP32: "float32",
        Precision.FP16: "float16",
        Precision.W4: "int4 (int8 of one channel)",
    }
    return known.get(precision, precision.value if precision.palette_bits else "int8")


def too_large_for_float16(program: Program) -> tuple[str, ...]:
    """Name the layers (their outputs) whose weights float16 cannot hold; Core ML Tools leaves them in float32."""
    makers = _makers(program)
    found = []
    for operation in program.operations:
        if operation.kind in LAYERS:
            weight = constant_behind(operation.inputs["weight"][0], makers)
            if weight is not None and not isinstance(weight.value, str) and weight.value.dtype == np.float32:
                found += [operation.outputs[0].name] * bool(np.abs(weight.value).max(initial=0) > _LARGEST_FLOAT16)
    return tuple(found)


def check_scales(program: Program, scales: Mapping[str, float]) -> None:
    """Find every activation scale of the plan in a ``w8a8`` package.

    Args:
        program: Read back from disk.
        scales: Tensor name to scale.

    Raises:
        ConversionError: A scale is not in the file.
    """
    makers = _makers(program)
    written = [
        float(constant.value.reshape(()))
        for operation in program.operations
        if operation.kind in ("quantize", "dequantize")
        and (constant := constant_behind(operation.inputs["scale"][0], makers)) is not None
        and not isinstance(constant.value, str)
        and constant.value.size == 1
    ]
    lost = [
        name
        for name, scale in scales.items()
        if not any(abs(have - scale) <= 2.0**-10 * scale + _FLOAT16_STEP for have in written)
    ]
    if lost:
        message = (
            f"{program.path}: the calibrated ranges of {', '.join(lost[:3])} ({len(lost)} in all) are not in the file"
        )
        raise ConversionError(message)


def coarse_scales(program: Program) -> int:
    """Count the weight scales that are so small that float16 rounds them by up to one percent or more."""
    makers = _makers(program)
    count = 0
    for operation in program.operations:
        if operation.kind.startswith("constexpr_") and "scale" in operation.inputs:
            constant = constant_behind(operation.inputs["scale"][0], makers)
            if constant is not None and not isinstance(constant.value, str) and constant.value.dtype == np.float16:
                count += int((constant.value < _FLOAT16_STEP / 2 / _COARSE).sum())
    return count


def _makers(program: Program) -> dict[str, Operation]:
    return {value.name: operation for operation in program.operations for value in operation.outputs}


def _stored_dtype(bound: str | Constant, makers: Mapping[str, Operation]) -> str:
    """Follow a weight to the constant that is stored in the file."""
    if isinstance(bound, Constant):
        return bound.type.dtype.name
    maker = makers.get(bound)
    if maker is not None and (palette := palette_of(maker, makers)) is not None:
        return palette.stored_as
    data = next((name for name in _DATA_INPUTS if maker is not None and name in maker.inputs), None)
    if maker is None or data is None:
        return "computed"
    return _stored_dtype(maker.inputs[data][0], makers)
