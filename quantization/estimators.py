"""Ranges from what was seen of a tensor: which values its integers cover, and which they clip.

* ``min-max``: the smallest and the largest value.
* ``moving-average``: each picture's smallest and largest value, averaged: ``r <- m r + (1 - m) new``. The last pictures
  count most, so the order of the pictures matters, here alone.
* ``percentile``: the narrowest range that clips at most a given share of all values, half of it at either end, all of
  it at one end where the values lie on one side of 0.
* ``mse``: the range whose int8 grid gives the smallest mean squared error of all values, rounding and clipping
  together (as in Banner et al., "Post training 4-bit quantization of convolutional networks", NeurIPS 2019, by search).
* ``entropy``: the range for which the histogram that int8 leaves over differs least from the true one, measured by the
  Kullback-Leibler divergence (Migacz, "8-bit inference with TensorRT", GTC 2017), searched at both ends.

The last three work on a :class:`quantization.histogram.Histogram`, so their ends are known to a bin, 1/1000 of
the tensor's range or less; an end that is not moved is exact. Every range but that of min-max holds 0 by itself (the
grid of a min-max range is widened to hold it), and one that starts or ends at 0, as behind a ReLU, keeps that end.
"""

from collections.abc import Callable
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from quantization.histogram import Histogram

__all__ = ["LEVELS", "entropy_range", "holding_zero", "mse_range", "percentile_range"]

LEVELS: Final = 255
"""Steps between the smallest and the largest int8 integer."""

Floats = NDArray[np.floating[Any]]
Ends = tuple[float, float]
Loss = Callable[[Floats, Floats], Floats]
"""Takes low and high ends ``[C]``, gives the loss of each pair ``[C]``."""

_CANDIDATES: Final = 32
_ROUNDS: Final = 4


def holding_zero(low: float, high: float) -> Ends:
    """Widen a range to hold 0."""
    return min(low, 0.0), max(high, 0.0)


def percentile_range(histogram: Histogram, percentile: float) -> Ends:
    """Give the narrowest range, to a bin, that holds a share of the values.

    Args:
        histogram: Of the values.
        percentile: Percent of the values that are not clipped; at most ``1 - percentile / 100`` of them are.
    """
    low, high = holding_zero(histogram.low, histogram.high)
    allowed = (1 - percentile / 100) * histogram.total
    if low < 0 < high:
        allowed /= 2
    zero = -histogram.first
    below, above = np.cumsum(histogram.counts[:zero]), np.cumsum(histogram.counts[zero:][::-1])
    cut_below, cut_above = (int(np.searchsorted(found, allowed, side="right")) for found in (below, above))
    edges = histogram.edges
    return max(low, float(edges[cut_below])), min(high, float(edges[len(edges) - 1 - cut_above]))


def mse_range(histogram: Histogram) -> Ends:
    """Give the range whose int8 grid has the smallest mean squared error."""
    centres, counts = _filled(histogram)
    weights = counts / counts.sum()

    def loss(lows: Floats, highs: Floats) -> Floats:
        steps, levels = _rounded(centres, lows, highs)
        found: Floats = np.square(steps * levels - centres) @ weights
        return found

    return _smallest(loss, histogram)


def entropy_range(histogram: Histogram) -> Ends:
    """Give the range with the smallest Kullback-Leibler divergence.

    P is the histogram of the values that are kept, with what is clipped added to the outermost bins of those. Q is what
    int8 knows of it: each integer's share of the kept values, spread evenly over the filled bins that it stands for.
    Only filled bins count, and not the one that starts at 0, since 0 is exact on every grid.
    """
    centres, counts = _filled(histogram, but=-histogram.first)
    if len(counts) < 2:
        return holding_zero(histogram.low, histogram.high)
    return _smallest(lambda lows, highs: _divergence(centres, counts, lows, highs), histogram)


