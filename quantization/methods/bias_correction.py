"""Empirical bias correction: a layer's mean error, channel by channel, goes into its bias.

Rounding weights and activations does not only add noise, it shifts means: with weight error ``dW`` and input ``x`` the
output of a layer is off by ``E[dW x] = dW E[x]``, which is not 0, and later layers add their own. Means are measured
over calibration pictures and positions, layer by layer from the input on, each with the layers before it corrected::

    b'[c] = b[c] + E[float output[c]] - E[quantized output[c]]

Outputs are those before the activation. Nagel et al., "Data-Free Quantization Through Weight Equalization and Bias
Correction" (arXiv 1906.04721), section 4.2 and appendix D (empirical form). Biases stay float in the plan, so nothing
else changes, and no range does.
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from quantization.graph import exported_module
from quantization.methods.layers import renewed
from quantization.methods.lockstep import Lockstep
from quantization.methods.simulated import simulated
from quantization.plan import QuantizationPlan

__all__ = ["Corrected", "LayerShift", "correct_biases", "mean_of", "shifted"]


@dataclass(frozen=True, kw_only=True)
class LayerShift:
    """How far one layer's means were off.

    Attributes:
        layer: Its node.
        largest: Largest shift of a channel, in standard deviations of that channel's float output.
        mean: Mean of the absolute shifts, likewise.
        corrected: Whether the layer has a bias of its own to correct.
    """

    layer: str
    largest: float
    mean: float
    corrected: bool

    def to_dict(self) -> dict[str, Any]:
        """Give what ``plan.json`` holds."""
        return asdict(self)


@dataclass(frozen=True, kw_only=True)
class Corrected:
    """The network with other biases, and what was found at each layer."""

    network: nn.Module
    layers: tuple[LayerShift, ...]


def correct_biases(
    network: nn.Module,
    plan: QuantizationPlan,
    pictures: NDArray[np.float32],
    *,
    reference: nn.Module | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Corrected:
    """Correct the biases of a copy of a network.

    Args:
        network: Float network in eval mode.
        plan: What it will be quantized by; made from it.
        pictures: Normalised inputs float32 ``[M, 3, H, W]``, M at least 1.
        reference: Float network whose means are wanted, with the same nodes; the network itself by default.
        progress: Called with layers done and their number.

    Raises:
        BadInputError: The plan is another network's.
        ValueError: The plan quantizes nothing.
    """
    size = (pictures.shape[2], pictures.shape[3])
    inputs = [torch.from_numpy(np.ascontiguousarray(picture[None])) for picture in pictures]
    simulation = simulated(network, plan, size)
    wanted, found = Lockstep(exported_module(reference or network, size), inputs), Lockstep(simulation.module, inputs)
    biases: dict[str, Tensor] = {}
    shifts: list[LayerShift] = []
    for done, layer in enumerate(simulation.layers):
        mean, deviation = _moments(wanted.values(layer.name), layer.axis)
        outputs = found.values(layer.name)
        shift = mean - mean_of(outputs, layer.axis)
        corrected = layer.bias is not None and not layer.shared
        if corrected and layer.bias is not None:
            biases[layer.bias] = (simulation.tensor(layer, "bias").double() + shift).float()
            found.replace(layer.name, shifted(outputs, shift, layer.axis))
        relative = shift.abs() / deviation.clamp(min=torch.finfo(torch.float32).tiny)
        shifts.append(
            LayerShift(
                layer=layer.name, largest=float(relative.max()), mean=float(relative.mean()), corrected=corrected
            )
        )
        if progress is not None:
            progress(done + 1, len(simulation.layers))
    return Corrected(network=renewed(network, biases), layers=tuple(shifts))


def mean_of(outputs: Sequence[Tensor], axis: int) -> Tensor:
    """Give the mean of each channel, float64 ``[C]``, over pictures and positions; channels lie along the axis."""
    return _moments(outputs, axis)[0]


def shifted(outputs: Sequence[Tensor], shift: Tensor, axis: int) -> list[Tensor]:
    """Add ``[C]`` along an axis."""
    return [(each.movedim(axis, -1) + shift.to(each.dtype)).movedim(-1, axis) for each in outputs]


def _moments(outputs: Sequence[Tensor], axis: int) -> tuple[Tensor, Tensor]:
    """Give mean and standard deviation, float64 ``[C]``, over pictures and positions."""
    total, squares, count = torch.zeros(()), torch.zeros(()), 0
    for output in outputs:
        rows = output.double().movedim(axis, 0).flatten(1)
        total, squares, count = total + rows.sum(1), squares + rows.square().sum(1), count + rows.shape[1]
    mean = total / count
    return mean, (squares / count - mean.square()).clamp(min=0).sqrt()
