"""Cross-layer equalisation: factors are moved between layers until all channels use the integers they are given.

A channel of a tensor may be divided by any ``s > 0``, if the layers that make it and those that read it make up for
it: with ``a' = a / s``, rows ``W1' = W1 / s`` and ``b1' = b1 / s`` before it, columns ``W2' = W2 s`` after it, nothing
between them but what passes positive factors through (``channels``), the network computes the same. As with fusion,
that is certified by running it: in float64 the relative error is at most 1e-12 on inputs of every kind, in float32, as
it ships, at most 1e-5 or twice the original's own rounding (``exactness``).

Which ``s``: Nagel et al., "Data-Free Quantization Through Weight Equalization and Bias Correction" (arXiv 1906.04721,
equation 11) take ``s = sqrt(r1 / r2)`` with ``r1``, ``r2`` the largest weights of the channel before and after it. That
is for weights with one scale per tensor. Ours have one per output channel, which follows any factor of a row; what the
channels of a tensor share is the scale of the activation, and what the columns of a row share is the scale of the row.
So the factors are those with the least noise by :mod:`quantization.methods.noise_model`, which weighs the two. (On the
bundled student the square root of both shares, the papers' rule, makes ``w8a8`` noisier than no equalisation.) Where
activations are not int8, their steps hardly count or not at all.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from lspdmobile.choices import Precision
from quantization.graph import exported_module
from quantization.methods.channels import ChannelClasses, channel_classes
from quantization.methods.exactness import Exactness, certified
from quantization.methods.layers import renewed
from quantization.methods.noise_model import NoiseModel, measured

__all__ = ["LARGEST_FACTOR", "Equalized", "equalize", "scaled"]

Factors = NDArray[np.float64]

LARGEST_FACTOR: Final = 16.0
"""Binary logarithm, so that nothing comes near the ends of float32."""
_CERTIFIED_PICTURES: Final = 2
_ACTIVATION_STEPS: Final = {Precision.W8A8: 255, Precision.W8A16: 65534}


@dataclass(frozen=True, kw_only=True)
class Equalized:
    """The network with other factors, and what was moved.

    Attributes:
        network: Computes the same as the original.
        layers: Layer name to the smallest and largest factor of its output channels, of layers that changed.
        classes: How many classes of channels could be scaled, and how many there are.
        noise: Forecast noise to signal of the heatmaps before and after.
        exactness: That nothing changed.
    """

    network: nn.Module
    layers: Mapping[str, tuple[float, float]]
    classes: tuple[int, int]
    noise: tuple[float, float]
    exactness: Exactness

    def to_dict(self) -> dict[str, Any]:
        """Give what ``plan.json`` holds."""
        return {
            "scalable_classes": self.classes[0],
            "classes": self.classes[1],
            "forecast_noise": list(self.noise),
            "exactness": self.exactness.to_dict(),
            "layers": [{"layer": name, "factors": list(ends)} for name, ends in self.layers.items()],
        }


def equalize(
    network: nn.Module,
    pictures: NDArray[np.float32],
    *,
    precision: Precision,
    seed: int = 0,
    largest: float = LARGEST_FACTOR,
) -> Equalized:
    """Equalise a copy of a network and certify that it computes the same.

    Args:
        network: Float network in eval mode.
        pictures: Normalised inputs float32 ``[M, 3, H, W]``, M at least 1.
        precision: What it will be quantized to.
        seed: Of the certificate's inputs.
        largest: Binary logarithm of the largest factor.

    Raises:
        GateFailedError: The equalised network does not compute the same.
    """
    size = (pictures.shape[2], pictures.shape[3])
    program = exported_module(network, size)
    classes = channel_classes(program)
    seen = measured(program, classes, pictures, seed=seed)
    model = NoiseModel(program, classes, seen, precision=precision, activation_steps=_ACTIVATION_STEPS.get(precision))
    factors = model.quietest(largest=largest)
    changed = scaled(network, classes, factors)
    moved = {
        layer.name: (float(ends.min()), float(ends.max()))
        for layer in classes.layers
        if layer.name in classes.of and (ends := factors[classes.of[layer.name]]).size and (ends != 1).any()
    }
    return Equalized(
        network=changed,
        layers=moved,
        classes=(int((~classes.fixed).sum()), len(classes.fixed)),
        noise=(model.noise_of(np.ones_like(factors)), model.noise_of(factors)),
        exactness=certified(
            network,
            changed,
            lambda wide: scaled(wide, classes, factors),
            torch.from_numpy(pictures[:_CERTIFIED_PICTURES]),
            seed=seed,
        ),
    )


def scaled(network: nn.Module, classes: ChannelClasses, factors: Factors) -> nn.Module:
    """Divide the channels of a copy of a network by factors, one for each class.

    Args:
        network: What the classes were made from.
        classes: Of its channels.
        factors: Above 0.
    """
    tensors, values = network.state_dict(), dict[str, Tensor]()
    for layer in classes.layers:
        if layer.name not in classes.of or layer.source not in classes.of:
            continue
        rows, columns = (torch.from_numpy(factors[classes.of[name]]) for name in (layer.name, layer.source))
        weight = tensors[layer.weight]
        values[layer.weight] = (weight.double() * _by_column(columns, weight, layer.groups) / _by_row(rows, weight)).to(
            weight.dtype
        )
        if layer.bias is not None:
            values[layer.bias] = (tensors[layer.bias].double() / rows).to(weight.dtype)
    return renewed(network, values)


def _by_row(factors: Tensor, weight: Tensor) -> Tensor:
    return factors.reshape(-1, *[1] * (weight.dim() - 1))


def _by_column(factors: Tensor, weight: Tensor, groups: int) -> Tensor:
    """Give each output channel the factors of the inputs of its group."""
    of_group = factors.reshape(groups, 1, -1).expand(groups, len(weight) // groups, -1)
    return of_group.reshape(len(weight), -1, *[1] * (weight.dim() - 2))
