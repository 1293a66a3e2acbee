"""Rewrite: convolutions whose outputs are concatenated become one convolution.

Every output channel has its own kernel, so stacking kernels stacks outputs. Strides agree, and a smaller kernel is
embedded into the largest (``branch_sum``), zero elsewhere. There are two cases.

1. ``concatenated``: all read the same channels::

       concat(W_1 * x + b_1, W_2 * x + b_2) = [W_1; W_2] * x + [b_1; b_2]

   With groups this is exact in one group only, the rest of each kernel being zero: a group of a convolution gives
   neighbouring outputs, while the outputs that read the same group of ``x`` lie apart, each in its own branch. (To keep
   the groups, channels would have to be interleaved and put back in order, by one more operator or in every reader.)

2. ``side_by_side``: each reads the channels behind those of the one before it, as after a split::

       concat(W_1 * x_1 + b_1, W_2 * x_2 + b_2) = diag(W_1, W_2) * concat(x_1, x_2) + [b_1; b_2]

   A block-diagonal kernel is a convolution with groups if all its blocks have the same shape: the largest number of
   groups is taken in which every branch has blocks of the same inputs and outputs (depthwise branches stay depthwise).
"""

from collections.abc import Sequence
from dataclasses import replace

import torch

from lspdmobile.fusion.linear import Linear, NotExactError, regrouped
from lspdmobile.fusion.rewrites.branch_sum import embedded

__all__ = ["concatenated", "side_by_side"]


def concatenated(branches: Sequence[Linear]) -> Linear:
    """Stack maps of one input.

    Raises:
        NotExactError: They differ in inputs, stride or number of outputs per axis.
    """
    if len({branch.in_channels for branch in branches}) > 1:
        message = "concatenated convolutions with different inputs"
        raise NotExactError(message)
    return _stacked([_in_groups(branch, 1) for branch in branches], groups=1)


def side_by_side(branches: Sequence[Linear]) -> Linear:
    """Put maps of neighbouring channels next to each other.

    Raises:
        NotExactError: They differ in stride or number of outputs per axis, or their blocks in shape.
    """
    first = branches[0]
    for fewer in range(first.groups, 0, -1):
        if first.groups % fewer == 0:
            inputs, outputs = first.in_channels // fewer, first.out_channels // fewer
            groups = [_groups_of(branch, inputs, outputs) for branch in branches]
            if all(groups):
                blocks = [_in_groups(branch, count) for branch, count in zip(branches, groups, strict=True)]
                return _stacked(blocks, groups=sum(groups))
    message = "concatenated convolutions of neighbouring channels whose groups differ in shape"
    raise NotExactError(message)


def _groups_of(branch: Linear, inputs: int, outputs: int) -> int:
    """Give the number of groups in which a map has blocks of this shape; 0 where there is none."""
    count = branch.in_channels // inputs
    exact = count * inputs == branch.in_channels and count * outputs == branch.out_channels
    return count if exact and count and branch.groups % count == 0 else 0


def _in_groups(branch: Linear, fewer: int) -> Linear:
    return replace(branch, weight=regrouped(branch.weight, branch.groups, fewer), groups=fewer)


def _stacked(branches: Sequence[Linear], *, groups: int) -> Linear:
    """Stack kernels of equal inputs per group into one map of ``groups`` groups.

    Raises:
        NotExactError: They differ in stride or number of outputs per axis.
    """
    if len({branch.stride for branch in branches}) > 1:
        message = "concatenated convolutions with different strides"
        raise NotExactError(message)
    wide = [embedded(branch, branches) for branch in branches]
    biases = [
        branch.bias if branch.bias is not None else branch.weight.new_zeros(branch.out_channels) for branch in branches
    ]
    return Linear(
        weight=torch.cat([each.weight for each in wide]),
        bias=torch.cat(biases) if any(branch.bias is not None for branch in branches) else None,
        groups=groups,
        stride=wide[0].stride,
        dilation=wide[0].dilation,
        padding=wide[0].padding,
    )
