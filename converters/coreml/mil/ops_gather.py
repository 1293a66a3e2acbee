"""Values picked by index.

Since iOS 17 (operations that have ``validate_indices``) a negative index is out of range; before, it counts from the
end. What an index out of range gives is not defined, so it stops the program.
"""

from collections.abc import Mapping
from typing import Final

import torch
from torch import Tensor

from converters.coreml.mil.arguments import Arguments, Kernel, Planner

__all__ = ["PLANNERS", "in_range", "reads_negatives", "taken", "taken_nd"]


def reads_negatives(args: Arguments) -> bool:
    """Whether negative indices count from the end."""
    args.flag("validate_indices")
    return not args.has("validate_indices")


def in_range(indices: Tensor, size: int, *, negatives: bool) -> Tensor:
    """Give indices counted from the front.

    Raises:
        IndexError: One is out of range.
    """
    lowest = -size if negatives else 0
    if indices.numel() and not lowest <= int(indices.min()) <= int(indices.max()) < size:
        message = f"indices reach from {int(indices.min())} to {int(indices.max())}; {lowest} to {size - 1} are allowed"
        raise IndexError(message)
    return torch.where(indices < 0, indices + size, indices).long()


def taken(x: Tensor, indices: Tensor, axis: int) -> Tensor:
    """Put ``x``'s slices along ``axis`` where ``indices`` (in range) name them: its axes replace that axis."""
    shape = (*x.shape[:axis], *indices.shape, *x.shape[axis + 1 :])
    return x.index_select(axis, indices.reshape(-1)).reshape(shape)


def taken_nd(x: Tensor, indices: Tensor, batch: int, *, negatives: bool) -> Tensor:
    """Pick by vectors of indices (the last axis), one index for each axis of ``x`` behind the ``batch`` first."""
    parts = [in_range(part, x.shape[batch + n], negatives=negatives) for n, part in enumerate(indices.unbind(-1))]
    rank = indices.dim() - 1
    shapes = [[-1 if place == axis else 1 for place in range(rank)] for axis in range(batch)]
    places = [torch.arange(x.shape[axis]).reshape(shape) for axis, shape in enumerate(shapes)]
    return x[(*places, *parts)]


def _gather(args: Arguments) -> Kernel:
    axis = args.axis("axis", args.rank("x"), default=0)
    batch = args.integer("batch_dims", default=0)
    if not 0 <= batch <= min(axis, args.rank("indices")):
        args.refuse("batch_dims", f"{batch} with axis {axis} is not implemented; no more than the axis is")
    negatives = reads_negatives(args)

    def run(x: Tensor, indices: Tensor) -> Tensor:
        indices = in_range(indices, x.shape[axis], negatives=negatives)
        if not batch:
            return taken(x, indices, axis)
        rows = x.flatten(0, batch - 1), indices.flatten(0, batch - 1)
        picked = torch.stack([taken(row, index, axis - batch) for row, index in zip(*rows, strict=True)])
        return picked.reshape(*x.shape[:batch], *picked.shape[1:])

    return args.kernel(run, "x", "indices")


def _gather_along_axis(args: Arguments) -> Kernel:
    axis = args.axis("axis", args.rank("x"), default=0)
    negatives = reads_negatives(args)
    return args.kernel(
        lambda x, indices: x.gather(axis, in_range(indices, x.shape[axis], negatives=negatives)), "x", "indices"
    )


def _gather_nd(args: Arguments) -> Kernel:
    batch = args.integer("batch_dims", default=0)
    negatives = reads_negatives(args)
    return args.kernel(lambda x, indices: taken_nd(x, indices, batch, negatives=negatives), "x", "indices")


PLANNERS: Final[Mapping[str, Planner]] = {
    "gather": _gather,
    "gather_along_axis": _gather_along_axis,
    "gather_nd": _gather_nd,
}
