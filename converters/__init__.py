"""Emitters and executors, one sub-package per format. ``FORMATS`` and ``BACKENDS`` are the whole registry.

Importing this package imports no converter library: each function imports what it needs.
"""

from typing import Final

from converters import coreml, executorch, executorch_coreml, pte, tflite
from lspdmobile.artifact import Converter
from lspdmobile.choices import Backend, Format

__all__ = ["BACKENDS", "FORMATS", "emitter"]

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
