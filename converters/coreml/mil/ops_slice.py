"""Parts of tensors: slices, windows, and axes turned around."""

from collections.abc import Mapping
from typing import Final

import torch
from torch import Tensor

from converters.coreml.mil.arguments import Arguments, Kernel, Planner, whole_numbers

__all__ = ["PLANNERS"]


class _Slices:
    """``x[begin:end:stride]`` per axis as in NumPy; masks open an end, or pick the single cell at ``begin``."""

    def __init__(self, args: Arguments) -> None:
        self._rank = args.rank("x")
        for name in ("begin", "end"):
            if args.is_constant(name):
                args.integers(name, count=self._rank)
        self._stride = args.integers("stride", default=(1,) * self._rank, count=self._rank)
        if 0 in self._stride:
            args.refuse("stride", "is 0")
        self._open_begin = args.flags("begin_mask", count=self._rank)
        self._open_end = args.flags("end_mask", count=self._rank)
        self._squeeze = args.flags("squeeze_mask", count=self._rank)

    def of(self, x: Tensor, begin: Tensor, end: Tensor) -> Tensor:
        """Give the slice."""
        begins, ends = whole_numbers(begin), whole_numbers(end)
        for axis in reversed(range(self._rank)):
            x = self._along(x, axis, begins[axis], ends[axis])
        return x

    def _along(self, x: Tensor, axis: int, begin: int, end: int) -> Tensor:
        first = None if self._open_begin[axis] else begin
        if self._squeeze[axis]:
            return x.select(axis, first or 0)
        last = None if self._open_end[axis] else end
        cells = range(x.shape[axis])[slice(first, last, self._stride[axis])]
        if cells.step > 0:
            return x[(*(slice(None),) * axis, slice(cells.start, cells.stop, cells.step))]
        return x.index_select(axis, torch.tensor(cells, dtype=torch.long))


def _slice_by_index(args: Arguments) -> Kernel:
    return args.kernel(_Slices(args).of, "x", "begin", "end")


def _slice_update(args: Arguments) -> Kernel:
    """A copy of ``x`` whose slice is replaced."""
    slices = _Slices(args)

    def run(x: Tensor, update: Tensor, begin: Tensor, end: Tensor) -> Tensor:
        cells = slices.of(torch.arange(x.numel()).reshape(x.shape), begin, end)
        if cells.shape != update.shape:
            message = f"update has shape {list(update.shape)}, not {list(cells.shape)}"
            raise ValueError(message)
        return x.reshape(-1).scatter(0, cells.reshape(-1), update.reshape(-1)).reshape(x.shape)

    return args.kernel(run, "x", "update", "begin", "end")


def _slice_by_size(args: Arguments) -> Kernel:
    """``size`` cells from ``begin``, which may count from the end; size -1 takes what is left."""

    def run(x: Tensor, begin: Tensor, size: Tensor) -> Tensor:
        for axis, (place, count) in enumerate(zip(whole_numbers(begin), whole_numbers(size), strict=True)):
            first = place + x.shape[axis] if place < 0 else place
            x = x.narrow(axis, first, x.shape[axis] - first if count == -1 else count)
        return x

    return args.kernel(run, "x", "begin", "size")


def _crop(args: Arguments) -> Kernel:
    """Cuts rows off both ends of the last two axes."""
    top, bottom = args.integers("crop_height", count=2)
    left, right = args.integers("crop_width", count=2)

    def run(x: Tensor) -> Tensor:
        return x[..., top : x.shape[-2] - bottom, left : x.shape[-1] - right]

    return args.kernel(run, "x")


def _reverse(args: Arguments) -> Kernel:
    axes = args.axes("axes", args.rank("x"))
    return args.kernel(lambda x: x.flip(axes), "x")


def _reverse_sequence(args: Arguments) -> Kernel:
    """Turns the first ``lengths[i]`` cells along one axis around, for each cell i of the batch axis."""
    rank = args.rank("x")
    along, batch = args.axis("seq_axis", rank, default=0), args.axis("batch_axis", rank, default=0)
    if along == batch:
        args.refuse("seq_axis", f"{along} is the batch axis too; that is not implemented")

    def run(x: Tensor, lengths: Tensor) -> Tensor:
        rows = x.movedim((batch, along), (0, 1)).clone()
        for row, length in zip(rows, whole_numbers(lengths), strict=True):
            row[:length] = row[:length].flip(0)
        return rows.movedim((0, 1), (batch, along))

    return args.kernel(run, "x", "lengths")


def _sliding_windows(args: Arguments) -> Kernel:
    """All windows along an axis; their own axis follows it."""
    axis = args.axis("axis", args.rank("x"))
    size, stride = args.integer("size"), args.integer("stride", default=1)
    return args.kernel(lambda x: x.unfold(axis, size, stride).movedim(-1, axis + 1), "x")


PLANNERS: Final[Mapping[str, Planner]] = {
    "crop": _crop,
    "reverse": _reverse,
    "reverse_sequence": _reverse_sequence,
    "slice_by_index": _slice_by_index,
    "slice_by_size": _slice_by_size,
    "slice_update": _slice_update,
    "sliding_windows": _sliding_windows,
}
