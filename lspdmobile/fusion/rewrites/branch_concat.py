"""Rewrite: convolutions of one input whose outputs are concatenated become one wider convolution.

Each output channel has its own kernel, so stacking kernels stacks outputs::

    concat(W_1 * x + b_1, W_2 * x + b_2) = [W_1; W_2] * x + [b_1; b_2]

1. Stride must agree; a smaller kernel is embedded into the largest (``branch_sum``), zero elsewhere.
2. With groups the output channels of a group must stay together, so more than one group is refused.
"""

from collections.abc import Sequence

import torch

from lspdmobile.fusion.linear import Linear, NotExactError
from lspdmobile.fusion.rewrites.branch_sum import embedded

__all__ = ["concatenated"]


def concatenated(branches: Sequence[Linear]) -> Linear:
    """Stack maps of one input.

    Raises:
        NotExactError: They differ in inputs, stride or number of outputs per axis, or have groups.
    """
    if any(branch.groups != 1 for branch in branches):
        message = "concatenated convolutions with groups"
        raise NotExactError(message)
    if len({branch.stride for branch in branches}) > 1 or len({branch.in_channels for branch in branches}) > 1:
        message = "concatenated convolutions with different strides or inputs"
        raise NotExactError(message)
    wide = [embedded(branch, branches) for branch in branches]
    biases = [
        branch.bias if branch.bias is not None else torch.zeros(branch.out_channels, dtype=torch.float64)
        for branch in branches
    ]
    return Linear(
        weight=torch.cat([each.weight for each in wide]),
        bias=torch.cat(biases) if any(branch.bias is not None for branch in branches) else None,
        stride=wide[0].stride,
        dilation=wide[0].dilation,
        padding=wide[0].padding,
    )
