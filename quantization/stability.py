"""Whether the calibration pictures settle the ranges: what disjoint shares of them give, compared."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from quantization.observe import SHARES, Seen

__all__ = ["LARGEST_DISAGREEMENT", "MOST_PICTURES", "Disagreement", "disagreement", "enough_pictures"]

LARGEST_DISAGREEMENT: Final = 0.125
"""Of two halves, mean of all tensors, with which ranges count as settled."""
MOST_PICTURES: Final = 10_000

_HALVES: Final = ((0, 2), (1, 3))
_SLOWEST_GAIN: Final = 1 / math.log(2)


@dataclass(frozen=True, kw_only=True)
class Disagreement:
    """How far two sets of pictures are apart on the ranges.

    Attributes:
        by_tensor: The larger difference of lows or highs over the range of both, 0 to 1; 0 for a tensor that is all 0.
        mean: Of all tensors.
    """

    by_tensor: Mapping[str, float]
    mean: float


def disagreement(seen: Mapping[str, Seen], shares: tuple[Sequence[int], Sequence[int]] = _HALVES) -> Disagreement:
    """Compare the ranges, widened to hold 0, that two sets of shares of the pictures give."""
    found: dict[str, float] = {}
    for name, tensor in seen.items():
        lows = [min(tensor.lows[list(some)].min(), 0.0) for some in shares]
        highs = [max(tensor.highs[list(some)].max(), 0.0) for some in shares]
        span = max(highs) - min(lows)
        found[name] = float(max(abs(lows[0] - lows[1]), abs(highs[0] - highs[1])) / span) if span > 0 else 0.0
    return Disagreement(by_tensor=found, mean=float(np.mean(list(found.values()))))


def enough_pictures(seen: Mapping[str, Seen], pictures: int) -> int:
    """Estimate how many pictures would bring the halves' disagreement down to the largest that passes.

    The largest of m values with a light tail grows with log m, and 1 / disagreement likewise. Its slope is taken from
    halves and quarters, and to be no less than that of normal values: with a maximum near ``s sqrt(2 log m)``,
    scattered by ``s / sqrt(2 log m)`` times a standard Gumbel value, and ``E|G - G'| = 2 log 2``, it is ``1 / log 2``.

    Args:
        seen: Every tensor, over the pictures there are.
        pictures: How many these are, at least 2.

    Returns:
        Rounded up to two digits; at most :data:`MOST_PICTURES`.
    """
    halves = disagreement(seen).mean
    if halves <= LARGEST_DISAGREEMENT:
        return pictures
    slope = _SLOWEST_GAIN
    if pictures >= SHARES:
        pairs = [((one,), (other,)) for one in range(SHARES) for other in range(one)]
        quarters = float(np.mean([disagreement(seen, pair).mean for pair in pairs]))
        slope = max(slope, (1 / halves - 1 / quarters) / math.log(2)) if quarters > 0 else slope
    missing = (1 / LARGEST_DISAGREEMENT - 1 / halves) / slope
    wanted = min(pictures * math.exp(min(missing, math.log(MOST_PICTURES))), float(MOST_PICTURES))
    unit: int = 10 ** max(math.floor(math.log10(wanted)) - 1, 0)
    return min(math.ceil(wanted / unit) * unit, MOST_PICTURES)
