"""What a rewrite is tried on: inputs and norm statistics that leave nothing at its default.

A batch norm fresh from its constructor is nearly the identity, and forgetting its mean costs nothing (relative error
2e-7). With statistics drawn at random the same fault costs 2e+1. So every rewrite is also tried on a copy of the
network whose norms are randomised around the trained values.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple

import torch
from torch import Tensor, nn
from torch.fx import GraphModule
from torch.utils._pytree import tree_map

from lspdmobile.fusion.graph import Captured, batch_norms

__all__ = ["INPUTS", "inputs_of_every_kind", "probe_inputs", "randomise_norms", "relative_error", "ulps"]

INPUTS: Final = ("random", "border", "ones", "zeros", "tiny", "huge")
_TINY: Final = 1e-6
_HUGE: Final = 1e6


def probe_inputs(shape: Sequence[int], generator: torch.Generator) -> Mapping[str, Tensor]:
    """Make one float64 input of each kind; every number is a float32 number too.

    Normal numbers; normal numbers on the outermost frame of the last two of four axes and zeros inside (padding faults;
    plain normal numbers for other shapes); all ones; all zeros (the biases alone); normal numbers times 1e-6 and 1e6.
    """
    random, border = (torch.randn(tuple(shape), generator=generator).double() for _ in range(2))
    if len(shape) == 4:
        border[:, :, 1:-1, 1:-1] = 0.0
    inputs = (random, border, torch.ones_like(random), torch.zeros_like(random), random * _TINY, random * _HUGE)
    return {name: values.float().double() for name, values in zip(INPUTS, inputs, strict=True)}


def inputs_of_every_kind(
    captured: Captured, generator: torch.Generator, pictures: Tensor | None
) -> dict[str, tuple[Any, Any]]:
    """Give float64 arguments and keywords of every kind; what is no float tensor stays as in the example."""
    kinds: dict[str, tuple[Any, Any]] = {}
    leaves: dict[int, Mapping[str, Tensor]] = {}

    def probe(value: Any, kind: str) -> Any:
        if not isinstance(value, Tensor) or not value.is_floating_point():
            return value
        if id(value) not in leaves:
            leaves[id(value)] = probe_inputs(value.shape, generator)
        return leaves[id(value)][kind]

    example = (captured.inputs, dict(captured.keywords))
    for kind in INPUTS:
        kinds[kind] = tree_map(lambda value, kind=kind: probe(value, kind), example)
    kinds["example"] = tree_map(_wide, example)
    for index, picture in enumerate([] if pictures is None else pictures):
        kinds[f"picture {index}"] = ((picture[None].float().double(),), {})
    return kinds


def _wide(value: Any) -> Any:
    return value.double() if isinstance(value, Tensor) and value.is_floating_point() else value


def randomise_norms(network: nn.Module, generator: torch.Generator) -> None:
    """Move all four tensors of every batch norm away from where they are, in place; of exported programs too.

    Each is drawn on the scale of the trained one, so that a deep network keeps the magnitudes it works at: means shift
    by about one standard deviation, variances are multiplied by 0.5 to 2, gains by 0.5 to 1.5 with either sign.
    """
    moved: set[int] = set()
    for norm in _norms(network):
        if norm.mean.data_ptr() not in moved:
            moved.add(norm.mean.data_ptr())
            _randomise(norm, generator)


class _Norm(NamedTuple):
    """The tensors of a batch norm, where they are."""

    gain: Tensor | None
    offset: Tensor | None
    mean: Tensor
    variance: Tensor
    eps: float


def _norms(network: nn.Module) -> Iterator[_Norm]:
    for module in network.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm) and module.running_mean is not None:
            assert module.running_var is not None
            yield _Norm(module.weight, module.bias, module.running_mean, module.running_var, module.eps)
    if isinstance(network, GraphModule):
        for tensors in batch_norms(network):
            yield _Norm(*tensors)


@torch.no_grad()
def _randomise(norm: _Norm, generator: torch.Generator) -> None:
    deviation = torch.sqrt(norm.variance + norm.eps)
    norm.mean.add_(deviation * _normal(deviation, generator))
    norm.variance.mul_(_uniform(0.5, 2.0, deviation, generator))
    if norm.gain is not None and norm.offset is not None:
        gain = norm.gain.square().mean().sqrt()
        gain = torch.where(gain > 0, gain, torch.ones_like(gain))
        sign = torch.sign(_uniform(-1.0, 1.0, deviation, generator))
        norm.gain.copy_(gain * sign * _uniform(0.5, 1.5, deviation, generator))
        norm.offset.add_(0.5 * gain * _normal(deviation, generator))


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


def ulps(expected: Tensor, found: Tensor, precision: torch.dtype) -> float:
    """Give the largest distance in units in the last place of the largest expected value; 0 where all are zero."""
    largest = expected.abs().max().item()
    if largest == 0.0 or not math.isfinite(largest):
        return 0.0
    place = math.ldexp(torch.finfo(precision).eps, math.frexp(largest)[1] - 1)
    return float((expected - found).abs().max().item() / place)
