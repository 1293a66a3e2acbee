"""Operators whose int8 result has one grid, whatever the pictures say.

LiteRT's 8-bit quantization specification fixes LOGISTIC and SOFTMAX to 1/256 with zero point -128, and TANH to 1/128
with zero point 0. All formats take these grids, so that one plan serves them all; what lies beyond is less than a step.
"""

from typing import Final

from torch.fx import Node

__all__ = ["fixed_range"]

_UNIT: Final = (0.0, 255 / 256)
_RANGES: Final = {"sigmoid": _UNIT, "softmax": _UNIT, "_softmax": _UNIT, "tanh": (-1.0, 127 / 128)}


def fixed_range(node: Node) -> tuple[float, float] | None:
    """Give the ends of a node's fixed grid; None where the pictures decide."""
    packet = getattr(node.target, "overloadpacket", None)
    return _RANGES.get(str(packet).rpartition(".")[2].removesuffix("_"))
