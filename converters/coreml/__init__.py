"""Core ML: emit ``.mlpackage`` files, run them anywhere, look inside. The module satisfies ``Converter``."""

from converters.coreml.emit import SUFFIX, emit, misfit, supported
from converters.coreml.execute import open_executor
from converters.coreml.inspect import inspect
from converters.coreml.losses import precision_losses

__all__ = ["SUFFIX", "emit", "inspect", "misfit", "open_executor", "precision_losses", "supported"]
