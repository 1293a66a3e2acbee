"""Rewrite: a 1x1 convolution before or after another convolution becomes one convolution.

A 1x1 convolution is a matrix on the channels. For ``y = A * x + a`` and ``z = B * y + b``::

    B is 1x1:  z = (B A) * x + (B a + b)                       B unpadded; a stride of B multiplies the stride of A
    A is 1x1:  z = (B A) * x + (b + sum over taps of B a)      A with stride 1

where ``B A`` sums over the channels between them, tap by tap. In the second case the zeros that ``B`` pads are not what
``A`` makes of zeros unless it has no bias, so a 1x1 **with a bias before a zero-padded** kernel is refused; zeros that
``A`` itself pads are no obstacle. With g_A and g_B groups the result has ``gcd(g_A, g_B)``: channels of two different
blocks of that size never meet in either of them.
"""

from dataclasses import replace
from math import gcd

import torch
from torch import Tensor

from lspdmobile.fusion.linear import NO_PADDING, Linear, NotExactError, regrouped
from lspdmobile.fusion.rewrites.affine_before_conv import sum_of_paddings

__all__ = ["pointwise_after", "pointwise_before"]


def pointwise_after(first: Linear, second: Linear) -> Linear:
    """Give one map that equals any map followed by an unpadded 1x1.

    Raises:
        NotExactError: The 1x1 is padded.
    """
    if second.padding != NO_PADDING:
        message = "a padded 1x1 puts its bias where the first convolution has no pixel"
        raise NotExactError(message)
    groups, a, b = _blocks(first, second)
    weight = torch.einsum("gom,gmikl->goikl", b[:, :, :, 0, 0], a)
    bias = second.bias
    if first.bias is not None:
        extra = _applied(b, first.bias, groups)
        bias = extra if bias is None else bias + extra
    rows, columns = first.stride[0] * second.stride[0], first.stride[1] * second.stride[1]
    return replace(first, weight=weight.flatten(0, 1), bias=bias, groups=groups, stride=(rows, columns))


def pointwise_before(first: Linear, second: Linear) -> Linear:
    """Give one map that equals a 1x1 of stride 1 followed by any map.

    Raises:
        NotExactError: The 1x1 has a bias and the second map is padded, or the 1x1 is strided.
    """
    if first.stride != (1, 1):
        message = "a strided 1x1 before another kernel"
        raise NotExactError(message)
    groups, a, b = _blocks(first, second)
    bias = second.bias
    if first.bias is not None:
        if second.padding != NO_PADDING:
            message = "a 1x1 with a bias before a zero-padded kernel: the bias is missing at the border"
            raise NotExactError(message)
        extra = _applied(b, first.bias, groups)
        bias = extra if bias is None else bias + extra
    weight = torch.einsum("gomkl,gmi->goikl", b, a[:, :, :, 0, 0])
    return replace(
        second, weight=weight.flatten(0, 1), bias=bias, groups=groups, padding=sum_of_paddings(first, second)
    )


def _blocks(first: Linear, second: Linear) -> tuple[int, Tensor, Tensor]:
    """Write both maps with g common groups; give g and weights ``[g, M/g, I/g, …]`` and ``[g, O/g, M/g, …]``."""
    groups = gcd(first.groups, second.groups)
    a, b = (regrouped(each.weight, each.groups, groups) for each in (first, second))
    return groups, a.reshape(groups, -1, *a.shape[1:]), b.reshape(groups, -1, *b.shape[1:])


def _applied(b: Tensor, bias: Tensor, groups: int) -> Tensor:
    """Map a constant picture of values ``bias`` through kernels ``[g, O/g, M/g, k_y, k_x]`` that see no border."""
    return torch.einsum("gomkl,gm->go", b, bias.reshape(groups, -1)).reshape(-1)
