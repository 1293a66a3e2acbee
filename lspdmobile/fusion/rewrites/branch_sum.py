"""Rewrite: parallel linear branches of one input, summed, become one convolution (residual additions included).

Branch ``t`` reads, per axis, the offsets ``d_t j - p_t`` (``linear``). All branches read the same picture, which zero
padding continues by zeros in each of them alike, so with equal strides the sum is one map::

    sum_t (W_t * x + b_t) = (sum_t embed(W_t)) * x + sum_t b_t

1. The merged kernel begins at the smallest offset of all branches and ends at the largest; its dilation is the greatest
   common divisor of the distances between offsets, so that branches of one dilation keep it. Tap ``j`` of branch ``t``
   lands at ``(d_t j - p_t + P) / D`` where ``P`` is the merged padding and ``D`` the merged dilation; taps that
   coincide add up. Identity is the 1x1 of weight one: it lands in the centre.
2. An axis must give every branch the same number of outputs on **every** picture: ``p_front + p_back - d (k - 1)`` is
   the same for all, else the sum is refused.
3. With different groups the result has their greatest common divisor; the rest of the kernel is zero.
"""

from collections.abc import Sequence
from math import gcd

import torch
from torch import Tensor

from lspdmobile.fusion.linear import Linear, NotExactError, regrouped

__all__ = ["embedded", "merged"]


def merged(branches: Sequence[Linear]) -> Linear:
    """Add branches up into one map.

    Raises:
        NotExactError: They differ in channels, stride, or number of outputs per axis.
    """
    _refuse_unequal(branches)
    groups = gcd(*(branch.groups for branch in branches))
    axes = [_axis(branches, axis) for axis in (0, 1)]
    like = branches[0]
    weight = like.weight.new_zeros(
        like.out_channels, like.in_channels // groups, *(count for count, _, _, _ in axes), dtype=torch.float64
    )
    bias: Tensor | None = None
    for branch in branches:
        _embed_into(weight, branch, groups, axes)
        if branch.bias is not None:
            bias = branch.bias if bias is None else bias + branch.bias
    (_, rows, top, bottom), (_, columns, left, right) = axes
    return Linear(
        weight=weight,
        bias=bias,
        groups=groups,
        stride=like.stride,
        dilation=(rows, columns),
        padding=(top, bottom, left, right),
    )


def embedded(branch: Linear, others: Sequence[Linear]) -> Linear:
    """Write one branch with the kernel that holds it and all the others."""
    return merged([branch, *(_silent(other, like=branch) for other in others)])


def _embed_into(weight: Tensor, branch: Linear, groups: int, axes: Sequence[tuple[int, int, int, int]]) -> None:
    """Add a branch's taps to a kernel with these axes: count of taps, dilation, padding in front and behind."""
    places = []
    for axis, (_, dilation, front, _) in enumerate(axes):
        first = (front - branch.padding[2 * axis]) // dilation
        step = branch.dilation[axis] // dilation if branch.kernel[axis] > 1 else 1
        places.append(slice(first, first + step * (branch.kernel[axis] - 1) + 1, step))
    weight[:, :, places[0], places[1]] += regrouped(branch.weight, branch.groups, groups)


def _silent(branch: Linear, *, like: Linear) -> Linear:
    """Give a map of the branch's kernel, all zero, with the channels and groups of another."""
    return Linear(
        weight=like.weight.new_zeros(*like.weight.shape[:2], *branch.kernel),
        groups=like.groups,
        stride=branch.stride,
        dilation=branch.dilation,
        padding=branch.padding,
    )


def _refuse_unequal(branches: Sequence[Linear]) -> None:
    def differ(values: set[object]) -> bool:
        return len(values) > 1

    if differ({(b.in_channels, b.out_channels) for b in branches}):
        message = "branches with different numbers of channels"
        raise NotExactError(message)
    if differ({b.stride for b in branches}):
        message = "branches with different strides"
        raise NotExactError(message)
    if differ({tuple(_shrinks(b, axis) for axis in (0, 1)) for b in branches}):
        message = "branches whose kernels and padding give different sizes"
        raise NotExactError(message)


def _shrinks(branch: Linear, axis: int) -> int:
    """Pixels an axis loses before striding."""
    front, back = branch.padding[2 * axis : 2 * axis + 2]
    return branch.dilation[axis] * (branch.kernel[axis] - 1) - front - back


def _axis(branches: Sequence[Linear], axis: int) -> tuple[int, int, int, int]:
    """Give count of taps, dilation, and padding in front and behind of the smallest kernel that holds every branch."""
    front = max(branch.padding[2 * axis] for branch in branches)
    back = max(branch.padding[2 * axis + 1] for branch in branches)
    last = max(branch.dilation[axis] * (branch.kernel[axis] - 1) - branch.padding[2 * axis] for branch in branches)
    steps = [branch.dilation[axis] for branch in branches if branch.kernel[axis] > 1]
    dilation = gcd(last + front, *steps, *(front - branch.padding[2 * axis] for branch in branches)) or 1
    return (last + front) // dilation + 1, dilation, front, back
