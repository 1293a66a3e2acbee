"""A reader and an executor of ML Programs that run on any operating system.

``package`` reads a saved ``.mlpackage`` (no torch), ``program.MilProgram`` runs it, ``precision`` tells what float16
costs.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from converters.coreml.mil.program import MilProgram

__all__ = ["MilProgram"]


def __getattr__(name: str) -> Any:
    """Import the executor, and with it torch, when it is first asked for."""
    if name == "MilProgram":
        from converters.coreml.mil.program import MilProgram

        return MilProgram
    message = f"module {__name__!r} has no attribute {name!r}"
    raise AttributeError(message)
