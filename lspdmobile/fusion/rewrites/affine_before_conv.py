"""Rewrite: a factor and a summand per channel, or zero padding, before a convolution go into it.

For ``z = scale x + shift`` on a picture padded by ``p1`` zeros, read by a convolution ``W`` padded by ``p2`` more::

    W * z + b = (W scale) * x + (b + sum over inputs and taps of W shift)

1. The summand reaches every tap only if the convolution reads no zeros of its own: with ``p2 > 0`` the border of ``z``
   is 0 and not ``shift``, so a map with a summand before a padded convolution is refused. Without one it is exact.
2. Padding before the affine map (batch norm after pad, ``p1 > 0``) is no obstacle: there the border holds ``shift``
   like every other pixel, and the merged convolution is padded by ``p1 + p2`` zeros of ``x``.
3. Each group of the convolution reads its own part of ``scale`` and ``shift``.
"""

from dataclasses import replace

from lspdmobile.fusion.linear import NO_PADDING, Linear, NotExactError

__all__ = ["absorbed", "sum_of_paddings"]


def absorbed(first: Linear, second: Linear) -> Linear:
    """Give one map that equals a channelwise 1x1 followed by any map.

    Raises:
        NotExactError: The first has a summand and the second is padded.
    """
    groups, inputs = second.groups, second.in_channels // second.groups
    outputs = second.out_channels // groups
    scale = first.scale.reshape(groups, 1, inputs, 1, 1)
    by_group = second.weight.reshape(groups, outputs, inputs, *second.kernel)
    bias = second.bias
    if first.bias is not None:
        if second.padding != NO_PADDING:
            message = "a summand before a zero-padded convolution is missing at its border"
            raise NotExactError(message)
        extra = (by_group * first.bias.reshape(groups, 1, inputs, 1, 1)).sum(dim=(2, 3, 4)).reshape(-1)
        bias = extra if bias is None else bias + extra
    return replace(
        second,
        weight=(by_group * scale).reshape(second.weight.shape),
        bias=bias,
        padding=sum_of_paddings(first, second),
    )


def sum_of_paddings(first: Linear, second: Linear) -> tuple[int, int, int, int]:
    """Add the zeros of two maps of stride 1 and kernel 1x1 first, side by side."""
    a, b = first.padding, second.padding
    return a[0] + b[0], a[1] + b[1], a[2] + b[2], a[3] + b[3]
