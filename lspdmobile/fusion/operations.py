"""What a form of a site costs: its operators as shapes, without weights.

Sizes are rows and columns; a picture is ``[1, C, h, w]``.
"""

from dataclasses import dataclass
from typing import Literal

__all__ = ["AddOp", "AffineOp", "ConvOp", "Dtype", "Op"]

Dtype = Literal["fp32", "int8"]


@dataclass(frozen=True, kw_only=True)
class ConvOp:
    """One convolution; ``padding`` is zeros above, below, left and right."""

    in_channels: int
    out_channels: int
    groups: int
    kernel: tuple[int, int]
    dilation: tuple[int, int]
    stride: tuple[int, int]
    padding: tuple[int, int, int, int]
    in_size: tuple[int, int]
    bias: bool

    @property
    def out_size(self) -> tuple[int, int]:
        """Rows and columns of the result."""
        rows, columns = (
            (side + sum(self.padding[2 * a : 2 * a + 2]) - self.dilation[a] * (self.kernel[a] - 1) - 1)
            // self.stride[a]
            + 1
            for a, side in enumerate(self.in_size)
        )
        return rows, columns

    @property
    def is_depthwise(self) -> bool:
        """Whether every channel has one kernel of its own."""
        return self.groups == self.in_channels == self.out_channels

    @property
    def macs(self) -> int:
        """Plain multiply-accumulates for one picture."""
        rows, columns = self.out_size
        taps = self.kernel[0] * self.kernel[1] * self.in_channels // self.groups
        return rows * columns * self.out_channels * taps


@dataclass(frozen=True, kw_only=True)
class AddOp:
    """The sum of two pictures."""

    channels: int
    size: tuple[int, int]


@dataclass(frozen=True, kw_only=True)
class AffineOp:
    """A factor and a summand per channel by themselves, such as a batch norm that was not folded."""

    channels: int
    size: tuple[int, int]


Op = ConvOp | AddOp | AffineOp
