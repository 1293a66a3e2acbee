"""Core ML: emit ``.mlpackage`` files, run them anywhere, look inside. The module satisfies ``Converter``."""

from converters.coreml.deviation import deviation
from converters.coreml.emit import SUFFIX, emit, misfit, supported
from converters.coreml.execute import open_executor
from converters.coreml.inspect import inspect
from converters.coreml.losses import precision_losses

__all__ = ["SUFFIX", "deviation", "emit", "inspect", "misfit", "open_executor", "precision_losses", "supported"]
