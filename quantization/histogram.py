"""Streaming histograms of tensors whose range is not known beforehand.

Bins are ``2^e`` wide for a whole number ``e`` and start at whole multiples of their width, so 0 is always an edge. A
value that does not fit doubles the width as often as needed; two bins then become one, and every value lies in
exactly the bin it would have been counted in from the start, because ``floor(floor(x / w) / 2) = floor(x / 2w)``. The
counts therefore do not depend on the order of the values, and the sum of two histograms is the histogram of all values.
"""

import math
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

__all__ = ["BINS", "Histogram"]

BINS: Final = 2048
"""At most this many bins; the range of the values takes at least half of them, or nearly so."""

_SMALLEST_EXPONENT: Final = -110
_LARGEST_SHIFT: Final = 62


@dataclass(frozen=True, kw_only=True)
class Histogram:
    """How often values fell into bins that hold 0.

    Attributes:
        exponent: Bins are ``2^exponent`` wide.
        first: Bin ``i`` holds the values from ``(first + i) * width`` up to, but not including, the next edge;
            0 or less.
        counts: int64 ``[B]``, B at most :data:`BINS`; the bin that starts at 0 is among them.
        low, high: Smallest and largest value.
    """

    exponent: int
    first: int
    counts: NDArray[np.int64]
    low: float
    high: float

    @property
    def width(self) -> float:
        """Width of a bin."""
        return math.ldexp(1.0, self.exponent)

    @property
    def edges(self) -> NDArray[np.float64]:
        """Edges of the bins ``[B + 1]``; 0 is one of them."""
        return np.asarray(self.width * np.arange(self.first, self.first + len(self.counts) + 1), np.float64)

    @property
    def centres(self) -> NDArray[np.float64]:
        """Middles of the bins ``[B]``."""
        return self.edges[:-1] + self.width / 2

    @property
    def total(self) -> int:
        """How many values were counted."""
        return int(self.counts.sum())

    @classmethod
    def of(cls, values: Tensor, low: float, high: float) -> "Histogram":
        """Count the values of one tensor.

        Args:
            values: float32 of any shape, at least one value, all finite.
            low: Their smallest value.
            high: Their largest value.
        """
        return _counted(values, _exponent(low, high), low, high)

    def with_values(self, values: Tensor, low: float, high: float) -> "Histogram":
        """Count further values; arguments as for :meth:`of`."""
        if self.low <= low and high <= self.high:
            counts = self.counts + _counts(values, self.exponent, self.first, len(self.counts))
            return Histogram(exponent=self.exponent, first=self.first, counts=counts, low=self.low, high=self.high)
        return self.merged(_counted(values, _exponent(min(low, self.low), max(high, self.high)), low, high))

    def merged(self, other: "Histogram") -> "Histogram":
        """Give the histogram of both sets of values."""
        low, high = min(self.low, other.low), max(self.high, other.high)
        exponent = _exponent(low, high)
        first, last = _ends(low, high, exponent)
        counts = np.zeros(last - first + 1, np.int64)
        for part in (self, other):
            shift = min(exponent - part.exponent, _LARGEST_SHIFT)
            if shift == 0:
                start = part.first - first
                counts[start : start + len(part.counts)] += part.counts
            else:
                bins = np.arange(part.first, part.first + len(part.counts)) >> shift
                np.add.at(counts, bins - first, part.counts)
        return Histogram(exponent=exponent, first=first, counts=counts, low=low, high=high)


def _counted(values: Tensor, exponent: int, low: float, high: float) -> Histogram:
    """Count values on bins of a given width, of which there are enough."""
    first, last = _ends(low, high, exponent)
    counts = _counts(values, exponent, first, last - first + 1)
    return Histogram(exponent=exponent, first=first, counts=counts, low=low, high=high)


def _counts(values: Tensor, exponent: int, first: int, bins: int) -> NDArray[np.int64]:
    """Count values that all lie within given bins; int64 ``[bins]``."""
    places = values.reshape(-1) * math.ldexp(1.0, -exponent)
    if first < 0:
        places = places.floor_().sub_(first)
    counts: NDArray[np.int64] = torch.bincount(places.to(torch.int16), minlength=bins).numpy()
    return counts


def _exponent(low: float, high: float) -> int:
    """Give the exponent of the narrowest bins of which :data:`BINS` hold low, high and 0."""
    span = max(high, 0.0) - min(low, 0.0)
    exponent = max(math.frexp(span / BINS)[1] - 1, _SMALLEST_EXPONENT) if span > 0 else _SMALLEST_EXPONENT
    while True:
        first, last = _ends(low, high, exponent)
        if last - first < BINS:
            return exponent
        exponent += 1


def _ends(low: float, high: float, exponent: int) -> tuple[int, int]:
    """Give the numbers of the first and the last bin, counted from the one that starts at 0."""
    return math.floor(math.ldexp(min(low, 0.0), -exponent)), math.floor(math.ldexp(max(high, 0.0), -exponent))
