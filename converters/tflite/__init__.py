"""TensorFlow Lite (LiteRT) artifacts: one ``.tflite`` file, executed here by the runtime phones ship.

This package satisfies ``lspdmobile.artifact.Converter``.
"""

from typing import Final

from converters.tflite.deviation import deviation
from converters.tflite.emit import SUFFIX, WHY_NOT, emit, misfit, supported
from converters.tflite.execute import open_executor, precision_losses
from converters.tflite.foretelling import foretell
from converters.tflite.inspect import inspect

__all__ = [
    "COST_TARGET",
    "SUFFIX",
    "WHY_NOT",
    "deviation",
    "emit",
    "foretell",
    "inspect",
    "misfit",
    "open_executor",
    "precision_losses",
    "supported",
]

COST_TARGET: Final = "litert-xnnpack"
"""What it is likely to run on; forms are chosen for it (``lspdmobile.fusion.targets``)."""
