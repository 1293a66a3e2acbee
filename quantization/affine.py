"""Scale and zero point: pure arithmetic on ranges and weights.

A grid of 8 bits represents ``real = scale * (integer - zero_point)`` for integers from ``quant_min`` to ``quant_max``.

Activations (per tensor, asymmetric): the range is widened to hold 0, so that padding and ReLU are exact;
``scale = (high - low) / (quant_max - quant_min)`` and ``zero_point = quant_min - round(low / scale)``.
Weights (per output channel, symmetric): ``zero_point = 0``, ``scale = max|w| / n``, integers from -n to n, where n is
127 for 8 bits and 7 for 4.
Rounding is half to even, as in PyTorch, XNNPACK and Core ML.
"""

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from lspdmobile.choices import Precision
from quantization.plan import TensorRange

__all__ = [
    "INTEGER_WEIGHTS",
    "SMALLEST_SCALE",
    "AffineGrid",
    "activation_grid",
    "dequantize",
    "largest_weight",
    "quantize",
    "smallest_weight_scale",
    "weight_bits",
    "weight_scales",
]

Floats = NDArray[np.floating[Any]]

SMALLEST_SCALE: Final = 2.0**-23
"""Scales never go below this (float32's machine epsilon), so that an all-zero tensor still has a grid."""

INTEGER_WEIGHTS: Final = (Precision.W4, Precision.W8, Precision.W8A8, Precision.W8A16)
"""Precisions whose weights are integers times a scale."""

_BIAS_MAX: Final = 2.0**30


@dataclass(frozen=True, kw_only=True)
class AffineGrid:
    """The reals an integer tensor can represent.

    Attributes:
        scale: Distance of two neighbouring values, above 0.
        zero_point: Integer that stands for 0.
        quant_min, quant_max: Smallest and largest integer.
    """

    scale: float
    zero_point: int
    quant_min: int = -128
    quant_max: int = 127

    @property
    def low(self) -> float:
        """Smallest representable value."""
        return self.scale * (self.quant_min - self.zero_point)

    @property
    def high(self) -> float:
        """Largest representable value."""
        return self.scale * (self.quant_max - self.zero_point)


def activation_grid(observed: TensorRange, *, smallest_scale: float = SMALLEST_SCALE) -> AffineGrid:
    """Give the asymmetric int8 grid that covers a calibrated range and 0.

    Raises:
        ValueError: The range is not finite or its low end is above its high end.
    """
    if not np.isfinite([observed.low, observed.high]).all() or observed.low > observed.high:
        message = f"not a range: {observed.low} to {observed.high}"
        raise ValueError(message)
    low, high = min(observed.low, 0.0), max(observed.high, 0.0)
    scale = max((high - low) / 255, smallest_scale)
    zero_point = -128 - int(np.rint(low / scale))
    return AffineGrid(scale=scale, zero_point=int(np.clip(zero_point, -128, 127)))


def weight_bits(precision: Precision, channels: int) -> int:
    """Give the bits of a layer's integer weights.

    Under ``w4`` layers that read one channel for each output, above all depthwise ones, have 8: they hold few of a
    network's weights, and no TFLite quantizer gives them fewer.

    Args:
        precision: One with integer weights.
        channels: Input channels of an output, ``C_in / groups``.

    Raises:
        ValueError: The precision has no integer weights.
    """
    if precision not in INTEGER_WEIGHTS:
        message = f"{precision} has no integer weights"
        raise ValueError(message)
    return 4 if precision is Precision.W4 and channels > 1 else 8


def largest_weight(bits: int) -> int:
    """Give the largest integer that a weight of so many bits may be; the smallest is its negative."""
    return (1 << (bits - 1)) - 1


def weight_scales(weight: Floats, *, bits: int = 8, smallest_scale: float = SMALLEST_SCALE) -> NDArray[np.float64]:
    """Give the symmetric scale of each output channel.

    Args:
        weight: ``[C_out, ...]``.
        bits: Of its integers.
        smallest_scale: Scale of a channel whose weights are all (nearly) zero.

    Returns:
        float64 ``[C_out]``.
    """
    largest = np.abs(weight.reshape(len(weight), -1)).max(axis=1).astype(np.float64)
    scales: NDArray[np.float64] = np.maximum(largest / largest_weight(bits), smallest_scale)
    return scales


def smallest_weight_scale(bias: Floats, input_scale: float) -> NDArray[np.float64]:
    """Give the scale below which a channel's bias would overflow its integer.

    Runtimes store a bias as int32 in steps of ``input_scale * weight_scale``. A channel whose weights are nearly zero
    (a pruned one, for instance) but whose bias is not would wrap around; this keeps it within 2^30.

    Args:
        bias: ``[C_out]``.
        input_scale: Scale of the layer's input.

    Returns:
        float64 ``[C_out]``.
    """
    floor: NDArray[np.float64] = np.abs(bias.astype(np.float64)) / (input_scale * _BIAS_MAX)
    return floor


def quantize(values: Floats, grid: AffineGrid) -> NDArray[np.int8]:
    """Round reals to the grid's integers; what lies outside takes the nearest end."""
    unbounded = np.rint(values / grid.scale) + grid.zero_point
    integers: NDArray[np.int8] = np.clip(unbounded, grid.quant_min, grid.quant_max).astype(np.int8)
    return integers


def dequantize(integers: NDArray[np.int8], grid: AffineGrid) -> NDArray[np.float32]:
    """Give the reals that integers stand for."""
    return (grid.scale * (integers.astype(np.float64) - grid.zero_point)).astype(np.float32)
