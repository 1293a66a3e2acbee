"""One linear map of pictures: a convolution with zero padding, float64, and what it is called in parts.

Letters: O and I output and input channels, g groups, k_y and k_x the kernel's sides. Output pixel ``i`` of an axis with
stride ``s``, dilation ``d`` and ``p`` zeros in front reads the input pixels ``s i - p + d j`` for the taps
``j = 0 … k-1``; ``d j - p`` is the **offset** of tap ``j``. A picture continues by zeros on all sides, so two maps of
one input with equal strides add up tap by tap, offset by offset (``rewrites.branch_sum``).

Batch norms, constant factors, average pooling and zero padding are linear maps too: ``rewrites.views`` writes every
such operator of a graph in this one form.
"""

from dataclasses import dataclass, replace
from typing import Final

import torch
from torch import Tensor, nn

__all__ = ["NO_PADDING", "Linear", "NotExactError", "channelwise", "conv_of", "identity", "linear_of_conv", "regrouped"]

NO_PADDING: Final = (0, 0, 0, 0)


class NotExactError(Exception):
    """A rewrite would not be exact, or has no exact form; the text says why."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Linear:
    """A convolution of zero-padded pictures.

    Attributes:
        weight: float64 ``[O, I/g, k_y, k_x]``.
        bias: float64 ``[O]``; None where it has none, whatever the values of the weights.
        groups: Number g of groups.
        stride, dilation: By rows and by columns.
        padding: Zeros above, below, left and right.
    """

    weight: Tensor
    bias: Tensor | None = None
    groups: int = 1
    stride: tuple[int, int] = (1, 1)
    dilation: tuple[int, int] = (1, 1)
    padding: tuple[int, int, int, int] = NO_PADDING

    @property
    def out_channels(self) -> int:
        """Output channels O."""
        return int(self.weight.shape[0])

    @property
    def in_channels(self) -> int:
        """Input channels I."""
        return int(self.weight.shape[1]) * self.groups

    @property
    def kernel(self) -> tuple[int, int]:
        """Sides of the kernel."""
        return int(self.weight.shape[2]), int(self.weight.shape[3])

    @property
    def is_pointwise(self) -> bool:
        """Whether the kernel is 1x1."""
        return self.kernel == (1, 1)

    @property
    def is_channelwise(self) -> bool:
        """Whether each output channel reads the input channel of the same number and no other."""
        return self.groups == self.in_channels == self.out_channels

    @property
    def is_affine(self) -> bool:
        """Whether it is one factor and one summand per channel, and nothing else."""
        return self.is_pointwise and self.is_channelwise and self.stride == (1, 1) and self.padding == NO_PADDING

    @property
    def scale(self) -> Tensor:
        """Factor per channel ``[C]`` of a channelwise 1x1."""
        return self.weight.reshape(-1)

    @property
    def is_symmetric(self) -> bool:
        """Whether a convolution module can pad like this."""
        top, bottom, left, right = self.padding
        return top == bottom and left == right

    @property
    def on_meta(self) -> "Linear":
        """Give the same map without its numbers: what a plan needs."""
        return replace(self, weight=self.weight.to("meta"), bias=None if self.bias is None else self.bias.to("meta"))

    def without_bias(self) -> "Linear":
        """Give the same map without its bias."""
        return replace(self, bias=None)


def channelwise(
    scale: Tensor, shift: Tensor | None = None, *, padding: tuple[int, int, int, int] = NO_PADDING
) -> Linear:
    """Make the map ``scale[c] x[c] + shift[c]`` from float64 ``[C]`` each."""
    return Linear(weight=scale.reshape(-1, 1, 1, 1), bias=shift, groups=len(scale), padding=padding)


def identity(channels: int) -> Linear:
    """Make the map that changes nothing."""
    return channelwise(torch.ones(channels, dtype=torch.float64))


def linear_of_conv(conv: nn.Conv2d) -> Linear:
    """Read a convolution module whose padding is zeros, given as numbers."""
    assert conv.padding_mode == "zeros"
    assert not isinstance(conv.padding, str)
    rows, columns = conv.padding
    return Linear(
        weight=conv.weight.detach().double(),
        bias=None if conv.bias is None else conv.bias.detach().double(),
        groups=conv.groups,
        stride=(conv.stride[0], conv.stride[1]),
        dilation=(conv.dilation[0], conv.dilation[1]),
        padding=(rows, rows, columns, columns),
    )


def conv_of(linear: Linear) -> nn.Conv2d:
    """Make the convolution module, float64.

    Raises:
        NotExactError: Its padding differs between two opposite sides.
    """
    if not linear.is_symmetric:
        message = f"padding {linear.padding} differs between opposite sides, which a convolution cannot do"
        raise NotExactError(message)
    conv = nn.utils.skip_init(
        nn.Conv2d,
        linear.in_channels,
        linear.out_channels,
        linear.kernel,
        stride=linear.stride,
        padding=(linear.padding[0], linear.padding[2]),
        dilation=linear.dilation,
        groups=linear.groups,
        bias=linear.bias is not None,
        dtype=torch.float64,
    )
    assert isinstance(conv, nn.Conv2d)
    conv.requires_grad_(requires_grad=False)
    conv.weight.copy_(linear.weight)
    if conv.bias is not None and linear.bias is not None:
        conv.bias.copy_(linear.bias)
    return conv.eval()


def regrouped(weight: Tensor, groups: int, fewer: int) -> Tensor:
    """Write a kernel ``[O, I/g, k_y, k_x]`` of g groups with fewer groups, of which g is a multiple; the rest is zero.

    Output channel ``o`` of the old group ``o // (O/g)`` finds its inputs at the place of that group inside the new one.
    """
    if groups == fewer:
        return weight
    assert groups % fewer == 0
    outputs, inputs, *sides = (int(side) for side in weight.shape)
    each = groups // fewer
    wide = weight.new_zeros(fewer, each, outputs // groups, each, inputs, *sides)
    wide.diagonal(dim1=1, dim2=3).copy_(weight.reshape(fewer, each, outputs // groups, inputs, *sides).movedim(1, -1))
    return wide.reshape(outputs, each * inputs, *sides)
