"""Rewrite: average pooling is a depthwise convolution whose every tap is one over the number of pixels.

Only where the divisor is the same for every output pixel: without padding, or with zeros that are counted
(``count_include_pad``), or with a divisor of its own. Where padded pixels are left out of the mean, or the window
sticks out of the picture (``ceil_mode``), the divisor differs at the border and the map is no convolution.
"""

import torch

from lspdmobile.fusion.linear import Linear, NotExactError

__all__ = ["pooling_as_linear"]


def pooling_as_linear(
    channels: int,
    kernel: tuple[int, int],
    stride: tuple[int, int],
    padding: tuple[int, int],
    *,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor: int | None = None,
) -> Linear:
    """Write ``avg_pool2d`` of ``channels`` channels as a convolution.

    Raises:
        NotExactError: The divisor is not the same for every output pixel.
    """
    if ceil_mode:
        message = "average pooling with ceil_mode, whose divisor differs at the border"
        raise NotExactError(message)
    if any(padding) and not count_include_pad and divisor is None:
        message = "average pooling with count_include_pad=False, whose divisor differs at the border"
        raise NotExactError(message)
    share = 1.0 / (divisor or kernel[0] * kernel[1])
    return Linear(
        weight=torch.full((channels, 1, *kernel), share, dtype=torch.float64),
        groups=channels,
        stride=stride,
        padding=(padding[0], padding[0], padding[1], padding[1]),
    )
