"""A shift that all joints share: far better determined than how far any of them drifts.

An artifact that sees its pictures half a pixel off, or resizes with other pixel centres, moves every joint by the same
vector. In a quantized artifact that is less than what rounding moves single joints by, so no percentile of the drift
shows it; but rounding goes every way, and its mean over n joints shrinks with the root of n. Joints that went farther
than a heatmap cell are left out: they found another peak, which says nothing of where the first one is. Joints of one
picture are not independent, pictures are, so the standard error is of the pictures' own means.
"""

import math
from dataclasses import dataclass
from typing import Final, Self

import numpy as np
from numpy.typing import NDArray

__all__ = ["Shift"]

_FEWEST: Final = 2


@dataclass(frozen=True, kw_only=True)
class Shift:
    """Mean signed displacement of the joints that stayed within a cell, in input pixels.

    Attributes:
        x, y: To the right and down; 0 where no joint stayed.
        error_x, error_y: Standard errors; infinite of a single picture.
        pictures: How many had such a joint.
        joints: How many joints there were.
    """

    x: float
    y: float
    error_x: float
    error_y: float
    pictures: int
    joints: int

    @classmethod
    def of(cls, step: NDArray[np.float64], *, cell_px: int) -> Self:
        """Measure.

        Args:
            step: ``[N, K, 2]``: the artifact's joints minus the float student's, in input pixels.
            cell_px: Input pixels per heatmap cell.
        """
        stayed = np.hypot(step[..., 0], step[..., 1]) <= cell_px
        some = stayed.any(axis=1)
        weights = stayed[some, :, None].astype(np.float64)
        means = (step[some] * weights).sum(axis=1) / weights.sum(axis=1)
        x, y = means.mean(axis=0) if len(means) else (0.0, 0.0)
        spread = means.std(axis=0, ddof=1) if len(means) >= _FEWEST else np.full(2, np.inf)
        error_x, error_y = spread / math.sqrt(max(len(means), 1))
        return cls(
            x=float(x),
            y=float(y),
            error_x=float(error_x),
            error_y=float(error_y),
            pictures=len(means),
            joints=int(stayed.sum()),
        )

    def half_widths(self, confidence: float) -> tuple[float, float]:
        """Give half the width of Student's two-sided interval of x and of y; infinite of fewer than two pictures."""
        from scipy.special import stdtrit

        if self.pictures < _FEWEST:
            return math.inf, math.inf
        times = float(stdtrit(self.pictures - 1, (1 + confidence) / 2))
        return times * self.error_x, times * self.error_y
