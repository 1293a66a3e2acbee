"""``.pte`` files as a format: which reader a file needs is seen from what it is delegated to.

What is written is for XNNPACK unless ``converters.BACKENDS`` is asked for another backend.
"""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from converters import executorch, executorch_coreml
from converters.executorch import COST_TARGET, SUFFIX, WHY_NOT, emit, misfit, supported
from converters.executorch.inspect import facts_of
from converters.executorch.program import forward_plan, read_program, read_with_constants
from converters.executorch_coreml.embedded import CORE_ML
from converters.executorch_coreml.inspect import facts_inside
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
    program, held = read_with_constants(path)
    return facts_inside(path, program, held) if _has_core_ml(program) else facts_of(path, program, held)


def precision_losses(path: Path, pictures: NDArray[np.float32]) -> tuple[PrecisionLoss, ...]:
    """Tell what float16 arithmetic loses in a ``.pte``, whatever it is delegated to."""
    return _reader(path).precision_losses(path, pictures)


def _reader(path: Path) -> Converter:
    return executorch_coreml if _has_core_ml(read_program(path)) else executorch


def _has_core_ml(program: Any) -> bool:
    return any(delegate.id == CORE_ML for delegate in forward_plan(program).delegates)
