"""Values put, or combined with what is there, by index.

Indices are read as the gathering operations read them. Which of several updates of one cell stays is not defined, so
``update`` refuses them; the other modes take them all. The mode has to be stated: the MIL reference and the
operations' own default disagree.
"""

from collections.abc import Callable, Mapping
from typing import Final

import torch
from torch import Tensor

from converters.coreml.mil.arguments import Arguments, Kernel, Planner
from converters.coreml.mil.ops_gather import in_range, reads_negatives, taken, taken_nd

__all__ = ["PLANNERS"]


def _update(data: Tensor, cells: Tensor, updates: Tensor) -> Tensor:
    if cells.unique().numel() != cells.numel():
        message = "mode 'update' of one cell by several updates is not defined"
        raise ValueError(message)
    return data.scatter(0, cells, updates)


def _reduced(how: str) -> Callable[[Tensor, Tensor, Tensor], Tensor]:
    return lambda data, cells, updates: data.scatter_reduce(0, cells, updates, reduce=how)


_MODES: Final[Mapping[str, Callable[[Tensor, Tensor, Tensor], Tensor]]] = {
    "update": _update,
    "add": _reduced("sum"),
    "sub": lambda data, cells, updates: data.scatter_reduce(0, cells, -updates, reduce="sum"),
    "mul": _reduced("prod"),
    "div": lambda data, cells, updates: data / torch.ones_like(data).scatter_reduce(0, cells, updates, reduce="prod"),
    "max": _reduced("amax"),
    "min": _reduced("amin"),
}
"""Each takes flat data, flat cells of it and as many updates."""


def _scattered(args: Arguments, pick: Callable[[Tensor, Tensor], Tensor]) -> Kernel:
    """Plan a scatter into the cells that ``pick`` would gather."""
    mode = args.text("mode", tuple(_MODES))
    if mode == "div" and not args.type_of("data").dtype.is_float:
        args.refuse("mode", "'div' of integers is not implemented")
    combine = _MODES[mode]

    def run(data: Tensor, indices: Tensor, updates: Tensor) -> Tensor:
        cells = pick(torch.arange(data.numel()).reshape(data.shape), indices)
        if cells.shape != updates.shape:
            message = f"updates have shape {list(updates.shape)}, not {list(cells.shape)}"
            raise ValueError(message)
        return combine(data.reshape(-1), cells.reshape(-1), updates.reshape(-1)).reshape(data.shape)

    return args.kernel(run, "data", "indices", "updates")


def _scatter(args: Arguments) -> Kernel:
    axis = args.axis("axis", args.rank("data"), default=0)
    negatives = reads_negatives(args)
    return _scattered(args, lambda x, indices: taken(x, in_range(indices, x.shape[axis], negatives=negatives), axis))


def _scatter_along_axis(args: Arguments) -> Kernel:
    axis = args.axis("axis", args.rank("data"), default=0)
    negatives = reads_negatives(args)
    return _scattered(args, lambda x, indices: x.gather(axis, in_range(indices, x.shape[axis], negatives=negatives)))


def _scatter_nd(args: Arguments) -> Kernel:
    negatives = reads_negatives(args)
    return _scattered(args, lambda x, indices: taken_nd(x, indices, 0, negatives=negatives))


PLANNERS: Final[Mapping[str, Planner]] = {
    "scatter": _scatter,
    "scatter_along_axis": _scatter_along_axis,
    "scatter_nd": _scatter_nd,
}
