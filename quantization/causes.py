"""Why a part of a network is noisy in int8, in words.

Of every weight and every activation of the part, the energy of the rounding noise beside the tensor's own is known: an
activation's is that of a uniform error, ``step^2 / 12``, a weight's is measured. The worst tensor is described.
"""

from collections.abc import Iterable, Iterator
from typing import Final

import torch
from torch import Tensor

from quantization.mixed import MixedNetwork, Values

__all__ = ["cause_of"]

_LOUD: Final = 8.0
"""A channel this many times the median costs the others three of their eight bits."""
_SILENT: Final = 1e-6
"""A channel this much below the loudest gives nothing: no median is taken of it."""
_RARE: Final = 0.999


def cause_of(network: MixedNetwork, units: Iterable[str], exact: Values) -> str:
    """Describe the noisiest tensor of some units.

    Args:
        network: With its plan.
        units: Names.
        exact: A run of the network on some pictures with every unit in float.
    """
    return max(_tensors(network, units, exact), default=(0.0, "nothing in it is rounded"))[1]


def _tensors(network: MixedNetwork, units: Iterable[str], exact: Values) -> Iterator[tuple[float, str]]:
    """Give the relative noise of every tensor, and what there is to say of it."""
    for name in sorted(units):
        unit = network.units[name]
        weights = network.weights(name)
        if weights is not None:
            yield _of_weights(unit.layer or name, *weights)
        for tensor in (name, *unit.inputs):
            value: Tensor = exact[tensor]
            if tensor in network.grids and value.ndim > 1:
                yield _of_activation(tensor, value, network.grids[tensor].scale)


def _of_weights(layer: str, weight: Tensor, rounded: Tensor) -> tuple[float, str]:
    weight = weight.detach()
    energy = weight.double().square().flatten(1).sum(1)
    noise = (weight - rounded).double().square().flatten(1).sum(1)
    relative = noise / energy.clamp_min(1e-30)
    worst = int(relative.argmax())
    taps = weight[worst].double().flatten()
    ratio = float(taps.abs().max() / taps.square().mean().sqrt().clamp_min(1e-30))
    share = float(noise.sum() / energy.sum().clamp_min(1e-30))
    return share, (
        f"weights of {layer}: in channel {worst} the largest is {ratio:.0f}x the root mean square, "
        f"so int8 is off by {100 * float(relative[worst]) ** 0.5:.1f}% there"
    )


def _of_activation(tensor: str, value: Tensor, step: float) -> tuple[float, str]:
    share = step**2 / 12 / float(value.double().square().mean().clamp_min(1e-30))
    spans = value.abs().transpose(0, 1).flatten(1).amax(1)
    heard = spans[spans > _SILENT * spans.max()]
    worst, ratio = int(spans.argmax()), float(spans.max() / heard.median()) if heard.numel() else 1.0
    if ratio >= _LOUD:
        return share, (
            f"outlier channel {worst} of {tensor} has {ratio:.0f}x the median channel's range, which leaves that one "
            f"{256 / ratio:.0f} of 256 steps"
        )
    usual = float(torch.quantile(_some(value.abs().flatten()), _RARE))
    reach = float(value.abs().max()) / max(usual, 1e-30)
    return share, (
        f"range of {tensor}: its largest value is {reach:.1f}x what {100 * _RARE:g}% of the values stay below; "
        f"rounding is {100 * share**0.5:.1f}% of its root mean square"
    )


def _some(values: Tensor, most: int = 1_000_000) -> Tensor:
    """Thin values out evenly: quantiles are limited in size."""
    return values[:: -(-len(values) // most)]
