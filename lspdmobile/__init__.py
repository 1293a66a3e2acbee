"""Fuse, quantize, emit and prove mobile human-pose students.

Importing this package imports neither torch nor any converter: everything heavy is imported by the function that needs it.
"""

from typing import Final

__all__ = ["__version__"]

__version__: Final = "0.1.0"
