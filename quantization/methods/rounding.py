"""Adaptive rounding: each weight goes up or down so that its layer's output, not the weight itself, stays closest.

A layer's weights become ``s (floor(w / s) + h)`` with one ``h`` of 0 or 1 per weight. It is searched for with a
continuous ``h(v) = clip(1.2 sigmoid(v) - 0.1, 0, 1)`` by gradient descent (Adam) on::

    E[ |f(W x + b) - f(W' x' + b)|^2 ] / (the same with nearest rounding)  +  weight * mean(1 - |2 h(v) - 1|^beta)

The second term drives every ``h`` to 0 or 1; its ``beta`` falls from 20 to 2, and it sets in after a fifth of the
steps. ``x`` is the input in the float network, ``x'`` in the one with all layers before it rounded already, so later
layers make up for earlier ones, and ``f`` is the layer's ReLU, if it has one. Activations stay float in ``x'``, also
for ``w8a8``: their rounding is noise that no weight can undo, and a search that sees it fits it. One rounding so serves
every precision. Nagel et al., "Up or Down? Adaptive Rounding for Post-Training Quantization" (arXiv 2004.10568),
equations 21 to 25; the division by the error of nearest rounding makes one weight of the second term fit every layer.

Every emitter takes the scale ``s = max|w| / n`` of an output channel from the weights, n 127 for 8 bits and 7 for 4. So
each channel's largest weight stays as it is, on n, and emitters find the same scale and, by rounding to nearest,
exactly these integers. A layer whose output is not closer on pictures left out is rounded to nearest. Either way its
bias then takes up the mean of what is left (``bias_correction``), before the next layer is looked at: done after all of
them it would take from under the later ones what they were fitted to.
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from quantization.graph import exported_module
from quantization.methods.bias_correction import mean_of, shifted
from quantization.methods.layers import Layer, renewed
from quantization.methods.lockstep import Lockstep
from quantization.methods.rounding_search import RoundingSettings, WeightGrid, samples_of, searched
from quantization.methods.simulated import Simulated, weights_only
from quantization.plan import QuantizationPlan

__all__ = ["LayerRounding", "Rounded", "round_weights"]

_FEWEST_PICTURES: Final = 2


@dataclass(frozen=True, kw_only=True)
class LayerRounding:
    """What was found at one layer.

    Attributes:
        layer: Its node.
        nearest, adaptive: Mean squared error of its output on pictures left out, over the output's mean square.
        changed: Share of the weights that were not rounded to nearest; 0 where nearest rounding was kept.
        reason: Why it was kept; empty otherwise.
    """

    layer: str
    nearest: float
    adaptive: float
    changed: float
    reason: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Give what ``plan.json`` holds."""
        return asdict(self)


@dataclass(frozen=True, kw_only=True)
class Rounded:
    """The network with weights on their int8 grids and other biases, and what was found at each layer."""

    network: nn.Module
    layers: tuple[LayerRounding, ...]


def round_weights(
    network: nn.Module,
    plan: QuantizationPlan,
    pictures: NDArray[np.float32],
    *,
    settings: RoundingSettings | None = None,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> Rounded:
    """Round the weights of a copy of a network, and correct its biases for it.

    Args:
        network: Float network in eval mode; what its layers give is what the rounded ones shall give.
        plan: What it will be quantized by; made from it.
        pictures: Normalised inputs float32 ``[M, 3, H, W]``, M at least 2.
        settings: How long to search.
        seed: Of the positions and batches.
        progress: Called with layers done and their number.

    Raises:
        BadInputError: The plan is another network's.
        ValueError: The plan quantizes nothing, or there are fewer than two pictures.
    """
    settings = settings or RoundingSettings()
    if len(pictures) < _FEWEST_PICTURES:
        message = "adaptive rounding needs at least two pictures: one to search on and one to judge by"
        raise ValueError(message)
    size = (pictures.shape[2], pictures.shape[3])
    inputs = [torch.from_numpy(np.ascontiguousarray(picture[None])) for picture in pictures]
    simulation = weights_only(network, plan, size)
    trained = network.state_dict()
    wanted, found = Lockstep(exported_module(network, size), inputs), Lockstep(simulation.module, inputs)
    generator = torch.Generator().manual_seed(seed)
    values: dict[str, Tensor] = {}
    records: list[LayerRounding] = []
    for done, layer in enumerate(simulation.layers):
        read, gives = found.values(simulation.source(layer)), wanted.values(layer.name)
        grid = WeightGrid.of(trained[layer.weight], simulation.scales[layer.name], simulation.largest(layer))
        weight, record = _rounded(simulation, layer, grid, (read, gives), settings=settings, generator=generator)
        records.append(record)
        if weight is not None:
            simulation.tensor(layer, "weight").copy_(weight)
            values[layer.weight] = weight
        outputs = found.values(layer.name)
        if layer.bias is not None and not layer.shared:
            shift = mean_of(gives, layer.axis) - mean_of(outputs, layer.axis)
            values[layer.bias] = trained[layer.bias] + shift.float()
            found.replace(layer.name, shifted(outputs, shift, layer.axis))
        if progress is not None:
            progress(done + 1, len(simulation.layers))
    return Rounded(network=renewed(network, values), layers=tuple(records))


def _rounded(
    simulation: Simulated,
    layer: Layer,
    grid: WeightGrid,
    values: tuple[Sequence[Tensor], Sequence[Tensor]],
    *,
    settings: RoundingSettings,
    generator: torch.Generator,
) -> tuple[Tensor | None, LayerRounding]:
    """Round one layer's weight ``[C_out, ...]``; None where it has to stay as it is."""
    bias = None if layer.bias is None else simulation.tensor(layer, "bias")
    node, relu = simulation.node(layer), layer.relu is not None
    samples = samples_of(node, grid.weight.shape[2:], bias, *values, relu=relu, settings=settings, generator=generator)
    usual = grid.weights(grid.nearest())
    nearest = samples.judged(usual)
    if layer.shared:
        return None, _kept(layer, nearest, "its weight is shared with another layer")
    lifts = searched(samples, grid, settings, generator)
    chosen = grid.weights(lifts)
    adaptive = samples.judged(chosen)
    if adaptive >= nearest:
        return usual, _kept(layer, nearest, "no closer on pictures left out")
    changed = float((grid.integers(lifts) != grid.integers(grid.nearest())).float().mean())
    return chosen, LayerRounding(layer=layer.name, nearest=nearest, adaptive=adaptive, changed=changed)


def _kept(layer: Layer, error: float, reason: str) -> LayerRounding:
    return LayerRounding(layer=layer.name, nearest=error, adaptive=error, changed=0.0, reason=reason)
