"""Tensors made from a shape, a range or the places of values."""

from collections.abc import Mapping
from math import ceil
from typing import Final

import torch
from torch import Tensor

from converters.coreml.mil.arguments import Arguments, Kernel, Planner, whole_numbers
from converters.coreml.mil.ops_gather import in_range

__all__ = ["PLANNERS"]


def _fill(args: Arguments) -> Kernel:
    value = args.number("value", default=0.0)
    return args.kernel(lambda shape: torch.full(whole_numbers(shape), value, dtype=torch.float64), "shape")


def _fill_like(args: Arguments) -> Kernel:
    value = args.number("value", default=0.0)
    return args.kernel(lambda reference: torch.full(reference.shape, value, dtype=torch.float64), "ref_tensor")


def _shape(args: Arguments) -> Kernel:
    """Known at once where every length is."""
    lengths = args.type_of("x").shape
    if None in lengths:
        return args.kernel(lambda x: torch.tensor(x.shape, dtype=torch.int32), "x")
    known = torch.tensor(lengths, dtype=torch.int32)
    return Kernel(operands=(), run=lambda: known)


def _range_1d(args: Arguments) -> Kernel:
    def run(start: Tensor, end: Tensor, step: Tensor) -> Tensor:
        first, last, width = (value.item() for value in (start, end, step))
        if width == 0:
            message = "step is 0"
            raise ValueError(message)
        count = max(0, ceil((last - first) / width))
        return torch.arange(count, dtype=torch.float64 if start.is_floating_point() else torch.int64) * width + first

    return args.kernel(run, "start", "end", "step")


def _one_hot(args: Arguments) -> Kernel:
    """What an index out of range gives is not defined; it stops the program."""
    rank = args.rank("indices") + 1
    axis = args.axis("axis", rank, default=-1)
    values = args.number("on_value", default=1.0), args.number("off_value", default=0.0)
    on, off = (torch.tensor(value, dtype=torch.float64) for value in values)

    def run(indices: Tensor, size: Tensor) -> Tensor:
        length = int(size)
        places = torch.arange(length).reshape([-1 if place == axis else 1 for place in range(rank)])
        hit = in_range(indices, length, negatives=False).unsqueeze(axis) == places
        return torch.where(hit, on, off)

    return args.kernel(run, "indices", "one_hot_vector_size")


def _band_part(args: Arguments) -> Kernel:
    """Zero everywhere but in a band of the last two axes; a negative bound keeps its whole triangle."""
    lower, upper = args.integer("lower", default=-1), args.integer("upper", default=-1)

    def run(x: Tensor) -> Tensor:
        below = torch.arange(x.shape[-2])[:, None] - torch.arange(x.shape[-1])
        outside = torch.zeros_like(below, dtype=torch.bool)
        if lower >= 0:
            outside |= below > lower
        if upper >= 0:
            outside |= -below > upper
        return x.masked_fill(outside, 0)

    return args.kernel(run, "x")


def _non_zero(args: Arguments) -> Kernel:
    return args.kernel(torch.nonzero, "x")


PLANNERS: Final[Mapping[str, Planner]] = {
    "band_part": _band_part,
    "fill": _fill,
    "fill_like": _fill_like,
    "non_zero": _non_zero,
    "one_hot": _one_hot,
    "range_1d": _range_1d,
    "shape": _shape,
}
