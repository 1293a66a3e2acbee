"""Every kind of fault."""

from collections.abc import Mapping
from typing import Final

from benchmarks.mutations.attributes import ATTRIBUTES
from benchmarks.mutations.choosing import Mutation
from benchmarks.mutations.constants import CONSTANTS
from benchmarks.mutations.wiring import WIRING

__all__ = ["KINDS"]

KINDS: Final[Mapping[str, Mutation]] = {**CONSTANTS, **ATTRIBUTES, **WIRING}
"""Kind of fault to the function that plants it."""
