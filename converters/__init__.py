"""Emitters and executors, one sub-package per format. ``FORMATS`` and ``BACKENDS`` are the whole registry.

Importing this package imports no converter library: each function imports what it needs.
"""

from typing import TYPE_CHECKING, Final

from converters import coreml, executorch, executorch_coreml, pte, tflite
from lspdmobile.artifact import Converter
from lspdmobile.choices import Backend, Format, Precision
from lspdmobile.delegation import Delegation
from lspdmobile.deviation import CompareWithPlan

if TYPE_CHECKING:
    from torch import nn

__all__ = ["BACKENDS", "FORMATS", "comparison", "emitter", "foretell", "read_back"]

FORMATS: Final[dict[Format, Converter]] = {
    Format.COREML: coreml,
    Format.TFLITE: tflite,
    Format.EXECUTORCH: pte,
}

BACKENDS: Final[dict[Backend, Converter]] = {
    Backend.XNNPACK: executorch,
    Backend.COREML: executorch_coreml,
}
"""What writes ExecuTorch files for each backend; ``FORMATS`` reads them all."""


def emitter(form: Format, backend: Backend) -> Converter:
    """Give what writes a format; the backend matters to ExecuTorch alone."""
    return BACKENDS[backend] if form is Format.EXECUTORCH else FORMATS[form]


def foretell(
    form: Format, backend: Backend, network: "nn.Module", input_size: tuple[int, int], precision: Precision
) -> Delegation | None:
    """Foretell what the runtime will take of a fused network; None where that is not up to a list of operators."""
    if form is Format.COREML or (form is Format.EXECUTORCH and backend is Backend.COREML):
        return None
    if form is Format.TFLITE:
        return tflite.foretell(network, input_size, precision)
    return executorch.foretell(network, input_size, precision)


def comparison(form: Format, precision: Precision, backend: Backend | None) -> CompareWithPlan | None:
    """Give what compares a file with its plan in the plan's own arithmetic, or None.

    XNNPACK's graphs inside a ``.pte`` hand no tensor out; their constants are read back when they are written.
    """
    if precision in (Precision.FP32, Precision.FP16):
        return None
    if form is Format.EXECUTORCH:
        return executorch_coreml.deviation if backend is Backend.COREML else None
    return {Format.COREML: coreml.deviation, Format.TFLITE: tflite.deviation}[form]


def read_back(form: Format, precision: Precision, backend: Backend | None) -> CompareWithPlan | None:
    """Give what compares a file's numbers with its plan's where nothing can be executed beside it, or None.

    A file that was just written needs no such comparison: its emitter has read it back.
    """
    if form is Format.EXECUTORCH and backend is not Backend.COREML and precision is Precision.W8A8:
        return executorch.read_back
    return None
