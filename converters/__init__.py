"""Emitters and executors, one sub-package per format. ``FORMATS``, ``BACKENDS`` and ``COMPARISONS`` are the
whole registry.

Importing this package imports no converter library: each function imports what it needs.
"""

from typing import Final

from converters import coreml, executorch, executorch_coreml, pte, tflite
from lspdmobile.artifact import Converter
from lspdmobile.choices import Backend, Format, Precision
from lspdmobile.deviation import CompareWithPlan

__all__ = ["BACKENDS", "COMPARISONS", "FORMATS", "emitter"]

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

COMPARISONS: Final[dict[tuple[Format, Precision], CompareWithPlan]] = {
    (Format.COREML, Precision.W8): coreml.deviation,
    (Format.COREML, Precision.W8A8): coreml.deviation,
}
"""Files that can be computed in the plan's own arithmetic; other runtimes round integers in their own way."""


def emitter(form: Format, backend: Backend) -> Converter:
    """Give what writes a format; the backend matters to ExecuTorch alone."""
    return BACKENDS[backend] if form is Format.EXECUTORCH else FORMATS[form]
