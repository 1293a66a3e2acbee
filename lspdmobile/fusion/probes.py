"""What a rewrite is tried on: inputs and norm statistics that leave nothing at its default.

A batch norm fresh from its constructor is nearly the identity, and forgetting its mean costs nothing (relative error
2e-7). With statistics drawn at random the same fault costs 2e+1. So every rewrite is also tried on a copy of the
network whose norms are randomised around the trained values.
"""

from collections.abc import Mapping
from typing import Final

import torch
from torch import Tensor, nn

__all__ = ["INPUTS", "probe_inputs", "randomise_norms", "relative_error"]

INPUTS: Final = ("random", "border", "ones", "zeros", "tiny", "huge")
_TINY: Final = 1e-6
_HUGE: Final = 1e6


def probe_inputs(shape: tuple[int, int, int, int], generator: torch.Generator) -> Mapping[str, Tensor]:
    """Make one float64 input ``[N, C, H, W]`` of each kind.

    Normal numbers; normal numbers on the outermost frame of pixels and zeros inside (padding faults); all ones; all
    zeros (the biases alone); normal numbers times 1e-6 and times 1e6.
    """
    random = torch.randn(shape, generator=generator, dtype=torch.float64)
    border = torch.randn(shape, generator=generator, dtype=torch.float64)
    border[:, :, 1:-1, 1:-1] = 0.0
    inputs = (random, border, torch.ones_like(random), torch.zeros_like(random), random * _TINY, random * _HUGE)
    return dict(zip(INPUTS, inputs, strict=True))


def randomise_norms(network: nn.Module, generator: torch.Generator) -> None:
    """Move all four tensors of every batch norm away from where they are, in place.

    Each is drawn on the scale of the trained one, so that a deep network keeps the magnitudes it works at: means shift
    by about one standard deviation, variances are multiplied by 0.5 to 2, gains by 0.5 to 1.5 with either sign.
    """
    for module in network.modules():
        if not isinstance(module, nn.modules.batchnorm._BatchNorm) or module.running_mean is None:
            continue
        assert module.running_var is not None
        deviation = torch.sqrt(module.running_var + module.eps)
        module.running_mean += deviation * _normal(deviation, generator)
        module.running_var *= _uniform(0.5, 2.0, deviation, generator)
        if module.affine:
            gain = module.weight.detach().square().mean().sqrt()
            gain = torch.where(gain > 0, gain, torch.ones_like(gain))
            sign = torch.sign(_uniform(-1.0, 1.0, deviation, generator))
            module.weight.data = gain * sign * _uniform(0.5, 1.5, deviation, generator)
            module.bias.data = module.bias.data + 0.5 * gain * _normal(deviation, generator)


def relative_error(expected: Tensor, found: Tensor) -> float:
    """Give ``max |expected - found| / max |expected|``; infinite where shapes differ or a number is not finite."""
    if expected.shape != found.shape:
        return float("inf")
    largest = expected.abs().max().item()
    distance = (expected - found).abs().max().item()
    if not (torch.isfinite(expected).all() and torch.isfinite(found).all()):
        return float("inf")
    if largest == 0.0:
        return 0.0 if distance == 0.0 else float("inf")
    return distance / largest


def _normal(like: Tensor, generator: torch.Generator) -> Tensor:
    return torch.randn(like.shape, generator=generator, dtype=like.dtype)


def _uniform(low: float, high: float, like: Tensor, generator: torch.Generator) -> Tensor:
    return low + (high - low) * torch.rand(like.shape, generator=generator, dtype=like.dtype)
