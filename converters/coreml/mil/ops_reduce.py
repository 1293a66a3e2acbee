"""Reductions over axes and running sums along one."""

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


def _by_fractions(function: Callable[[Tensor, tuple[int, ...], bool], Tensor]) -> Planner:
    """Plan a reduction whose result of integers is worked out in float64; holding it cuts its fraction off."""
    return _over_axes(lambda x, axes, keep: function(x if x.is_floating_point() else x.double(), axes, keep))


def _product(x: Tensor, axes: tuple[int, ...], keep: bool) -> Tensor:
    for axis in sorted(axes, reverse=True):
        x = x.prod(axis, keepdim=keep)
    return x


def _over_axis(function: Callable[[Tensor, int, bool], Tensor]) -> Planner:
    def plan(args: Arguments) -> Kernel:
        axis = args.axis("axis", args.rank("x"), default=-1)
        keep = args.flag("keep_dims")
        stated = args.operation.outputs[0].type.dtype.name
        if args.has("output_dtype") and args.text("output_dtype", ("int32", "uint16")) != stated:
            args.refuse("output_dtype", f"is not the {stated} that is stated")
        return args.kernel(lambda x: function(x, axis, keep), "x")

    return plan


def _cumsum(args: Arguments) -> Kernel:
    """Sums of all cells up to each, itself included or (exclusive) not; from the far end if reversed."""
    axis = args.axis("axis", args.rank("x"), default=0)
    exclusive, backwards = args.flag("exclusive"), args.flag("reverse")

    def run(x: Tensor) -> Tensor:
        x = x.flip(axis) if backwards else x
        if exclusive:
            x = torch.cat((torch.zeros_like(x.narrow(axis, 0, 1)), x.narrow(axis, 0, x.shape[axis] - 1)), axis)
        sums = x.cumsum(axis)
        return sums.flip(axis) if backwards else sums

    return args.kernel(run, "x")


PLANNERS: Final[Mapping[str, Planner]] = {
    "cumsum": _cumsum,
    "reduce_argmax": _over_axis(torch.argmax),
    "reduce_argmin": _over_axis(torch.argmin),
    "reduce_l1_norm": _over_axes(lambda x, axes, keep: x.abs().sum(axes, keepdim=keep)),
    "reduce_l2_norm": _by_fractions(lambda x, axes, keep: x.square().sum(axes, keepdim=keep).sqrt()),
    "reduce_log_sum": _by_fractions(lambda x, axes, keep: x.sum(axes, keepdim=keep).log()),
    "reduce_log_sum_exp": _by_fractions(torch.logsumexp),
    "reduce_max": _over_axes(torch.amax),
    "reduce_mean": _by_fractions(lambda x, axes, keep: x.mean(axes, keepdim=keep)),
    "reduce_min": _over_axes(torch.amin),
    "reduce_prod": _over_axes(_product),
    "reduce_sum": _over_axes(lambda x, axes, keep: x.sum(axes, keepdim=keep)),
    "reduce_sum_square": _over_axes(lambda x, axes, keep: x.square().sum(axes, keepdim=keep)),
}
