"""Rewrite: a norm or affine map per channel that no neighbour takes becomes a depthwise 1x1 convolution.

A batch norm in eval mode in front of an activation, behind an addition or a concatenation, or of a value that others
read too, has no convolution to go into. It is a factor and a summand per channel ``c``, and so is a convolution whose
one tap reads its own channel::

    norm(x)[c] = scale[c] x[c] + shift[c] = (W * x + b)[c],    W[c, 0, 0, 0] = scale[c],  b[c] = shift[c]

with as many groups as channels, no padding, stride 1. No value changes. What changes is what becomes of it: runtimes
have a kernel for it where a norm is two operators or none, and int8 keeps a scale per channel, on which the one weight
of a channel is exact.
"""

from lspdmobile.fusion.linear import Linear, NotExactError

__all__ = ["as_depthwise"]


def as_depthwise(affine: Linear) -> Linear:
    """Give the depthwise 1x1 convolution that an affine map per channel is.

    Raises:
        NotExactError: It pads, strides, or mixes channels or pixels.
    """
    if not affine.is_affine:
        message = "not one factor and one summand per channel"
        raise NotExactError(message)
    return affine
