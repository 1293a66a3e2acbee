"""``.pte`` files as a format: which reader a file needs is seen from what it is delegated to.

What is written is for XNNPACK unless ``converters.BACKENDS`` is asked for another backend.
"""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from converters import executorch, executorch_coreml
from converters.executorch import COST_TARGET, SUFFIX, WHY_NOT, emit, misfit, supported
from converters.executorch.program import forward_plan, read_program
from converters.executorch_coreml.embedded import CORE_ML
from lspdmobile.artifact import ArtifactFacts, Converter, Executor, PrecisionLoss

__all__ = [
    "COST_TARGET",
    "SUFFIX",
    "WHY_NOT",
    "emit",
    "inspect",
    "misfit",
    "open_executor",
    "precision_losses",
    "supported",
]


def open_executor(path: Path, *, threads: int = 1) -> Executor:
    """Load a ``.pte`` for execution, whatever it is delegated to; errors are those of its backend's reader."""
    return _reader(path).open_executor(path, threads=threads)


def inspect(path: Path) -> ArtifactFacts:
    """Read what is inside a ``.pte``, whatever it is delegated to; errors are those of its backend's reader."""
    return _reader(path).inspect(path)


def precision_losses(path: Path, pictures: NDArray[np.float32]) -> tuple[PrecisionLoss, ...]:
    """Tell what float16 arithmetic loses in a ``.pte``, whatever it is delegated to."""
    return _reader(path).precision_losses(path, pictures)


def _reader(path: Path) -> Converter:
    delegates = forward_plan(read_program(path)).delegates
    return executorch_coreml if any(delegate.id == CORE_ML for delegate in delegates) else executorch
