"""What one int8 scale for all heatmaps costs, beside one for each joint.

Where it would be exact. In a ``w8a8`` plan the last layer's output is int8 with one scale for all K joints, then
dequantized to float32 (its weights have a scale per joint already). Dividing row ``k`` of that layer and its bias by
the peak ``p[k]`` of joint ``k`` and multiplying heatmap ``k`` by ``p[k]`` after the dequantize computes the same, and
gives each joint a step of its own. ``equalization`` leaves output channels alone, because that multiplication is one
more operator, in float, behind the border of the network: another graph, which each emitter would have to keep float by
its own means (ai-edge-quantizer and the XNNPACK quantizer both make a multiplication int8, with one scale again).
Leaving it out is not exact: positions are decoded from ratios within one heatmap and would not move, scores would.

So nothing is changed here. The forecast says what the change could bring: both roundings of the float heatmaps, as
signal to noise of all of them and of the joint that fares worst. On the bundled student it is not worth another graph
(``benchmarks/README.md``).
"""

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from quantization.affine import activation_grid, dequantize, quantize
from quantization.plan import TensorRange

__all__ = ["OutputForecast", "forecast_output"]

_EXACT_DB: Final = 200.0


@dataclass(frozen=True, kw_only=True)
class OutputForecast:
    """Heatmaps rounded to int8, in decibels of signal to noise.

    Attributes:
        peak_ratio: Largest over smallest peak of a joint; joints without any are left out.
        shared_db, own_db: All heatmaps, with one scale for all and one for each.
        worst_shared_db, worst_own_db: The joint that fares worst, likewise.
    """

    peak_ratio: float
    shared_db: float
    own_db: float
    worst_shared_db: float
    worst_own_db: float

    def to_dict(self) -> dict[str, Any]:
        """Give what a JSON file holds."""
        return {name: round(value, 2) for name, value in vars(self).items()}


def forecast_output(heatmaps: NDArray[np.float32]) -> OutputForecast:
    """Compare the two roundings of float heatmaps ``[N, K, h, w]``, N at least 1."""
    joints = np.moveaxis(heatmaps, 1, 0).reshape(heatmaps.shape[1], -1)
    shared = _rounded(joints)
    own = np.stack([_rounded(joint) for joint in joints])
    peaks = np.abs(joints).max(axis=1)
    alive = peaks > 0
    return OutputForecast(
        peak_ratio=float(peaks[alive].max() / peaks[alive].min()) if alive.any() else 1.0,
        shared_db=_decibels(joints, shared),
        own_db=_decibels(joints, own),
        worst_shared_db=min(_decibels(*each) for each in zip(joints, shared, strict=True)),
        worst_own_db=min(_decibels(*each) for each in zip(joints, own, strict=True)),
    )


def _rounded(values: NDArray[np.float32]) -> NDArray[np.float32]:
    grid = activation_grid(TensorRange(low=float(values.min()), high=float(values.max())))
    return dequantize(quantize(values, grid), grid)


def _decibels(wanted: NDArray[np.float32], found: NDArray[np.float32]) -> float:
    """Give ten times the logarithm of the ratio of energies, at most 200."""
    lost, kept = (float(np.square(each.astype(np.float64)).sum()) for each in (wanted - found, wanted))
    return _EXACT_DB if lost == 0 or kept == 0 else min(_EXACT_DB, 10 * float(np.log10(kept / lost)))
