"""Core ML: emit ``.mlpackage`` files, run them anywhere, look inside. The module satisfies ``Converter``."""

from typing import Final

from converters.coreml.deviation import deviation
from converters.coreml.emit import SUFFIX, WHY_NOT, emit, misfit, supported
from converters.coreml.execute import open_executor
from converters.coreml.inspect import inspect
from converters.coreml.losses import precision_losses

__all__ = [
    "COST_TARGET",
    "SUFFIX",
    "WHY_NOT",
    "deviation",
    "emit",
    "inspect",
    "misfit",
    "open_executor",
    "precision_losses",
    "supported",
]

COST_TARGET: Final = "coreml-ane"
"""What it is likely to run on; forms are chosen for it (``lspdmobile.fusion.targets``)."""
