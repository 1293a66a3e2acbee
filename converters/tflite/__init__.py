"""TensorFlow Lite (LiteRT) artifacts: one ``.tflite`` file, executed here by the runtime phones ship.

This package satisfies ``lspdmobile.artifact.Converter``.
"""

from converters.tflite.emit import SUFFIX, emit, misfit, supported
from converters.tflite.execute import open_executor, precision_losses
from converters.tflite.inspect import inspect

__all__ = ["SUFFIX", "emit", "inspect", "misfit", "open_executor", "precision_losses", "supported"]
