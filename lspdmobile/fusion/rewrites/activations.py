"""Rewrite: two clamps in a row become one.

A clamp keeps a value between ``low`` and ``high``; ReLU is the clamp from 0 to infinity, ReLU6 the one from 0 to 6. For
``clamp_2(clamp_1(x))`` with finite or infinite bounds, ``low_i <= high_i``::

    low  = min(max(low_1,  low_2), high_2)
    high = min(max(high_1, low_2), high_2)

A second clamp that changes neither bound is simply left out; otherwise the first must be read by the second alone.
"""

from math import inf

__all__ = ["UNBOUNDED", "clamps_in_a_row"]

UNBOUNDED = (-inf, inf)


def clamps_in_a_row(first: tuple[float, float], second: tuple[float, float]) -> tuple[float, float]:
    """Give the bounds of one clamp that equals two."""
    low = min(max(first[0], second[0]), second[1])
    high = min(max(first[1], second[0]), second[1])
    return low, high
