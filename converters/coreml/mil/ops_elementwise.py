"""Elementwise arithmetic, comparison and normalisation; broadcasting is NumPy's."""

from collections.abc import Callable, Mapping
from typing import Final

import torch
from torch import Tensor

from converters.coreml.mil.arguments import Arguments, Kernel, Planner

__all__ = ["PLANNERS"]

_TORCH_DTYPES: Final[Mapping[str, torch.dtype]] = {
    "bool": torch.bool,
    "fp16": torch.float32,
    "fp32": torch.float32,
    "int8": torch.int8,
    "uint8": torch.uint8,
    "int16": torch.int16,
    "uint16": torch.int32,
    "int32": torch.int32,
}


def _unary(function: Callable[[Tensor], Tensor]) -> Planner:
    return lambda args: args.kernel(function, "x")


def _binary(function: Callable[[Tensor, Tensor], Tensor]) -> Planner:
    return lambda args: args.kernel(function, "x", "y")


def _float_binary(function: Callable[[Tensor, Tensor], Tensor]) -> Planner:
    """Plan an operation whose rounding on integers is not settled, so that integers are refused."""

    def plan(args: Arguments) -> Kernel:
        if not args.type_of("x").dtype.is_float:
            args.refuse("x", f"of dtype {args.type_of('x').dtype.name} is not implemented; floats are")
        return args.kernel(function, "x", "y")

    return plan


def _with_epsilon(function: Callable[[Tensor], Tensor], default: float) -> Planner:
    """Plan ``function(x + epsilon)``."""

    def plan(args: Arguments) -> Kernel:
        epsilon = args.number("epsilon", default=default)
        return args.kernel(lambda x: function(x + epsilon), "x")

    return plan


def _clip(args: Arguments) -> Kernel:
    low, high = args.number("alpha"), args.number("beta")
    return args.kernel(lambda x: x.clamp(low, high), "x")


def _threshold(args: Arguments) -> Kernel:
    low = args.number("alpha")
    return args.kernel(lambda x: x.clamp(min=low), "x")


def _cast(args: Arguments) -> Kernel:
    """Float to integer cuts toward zero."""
    name = args.text("dtype", tuple(_TORCH_DTYPES))
    stated = args.operation.outputs[0].type.dtype
    if name != stated.mil_name:
        args.refuse("dtype", f"is {name} where the output is stated as {stated.mil_name}")
    dtype = _TORCH_DTYPES[name]
    return args.kernel(lambda x: x.to(dtype), "x")


def _select(args: Arguments) -> Kernel:
    return args.kernel(torch.where, "cond", "a", "b")


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


PLANNERS: Final[Mapping[str, Planner]] = {
    "abs": _unary(torch.abs),
    "ceil": _unary(torch.ceil),
    "cos": _unary(torch.cos),
    "erf": _unary(torch.erf),
    "exp": _unary(torch.exp),
    "floor": _unary(torch.floor),
    "identity": _unary(lambda x: x),
    "logical_not": _unary(torch.logical_not),
    "sign": _unary(torch.sign),
    "sin": _unary(torch.sin),
    "sqrt": _unary(torch.sqrt),
    "square": _unary(torch.square),
    "add": _binary(torch.add),
    "sub": _binary(torch.sub),
    "mul": _binary(torch.mul),
    "maximum": _binary(torch.maximum),
    "minimum": _binary(torch.minimum),
    "floor_div": _binary(lambda x, y: torch.div(x, y, rounding_mode="floor")),
    "real_div": _float_binary(torch.div),
    "pow": _float_binary(torch.pow),
    "equal": _binary(torch.eq),
    "not_equal": _binary(torch.ne),
    "greater": _binary(torch.gt),
    "greater_equal": _binary(torch.ge),
    "less": _binary(torch.lt),
    "less_equal": _binary(torch.le),
    "logical_and": _binary(torch.logical_and),
    "logical_or": _binary(torch.logical_or),
    "logical_xor": _binary(torch.logical_xor),
    "log": _with_epsilon(torch.log, 1e-45),
    "rsqrt": _with_epsilon(torch.rsqrt, 1e-12),
    "inverse": _with_epsilon(torch.reciprocal, 1e-4),
    "clip": _clip,
    "threshold": _threshold,
    "cast": _cast,
    "select": _select,
    "batch_norm": _batch_norm,
    "instance_norm": _instance_norm,
    "layer_norm": _layer_norm,
}
