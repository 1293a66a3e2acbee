"""Elementwise arithmetic and comparison; broadcasting is NumPy's."""

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


def _float_only(planner: Planner) -> Planner:
    """Refuse integers: what they give is not settled."""

    def plan(args: Arguments) -> Kernel:
        if not args.type_of("x").dtype.is_float:
            args.refuse("x", f"of dtype {args.type_of('x').dtype.name} is not implemented; floats are")
        return planner(args)

    return plan


def _power(x: Tensor, y: Tensor) -> Tensor:
    if not y.is_floating_point() and bool((y < 0).any()):
        message = "a negative power of integers is not defined"
        raise ValueError(message)
    return torch.pow(x, y)


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
    low = args.number("alpha") if args.type_of("x").dtype.is_float else args.integer("alpha")
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


PLANNERS: Final[Mapping[str, Planner]] = {
    "abs": _unary(torch.abs),
    "acos": _unary(torch.acos),
    "asin": _unary(torch.asin),
    "atan": _unary(torch.atan),
    "atanh": _unary(torch.atanh),
    "ceil": _unary(torch.ceil),
    "cos": _unary(torch.cos),
    "cosh": _unary(torch.cosh),
    "erf": _unary(torch.erf),
    "exp": _unary(torch.exp),
    "exp2": _float_only(_unary(torch.exp2)),
    "floor": _unary(torch.floor),
    "identity": _unary(lambda x: x),
    "logical_not": _unary(torch.logical_not),
    "round": _unary(torch.round),
    "sign": _unary(torch.sign),
    "sin": _unary(torch.sin),
    "sinh": _unary(torch.sinh),
    "sqrt": _unary(torch.sqrt),
    "square": _unary(torch.square),
    "tan": _unary(torch.tan),
    "add": _binary(torch.add),
    "sub": _binary(torch.sub),
    "mul": _binary(torch.mul),
    "maximum": _binary(torch.maximum),
    "minimum": _binary(torch.minimum),
    "floor_div": _binary(lambda x, y: torch.div(x, y, rounding_mode="floor")),
    "mod": _binary(torch.remainder),
    "real_div": _float_only(_binary(torch.div)),
    "pow": _binary(_power),
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
}
