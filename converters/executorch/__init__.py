"""ExecuTorch artifacts: one ``.pte`` file for the XNNPACK backend, executed here by the runtime phones ship.

This package satisfies ``lspdmobile.artifact.Converter``.
"""

from converters.executorch.emit import SUFFIX, emit, misfit, supported
from converters.executorch.execute import open_executor, precision_losses
from converters.executorch.inspect import inspect

__all__ = ["SUFFIX", "emit", "inspect", "misfit", "open_executor", "precision_losses", "supported"]
