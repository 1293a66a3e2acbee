"""Activation functions, each as the MIL reference defines it."""

from collections.abc import Callable, Mapping
from typing import Final

import torch
from torch import Tensor
from torch.nn import functional as F

from converters.coreml.mil.arguments import Arguments, Kernel, Planner

__all__ = ["PLANNERS"]


def _plain(function: Callable[[Tensor], Tensor]) -> Planner:
    return lambda args: args.kernel(function, "x")


def _with_alpha(function: Callable[[Tensor, float], Tensor]) -> Planner:
    def plan(args: Arguments) -> Kernel:
        alpha = args.number("alpha")
        return args.kernel(lambda x: function(x, alpha), "x")

    return plan


def _with_alpha_and_beta(function: Callable[[Tensor, float, float], Tensor]) -> Planner:
    def plan(args: Arguments) -> Kernel:
        alpha, beta = args.number("alpha"), args.number("beta")
        return args.kernel(lambda x: function(x, alpha, beta), "x")

    return plan


def _prelu(args: Arguments) -> Kernel:
    """One slope per channel, along axis 1."""
    shape = (1, -1, *(1,) * (args.rank("x") - 2))
    return args.kernel(lambda x, alpha: torch.where(x > 0, x, x * alpha.reshape(shape)), "x", "alpha")


def _softplus_parametric(args: Arguments) -> Kernel:
    """``alpha * log(1 + exp(beta * x))``, with one alpha and beta per channel, along axis 1."""
    shape = (1, -1, *(1,) * (args.rank("x") - 2))

    def run(x: Tensor, alpha: Tensor, beta: Tensor) -> Tensor:
        return alpha.reshape(shape) * torch.logaddexp(x * beta.reshape(shape), torch.zeros(()))

    return args.kernel(run, "x", "alpha", "beta")


def _gelu(args: Arguments) -> Kernel:
    functions: dict[str, Callable[[Tensor], Tensor]] = {
        "EXACT": F.gelu,
        "TANH_APPROXIMATION": lambda x: F.gelu(x, approximate="tanh"),
        "SIGMOID_APPROXIMATION": lambda x: x * torch.sigmoid(1.702 * x),
    }
    return args.kernel(functions[args.text("mode", tuple(functions), default="EXACT")], "x")


def _softmax(args: Arguments) -> Kernel:
    axis = args.axis("axis", args.rank("x"), default=-1)
    return args.kernel(lambda x: torch.softmax(x, axis), "x")


PLANNERS: Final[Mapping[str, Planner]] = {
    "relu": _plain(torch.relu),
    "relu6": _plain(lambda x: x.clamp(0, 6)),
    "sigmoid": _plain(torch.sigmoid),
    "silu": _plain(F.silu),
    "softplus": _plain(lambda x: torch.logaddexp(x, torch.zeros(()))),
    "softplus_parametric": _softplus_parametric,
    "softsign": _plain(F.softsign),
    "tanh": _plain(torch.tanh),
    "elu": _with_alpha(lambda x, alpha: torch.where(x > 0, x, alpha * torch.expm1(x))),
    "leaky_relu": _with_alpha(lambda x, alpha: torch.where(x >= 0, x, alpha * x)),
    "thresholded_relu": _with_alpha(lambda x, alpha: torch.where(x >= alpha, x, 0.0)),
    "clamped_relu": _with_alpha_and_beta(lambda x, alpha, beta: torch.where(x >= 0, x, alpha * x).clamp(max=beta)),
    "linear_activation": _with_alpha_and_beta(lambda x, alpha, beta: alpha * x + beta),
    "scaled_tanh": _with_alpha_and_beta(lambda x, alpha, beta: alpha * torch.tanh(beta * x)),
    "sigmoid_hard": _with_alpha_and_beta(lambda x, alpha, beta: (alpha * x + beta).clamp(0, 1)),
    "prelu": _prelu,
    "gelu": _gelu,
    "softmax": _softmax,
}
