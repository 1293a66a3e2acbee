"""What ``report.json`` says of how values are spread: drifts over pictures and joints, work over layers, ranges."""

from typing import Final, Self

import numpy as np
from numpy.typing import NDArray

from lspdmobile.report.files import Entry

__all__ = ["EDGES_PX", "HistogramEntry", "LayerEntry", "RangesEntry"]

EDGES_PX: Final = (0.0, 0.0625, 0.125, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0)
"""Doubling, so that half a cell of every usual stride is an edge; what lies beyond the last one is counted too."""


class HistogramEntry(Entry):
    """How many joints drifted how far: ``counts[i]`` from ``edges_px[i]`` to below the next, the last without end.

    ``cell_px`` is the size of a heatmap cell in input pixels.
    """

    edges_px: tuple[float, ...]
    counts: tuple[int, ...]
    cell_px: float

    @classmethod
    def of(cls, distances: NDArray[np.float32], *, cell_px: float) -> Self:
        """Count finite distances of any shape, in input pixels."""
        counts, _ = np.histogram(distances, [*EDGES_PX, np.inf])
        return cls(edges_px=EDGES_PX, counts=tuple(counts.tolist()), cell_px=cell_px)


class LayerEntry(Entry):
    """What one layer of a fused network costs by itself: learnt numbers and multiply-accumulates."""

    name: str
    params: int
    macs: int


class RangesEntry(Entry):
    """The calibrated activation ranges, low and high, that artifacts were made with, in the order of execution."""

    artifacts: tuple[str, ...]
    ranges: dict[str, tuple[float, float]]
