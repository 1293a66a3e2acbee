"""Emitters and executors, one sub-package per format. ``FORMATS`` is the whole registry.

Importing this package imports no converter library: each function imports what it needs.
"""

from typing import Final

from converters import coreml, executorch, tflite
from lspdmobile.artifact import Converter
from lspdmobile.choices import Format

__all__ = ["FORMATS"]

FORMATS: Final[dict[Format, Converter]] = {
    Format.COREML: coreml,
    Format.TFLITE: tflite,
    Format.EXECUTORCH: executorch,
}
