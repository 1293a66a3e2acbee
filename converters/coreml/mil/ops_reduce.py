"""Reductions over axes."""

from collections.abc import Callable, Mapping
from typing import Final

import torch
from torch import Tensor

from converters.coreml.mil.arguments import Arguments, Kernel, Planner

__all__ = ["PLANNERS"]


def _over_axes(function: Callable[[Tensor, tuple[int, ...], bool], Tensor]) -> Planner:
    def plan(args: Arguments) -> Kernel:
        axes = args.axes("axes", args.rank("x"))
        keep = args.flag("keep_dims")
        return args.kernel(lambda x: function(x, axes, keep), "x")

    return plan


def _over_axis(function: Callable[[Tensor, int, bool], Tensor]) -> Planner:
    def plan(args: Arguments) -> Kernel:
        axis = args.axis("axis", args.rank("x"), default=-1)
        keep = args.flag("keep_dims")
        if args.has("output_dtype"):
            args.text("output_dtype", ("int32",))
        return args.kernel(lambda x: function(x, axis, keep), "x")

    return plan


PLANNERS: Final[Mapping[str, Planner]] = {
    "reduce_argmax": _over_axis(torch.argmax),
    "reduce_argmin": _over_axis(torch.argmin),
    "reduce_l1_norm": _over_axes(lambda x, axes, keep: x.abs().sum(axes, keepdim=keep)),
    "reduce_l2_norm": _over_axes(lambda x, axes, keep: x.square().sum(axes, keepdim=keep).sqrt()),
    "reduce_log_sum_exp": _over_axes(torch.logsumexp),
    "reduce_max": _over_axes(torch.amax),
    "reduce_mean": _over_axes(lambda x, axes, keep: x.mean(axes, keepdim=keep)),
    "reduce_min": _over_axes(torch.amin),
    "reduce_sum": _over_axes(lambda x, axes, keep: x.sum(axes, keepdim=keep)),
    "reduce_sum_square": _over_axes(lambda x, axes, keep: x.square().sum(axes, keepdim=keep)),
}