def _divergence(centres: Floats, counts: Floats, lows: Floats, highs: Floats) -> Floats:
    """Give KL(P, Q) for each range; ``centres`` and ``counts`` ``[B]`` of filled bins, in rising order."""
    inside = (centres >= lows[:, None]) & (centres <= highs[:, None])
    rows = np.arange(len(lows))
    first, last = inside.argmax(axis=1), inside.shape[1] - 1 - inside[:, ::-1].argmax(axis=1)
    kept = np.where(inside, counts, 0.0)
    truth = kept.copy()
    np.add.at(truth, (rows, first), np.where(centres < lows[:, None], counts, 0.0).sum(axis=1))
    np.add.at(truth, (rows, last), np.where(centres > highs[:, None], counts, 0.0).sum(axis=1))
    _, levels = _rounded(centres, lows, highs)
    levels = (levels + LEVELS + (2 * LEVELS + 1) * rows[:, None]).astype(np.int64)
    mass = np.bincount(levels.ravel(), kept.ravel())
    bins = np.bincount(levels.ravel(), inside.ravel())
    known = mass[levels] / np.maximum(bins[levels], 1)
    with np.errstate(divide="ignore", invalid="ignore"):
        p, q = truth / truth.sum(axis=1, keepdims=True), known / kept.sum(axis=1, keepdims=True)
        terms = np.where(p > 0, p * np.log(p / q), 0.0)
    found: Floats = np.where(inside.any(axis=1), terms.sum(axis=1), np.inf)
    return found


def _filled(histogram: Histogram, *, but: int | None = None) -> tuple[Floats, Floats]:
    """Give the middles, within the values' own range, and the counts of the bins that hold a value, one left out."""
    filled = histogram.counts > 0
    if but is not None:
        filled[but] = False
    centres = np.clip(histogram.centres[filled], histogram.low, histogram.high)
    return centres, histogram.counts[filled].astype(np.float64)


def _rounded(values: Floats, lows: Floats, highs: Floats) -> tuple[Floats, Floats]:
    """Round values ``[B]`` to the int8 grid of each range ``[C]``: step ``[C, 1]``, and steps from 0 ``[C, B]``.

    The grid is that of :func:`quantization.affine.activation_grid`, counted from its zero point.
    """
    steps = ((highs - lows) / LEVELS)[:, None]
    lowest = np.clip(np.rint(lows[:, None] / steps), -LEVELS, 0)
    return steps, np.clip(np.rint(values / steps), lowest, lowest + LEVELS)


def _smallest(loss: Loss, histogram: Histogram) -> Ends:
    """Search the range of the smallest loss: one end after the other, until neither can be moved to lower it.

    An end is tried at every 32nd part of its side, then around the best at every bin or every 32nd part of what lies
    between; where several are equally good the widest is kept.
    """
    low, high = holding_zero(histogram.low, histogram.high)
    if low == high:
        return low, high
    edges, zero = histogram.edges, -histogram.first
    lows = edges[:zero] if zero else edges[:1]
    sides = (np.maximum(lows, low), np.minimum(edges[:zero:-1], high))
    best = [low, high]
    for _ in range(_ROUNDS):
        before = tuple(best)
        for end in (1, 0):
            best[end] = _best_end(loss, sides[end], best, end)
        if tuple(best) == before:
            break
    return best[0], best[1]


def _best_end(loss: Loss, places: Floats, best: list[float], end: int) -> float:
    """Choose one end of a range among places ``[P]``, from the widest inwards, the other end held."""
    lower, upper = 0, len(places) - 1
    while True:
        tried = np.unique(np.linspace(lower, upper, _CANDIDATES + 1).round().astype(int))
        ends = [np.full(len(tried), best[0]), np.full(len(tried), best[1])]
        ends[end] = places[tried]
        chosen = int(np.argmin(loss(ends[0], ends[1])))
        if upper - lower <= _CANDIDATES:
            return float(places[tried[chosen]])
        lower, upper = int(tried[max(chosen - 1, 0)]), int(tried[min(chosen + 1, len(tried) - 1)])
