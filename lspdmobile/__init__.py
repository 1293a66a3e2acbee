"""Fuse, quantize, emit and prove mobile human-pose students.

Importing this package imports neither torch nor any converter: the function that needs something heavy imports it.
"""

from typing import Final

__all__ = ["__version__"]

__version__: Final = "0.1.0"
