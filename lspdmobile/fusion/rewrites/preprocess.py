"""Rewrite, on demand: the preprocess ``(x - mean) / std`` goes into the network, and from there into its first layer.

    (x - mean) / std = scale x + shift,    scale = 1 / std,  shift = -mean / std

What reads raw pictures instead of normalised ones is a different network, so this is done only when asked for. The
affine map is put after the picture input as a depthwise 1x1; it then goes into the first convolution under the rule of
``affine_before_conv``: exactly where that is not padded, and else refused (the zeros around a normalised picture are
the mean colour of the raw one), in which case the 1x1 stays, which is exact as well and costs one small operator.
"""

from collections.abc import Sequence

import torch

from lspdmobile.errors import BadInputError
from lspdmobile.fusion.linear import Linear, channelwise

__all__ = ["normalisation"]


def normalisation(mean: Sequence[float], std: Sequence[float]) -> Linear:
    """Write ``(x - mean) / std`` per channel as a linear map.

    Raises:
        BadInputError: A deviation is not positive, or the two differ in length.
    """
    if len(mean) != len(std) or not all(deviation > 0 for deviation in std):
        message = f"mean {list(mean)} and std {list(std)}: one positive deviation per channel is needed"
        raise BadInputError(message)
    scale = 1.0 / torch.tensor(std, dtype=torch.float64)
    return channelwise(scale, -scale * torch.tensor(mean, dtype=torch.float64))
