"""Core ML: emit ``.mlpackage`` files, run them anywhere, look inside. The module satisfies ``Converter``."""

from converters.coreml.emit import SUFFIX, emit, supported
from converters.coreml.execute import open_executor
from converters.coreml.inspect import inspect

__all__ = ["SUFFIX", "emit", "inspect", "open_executor", "supported"]
