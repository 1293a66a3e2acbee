"""Orders of values along an axis; equal values keep theirs."""

from collections.abc import Mapping
from typing import Final

import torch
from torch import Tensor

from converters.coreml.mil.arguments import Arguments, Kernel, Planner

__all__ = ["PLANNERS"]


def _argsort(args: Arguments) -> Kernel:
    axis = args.axis("axis", args.rank("x"), default=-1)
    descending = not args.flag("ascending")
    return args.kernel(lambda x: torch.argsort(x, dim=axis, descending=descending, stable=True), "x")


def _topk(args: Arguments) -> Kernel:
    """Always sorted: with ``sort`` false any order will do. ``k`` -1 takes all."""
    axis = args.axis("axis", args.rank("x"), default=-1)
    descending = not args.flag("ascending")
    count = args.integer("k", default=1)
    args.flag("sort")
    with_indices = args.flag("return_indices", default=True)
    if args.has("output_indices_dtype"):
        stated = args.operation.outputs[-1].type.dtype.name
        if args.text("output_indices_dtype", ("int32", "uint16")) != stated:
            args.refuse("output_indices_dtype", f"is not the {stated} that is stated")

    def run(x: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        values, indices = torch.sort(x, dim=axis, descending=descending, stable=True)
        kept = x.shape[axis] if count == -1 else count
        values, indices = values.narrow(axis, 0, kept), indices.narrow(axis, 0, kept)
        return (values, indices) if with_indices else values

    return args.kernel(run, "x")


PLANNERS: Final[Mapping[str, Planner]] = {"argsort": _argsort, "topk": _topk}
