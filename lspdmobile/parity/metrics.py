"""Metrics between two tensors of one shape: a, the float student's, and b, the artifact's.

All are computed in float64. Where b holds a value that is not finite every metric is NaN.
"""

import math
from collections.abc import Callable, Mapping
from enum import StrEnum
from typing import Final

import numpy as np
from numpy.typing import NDArray

__all__ = ["TENSOR_METRICS", "TensorMetric", "max_abs", "relative_error", "snr_db"]

Tensor = NDArray[np.float32]


class TensorMetric(StrEnum):
    """Names of the tensor metrics, as the report spells them."""

    HEATMAP_SNR_DB = "heatmap_snr_db"
    HEATMAP_MAX_ABS = "heatmap_max_abs"
    HEATMAP_RELATIVE_ERROR = "heatmap_relative_error"


def snr_db(a: Tensor, b: Tensor) -> float:
    """Give the signal-to-noise ratio in decibels, ``10 log10(sum(a^2) / sum((a - b)^2))``.

    Infinite where a equals b; minus infinity where a is all zero and b is not.

    Raises:
        ValueError: The shapes differ or are empty.
    """
    a64, error = _pair(a, b)
    noise = float(np.square(error).sum())
    signal = float(np.square(a64).sum())
    if math.isnan(noise):
        return math.nan
    if noise == 0:
        return math.inf
    return 10 * math.log10(signal / noise) if signal > 0 else -math.inf


def max_abs(a: Tensor, b: Tensor) -> float:
    """Give the largest difference, ``max|a - b|``, in heatmap units.

    Raises:
        ValueError: The shapes differ or are empty.
    """
    return float(np.abs(_pair(a, b)[1]).max())


def relative_error(a: Tensor, b: Tensor) -> float:
    """Give ``max|a - b| / max|a|``.

    Where a is all zero: 0 if b is all zero too, infinite otherwise.

    Raises:
        ValueError: The shapes differ or are empty.
    """
    a64, error = _pair(a, b)
    largest = float(np.abs(error).max())
    scale = float(np.abs(a64).max())
    if scale > 0 or math.isnan(largest):
        return largest / scale if scale > 0 else math.nan
    return math.inf if largest > 0 else 0.0


TENSOR_METRICS: Final[Mapping[TensorMetric, Callable[[Tensor, Tensor], float]]] = {
    TensorMetric.HEATMAP_SNR_DB: snr_db,
    TensorMetric.HEATMAP_MAX_ABS: max_abs,
    TensorMetric.HEATMAP_RELATIVE_ERROR: relative_error,
}


def _pair(a: Tensor, b: Tensor) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Give a and a - b in float64; the difference is all NaN where b is not finite."""
    if a.shape != b.shape:
        message = f"tensors of one shape are needed, got {a.shape} and {b.shape}"
        raise ValueError(message)
    if a.size == 0:
        message = "an empty tensor has no error"
        raise ValueError(message)
    a64 = a.astype(np.float64)
    if not np.isfinite(b).all():
        return a64, np.full(a.shape, np.nan)
    return a64, a64 - b
