"""Core ML: emit ``.mlpackage`` files, run them anywhere, look inside. The module satisfies ``Converter``."""

from converters.coreml.emit import SUFFIX, emit, misfit, supported
from converters.coreml.execute import open_executor
from converters.coreml.inspect import inspect

__all__ = ["SUFFIX", "emit", "inspect", "misfit", "open_executor", "supported"]
