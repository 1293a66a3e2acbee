"""ExecuTorch ``.pte`` whose network is a Core ML program: the phone's ExecuTorch runtime hands it to Core ML.

The one place that knows two formats (docs/adr/0002-core-ml-inside-pte.md).
"""

from typing import Final

from converters.executorch_coreml.emit import SUFFIX, WHY_NOT, emit, misfit, supported
from converters.executorch_coreml.execute import deviation, open_executor, precision_losses
from converters.executorch_coreml.inspect import inspect

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
