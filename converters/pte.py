"""``.pte`` files as a format: which reader a file needs is seen from what it is delegated to.

What is written is for XNNPACK unless ``converters.BACKENDS`` is asked for another backend.
"""

from pathlib import Path

from converters import executorch, executorch_coreml
from converters.executorch import SUFFIX, emit, misfit, supported
from converters.executorch.program import forward_plan, read_program
from converters.executorch_coreml.embedded import CORE_ML
from lspdmobile.artifact import ArtifactFacts, Converter, Executor

__all__ = ["SUFFIX", "emit", "inspect", "misfit", "open_executor", "supported"]


def open_executor(path: Path, *, threads: int = 1) -> Executor:
    """Load a ``.pte`` for execution, whatever it is delegated to; errors are those of its backend's reader."""
    return _reader(path).open_executor(path, threads=threads)


def inspect(path: Path) -> ArtifactFacts:
    """Read what is inside a ``.pte``, whatever it is delegated to; errors are those of its backend's reader."""
    return _reader(path).inspect(path)


def _reader(path: Path) -> Converter:
    delegates = forward_plan(read_program(path)).delegates
    return executorch_coreml if any(delegate.id == CORE_ML for delegate in delegates) else executorch
