"""Rewrite: a kernel with zero taps becomes smaller kernels, possibly dilated, that are summed.

The inverse of ``branch_sum``: a kernel is the sum of any maps that share its taps out among themselves. A tap is zero
when it is zero for every channel; only the others have to be covered.

1. ``trimmed``: rows and columns of zeros at the kernel's rim are taken away, with the padding that they read, the same
   on opposite sides so that sizes stay; taps that all lie on multiples of ``D`` from the first become a dilation.
2. ``splits``: up to three square kernels of side 1, 3 or 5, centred like the original, at any dilation that fits; each
   tap goes to the first kernel of the list that has its place.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import combinations
from math import gcd
from typing import Final

import torch
from torch import Tensor

from lspdmobile.fusion.linear import Linear

__all__ = ["splits", "trimmed"]

_SIDES: Final = (1, 3, 5)
_MOST_PARTS: Final = 3


@dataclass(frozen=True, kw_only=True)
class _Grid:
    """A square kernel inside another one: side, dilation, and the rows and columns of the taps it has."""

    side: int
    dilation: int
    places: tuple[int, ...]


def trimmed(linear: Linear) -> Linear:
    """Give the same map with the smallest kernel; itself where no tap can go."""
    for axis in (0, 1):
        linear = _undilated(_without_rim(linear, axis), axis)
    return linear


def splits(linear: Linear) -> Iterator[tuple[Linear, ...]]:
    """Give the ways to write a square, centred kernel as two or three smaller ones; none where it has no zero tap."""
    used = _used(linear.weight)
    side = linear.kernel[0]
    if linear.kernel != (side, side) or linear.dilation != (1, 1) or side % 2 == 0 or bool(used.all()):
        return
    if len(set(linear.padding)) > 1 or linear.padding[0] < side // 2:
        return
    grids = _grids(side)
    for count in range(2, _MOST_PARTS + 1):
        for chosen in combinations(grids, count):
            if (parts := _shared_out(linear, used, chosen)) is not None:
                yield parts


def _used(weight: Tensor) -> Tensor:
    """Say which taps ``[k_y, k_x]`` are not zero throughout."""
    return (weight != 0).any(dim=0).any(dim=0)


def _without_rim(linear: Linear, axis: int) -> Linear:
    lines = _used(linear.weight).any(dim=1 - axis).nonzero().flatten().tolist() or [linear.kernel[axis] // 2]
    front, back = linear.padding[2 * axis : 2 * axis + 2]
    step = linear.dilation[axis]
    cut = min(lines[0], linear.kernel[axis] - 1 - lines[-1], front // step, back // step)
    if cut == 0:
        return linear
    padding = list(linear.padding)
    padding[2 * axis] -= cut * step
    padding[2 * axis + 1] -= cut * step
    weight = linear.weight.narrow(2 + axis, cut, linear.kernel[axis] - 2 * cut)
    return replace(linear, weight=weight, padding=(padding[0], padding[1], padding[2], padding[3]))


def _undilated(linear: Linear, axis: int) -> Linear:
    lines = _used(linear.weight).any(dim=1 - axis).nonzero().flatten().tolist()
    step = gcd(linear.kernel[axis] - 1, *lines)
    if step <= 1 or len(lines) < 2:
        return linear
    chosen = torch.arange(0, linear.kernel[axis], step)
    dilation = list(linear.dilation)
    dilation[axis] *= step
    weight = linear.weight.index_select(2 + axis, chosen)
    return replace(linear, weight=weight, dilation=(dilation[0], dilation[1]))


def _grids(side: int) -> list[_Grid]:
    """List the kernels that fit into a side, largest first, a 1x1 last."""
    centre = side // 2
    found = []
    for small in _SIDES:
        for dilation in range(1, centre + 1 if small > 1 else 2):
            reach = dilation * (small // 2)
            if reach <= centre and small < side:
                places = tuple(range(centre - reach, centre + reach + 1, dilation))
                found.append(_Grid(side=small, dilation=dilation, places=places))
    return found[::-1]


def _shared_out(linear: Linear, used: Tensor, grids: tuple[_Grid, ...]) -> tuple[Linear, ...] | None:
    """Give each tap to the first grid that has it; None where a tap is left, or a grid gets none."""
    left = used.clone()
    parts = []
    for index, grid in enumerate(grids):
        rows = torch.tensor(grid.places)
        here = left[rows][:, rows]
        if not bool(here.any()):
            return None
        weight = linear.weight[:, :, rows][:, :, :, rows] * here
        reach = grid.dilation * (grid.side // 2)
        padding = linear.padding[0] - linear.kernel[0] // 2 + reach
        parts.append(
            replace(
                linear,
                weight=weight,
                bias=linear.bias if index == 0 else None,
                dilation=(grid.dilation, grid.dilation),
                padding=(padding, padding, padding, padding),
            )
        )
        left[rows[:, None], rows] = False
    return None if bool(left.any()) else tuple(parts)
