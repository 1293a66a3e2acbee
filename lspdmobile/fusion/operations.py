"""The operators a cost model prices: shapes alone, no weights and no torch.

Sizes are rows and columns ``(h, w)``; pictures are float or int8 ``[1, C, h, w]``. One MAC is one multiplication with
its addition (``lspdmobile.fusion.cost``).
"""

from dataclasses import dataclass
from math import prod
from typing import Any, Final, Literal, Self

__all__ = ["ELEMENT_BYTES", "AddOp", "AffineOp", "ConvOp", "Dtype", "Op"]

Dtype = Literal["fp32", "int8"]

ELEMENT_BYTES: Final[dict[Dtype, int]] = {"fp32": 4, "int8": 1}


@dataclass(frozen=True, kw_only=True)
class ConvOp:
    """A convolution with zero padding, and the ReLU after it if there is one.

    Attributes:
        in_channels, out_channels, groups: As in ``torch.nn.Conv2d``.
        kernel, dilation, stride: Rows and columns.
        padding: Zeros before the first row, behind the last, before the first column, behind the last.
        in_size: Rows and columns of the input, without padding.
        bias: Whether it adds one number per output channel.
    """

    in_channels: int
    out_channels: int
    groups: int
    kernel: tuple[int, int]
    dilation: tuple[int, int]
    stride: tuple[int, int]
    padding: tuple[int, int, int, int]
    in_size: tuple[int, int]
    bias: bool

    @classmethod
    def same_size(
        cls, channels: int, kernel: tuple[int, int] = (3, 3), *, dilation: int = 1, side: int = 16, **changes: Any
    ) -> Self:
        """Describe a convolution that keeps a square picture's size, depthwise unless ``changes`` say otherwise."""
        rows, columns = (dilation * (taps // 2) for taps in kernel)
        fields: dict[str, Any] = {
            "in_channels": channels,
            "out_channels": channels,
            "groups": channels,
            "kernel": kernel,
            "dilation": (dilation, dilation),
            "stride": (1, 1),
            "padding": (rows, rows, columns, columns),
            "in_size": (side, side),
            "bias": True,
        }
        return cls(**{**fields, **changes})

    def __post_init__(self) -> None:
        """Refuse a shape that no convolution has.

        Raises:
            ValueError: Groups do not divide the channels, or the kernel does not fit into the padded input.
        """
        if self.groups < 1 or self.in_channels % self.groups or self.out_channels % self.groups:
            message = f"{self.groups} groups do not divide {self.in_channels} and {self.out_channels} channels"
            raise ValueError(message)
        if min(self.out_size) < 1:
            message = f"a {self.kernel} kernel at dilation {self.dilation} does not fit into {self.in_size} padded"
            raise ValueError(message)

    @property
    def out_size(self) -> tuple[int, int]:
        """Rows and columns of the output."""
        pads = self.padding[0] + self.padding[1], self.padding[2] + self.padding[3]
        rows, columns = (
            (size + pad - dilation * (kernel - 1) - 1) // stride + 1
            for size, pad, dilation, kernel, stride in zip(
                self.in_size, pads, self.dilation, self.kernel, self.stride, strict=True
            )
        )
        return rows, columns

    @property
    def taps(self) -> int:
        """Weights of one kernel of one input channel."""
        return prod(self.kernel)

    @property
    def is_depthwise(self) -> bool:
        """Whether every channel has one kernel of its own."""
        return self.groups == self.in_channels == self.out_channels

    @property
    def pixels(self) -> int:
        """Output pixels."""
        return prod(self.out_size)

    @property
    def macs(self) -> int:
        """Plain multiply-accumulates."""
        return self.pixels * self.out_channels * self.taps * self.in_channels // self.groups

    def bytes_moved(self, dtype: Dtype) -> int:
        """Input, weights and output, each once; a bias takes four bytes in either type."""
        elements = prod(self.in_size) * self.in_channels + self.pixels * self.out_channels
        weights = self.out_channels * self.taps * self.in_channels // self.groups
        return (elements + weights) * ELEMENT_BYTES[dtype] + 4 * self.out_channels * self.bias


@dataclass(frozen=True, kw_only=True)
class _Elementwise:
    channels: int
    size: tuple[int, int]

    @property
    def pixels(self) -> int:
        """Output pixels."""
        return prod(self.size)


@dataclass(frozen=True, kw_only=True)
class AddOp(_Elementwise):
    """The sum of two pictures, element by element, and the ReLU after it if there is one."""

    @property
    def macs(self) -> int:
        """None: an addition alone is no MAC."""
        return 0

    def bytes_moved(self, dtype: Dtype) -> int:
        """Both inputs and the output."""
        return 3 * self.channels * self.pixels * ELEMENT_BYTES[dtype]


@dataclass(frozen=True, kw_only=True)
class AffineOp(_Elementwise):
    """A scale and a shift per channel by themselves: a batch norm that was not folded."""

    @property
    def macs(self) -> int:
        """One for each element."""
        return self.channels * self.pixels

    def bytes_moved(self, dtype: Dtype) -> int:
        """Input, output, and two numbers per channel."""
        return 2 * self.channels * self.pixels * ELEMENT_BYTES[dtype] + 8 * self.channels


Op = ConvOp | AddOp | AffineOp
