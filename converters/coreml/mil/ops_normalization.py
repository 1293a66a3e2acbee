"""Normalisation of values by moments, norms or neighbouring channels."""

from collections.abc import Mapping
from typing import Final

import torch
from torch import Tensor
from torch.nn import functional as F

from converters.coreml.mil.arguments import Arguments, Kernel, Planner

__all__ = ["PLANNERS"]


def _batch_norm(args: Arguments) -> Kernel:
    """``gamma * (x - mean) / sqrt(variance + epsilon) + beta`` along axis 1."""
    shape = (1, -1, *(1,) * (args.rank("x") - 2))
    epsilon = args.number("epsilon", default=1e-5)

    def run(x: Tensor, mean: Tensor, variance: Tensor, gamma: Tensor | None, beta: Tensor | None) -> Tensor:
        y = (x - mean.reshape(shape)) / torch.sqrt(variance.reshape(shape) + epsilon)
        if gamma is not None:
            y = y * gamma.reshape(shape)
        return y if beta is None else y + beta.reshape(shape)

    return args.kernel(run, "x", "mean", "variance", "gamma?", "beta?")


def _layer_norm(args: Arguments) -> Kernel:
    """Normalises over ``axes``; gamma and beta have those axes' shape."""
    axes = args.axes("axes", args.rank("x"))
    return _normalised(args, axes, scaled=axes)


def _instance_norm(args: Arguments) -> Kernel:
    """Normalises each channel of each picture over its rows and columns; gamma and beta have one entry a channel."""
    return _normalised(args, tuple(range(2, args.rank("x"))), scaled=(1,))


def _normalised(args: Arguments, axes: tuple[int, ...], *, scaled: tuple[int, ...]) -> Kernel:
    """``gamma * (x - mean) / sqrt(variance + epsilon) + beta``: moments over ``axes``, the rest along ``scaled``."""
    epsilon = args.number("epsilon", default=1e-5)

    def run(x: Tensor, gamma: Tensor | None, beta: Tensor | None) -> Tensor:
        shape = [size if axis in scaled else 1 for axis, size in enumerate(x.shape)]
        centred = x - x.mean(axes, keepdim=True)
        y = centred / torch.sqrt(centred.square().mean(axes, keepdim=True) + epsilon)
        if gamma is not None:
            y = y * gamma.reshape(shape)
        return y if beta is None else y + beta.reshape(shape)

    return args.kernel(run, "x", "gamma?", "beta?")


def _l2_norm(args: Arguments) -> Kernel:
    """``x / sqrt(sum(x^2) + epsilon)`` over the last three axes."""
    if args.rank("x") < 3:
        args.refuse("x", f"of rank {args.rank('x')} is not implemented; 3 and more are")
    epsilon = args.number("epsilon", default=1e-6)
    return args.kernel(lambda x: x / torch.sqrt(x.square().sum((-3, -2, -1), keepdim=True) + epsilon), "x")


def _local_response_norm(args: Arguments) -> Kernel:
    """``x / (k + alpha / size * s)^beta``, s being the sum of squares of the ``size`` channels around each.

    Which channels an even size takes is not defined.
    """
    size = args.integer("size")
    if size < 1 or size % 2 == 0:
        args.refuse("size", f"{size} is not implemented; odd sizes are")
    alpha, beta = args.number("alpha", default=1e-4), args.number("beta", default=0.75)
    k = args.number("k", default=1.0)

    def run(x: Tensor) -> Tensor:
        around = size // 2
        squares = x.square().movedim(1, -1)
        sums = F.pad(squares, (around, around)).unfold(-1, size, 1).sum(-1).movedim(-1, 1)
        return x / (k + alpha / size * sums) ** beta

    return args.kernel(run, "x")


PLANNERS: Final[Mapping[str, Planner]] = {
    "batch_norm": _batch_norm,
    "instance_norm": _instance_norm,
    "l2_norm": _l2_norm,
    "layer_norm": _layer_norm,
    "local_response_norm": _local_response_norm,
}
