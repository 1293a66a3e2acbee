"""ExecuTorch artifacts: one ``.pte`` file for the XNNPACK backend, executed here by the runtime phones ship.

This package satisfies ``lspdmobile.artifact.Converter``.
"""

from typing import Final

from converters.executorch.deviation import read_back
from converters.executorch.emit import SUFFIX, WHY_NOT, emit, misfit, supported
from converters.executorch.execute import open_executor, precision_losses
from converters.executorch.foretelling import foretell
from converters.executorch.inspect import inspect

__all__ = [
    "COST_TARGET",
    "SUFFIX",
    "WHY_NOT",
    "emit",
    "foretell",
    "inspect",
    "misfit",
    "open_executor",
    "precision_losses",
    "read_back",
    "supported",
]

COST_TARGET: Final = "executorch-xnnpack"
"""What it is likely to run on; forms are chosen for it (``lspdmobile.fusion.targets``)."""
