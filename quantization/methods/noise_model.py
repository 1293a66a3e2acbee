"""How much noise rounding brings into the heatmaps, as a function of the factors of channels.

A class ``k`` of channels (``channels``) is divided by ``s[k]``. Rounding to steps of ``d`` makes noise of variance
``d^2 / 12``. In units of the network as it was:

* Tensor ``t`` has ``d[t] = (max high[c] / s[c] - min low[c] / s[c]) / 255`` over its channels, so its channel ``c``
  carries the noise ``s[c]^2 d[t]^2 / 12`` wherever it is not 0, which every grid holds.
* Row ``o`` of a layer has ``d[o] = max_c |W[o, c]| s[c] / n``, n 127 for weights of 8 bits and 7 for 4, so its weight
  for channel ``c`` carries the noise ``d[o]^2 / 12 / s[c]^2``, at all positions and on all pictures the same.

What noise of a number ``x`` does to the heatmaps ``h`` is, to first order, its variance times ``g = sum |dh / dx|^2``,
which is the mean square of ``d(r . h) / dx`` for random ``r`` of variance 1: one backward pass for each picture. Summed
over all activations and weights and divided by ``sum h^2`` this forecasts the heatmaps' noise to signal, and
equalisation looks for the factors that make it least. (Noise of one layer as a function of its steps: Nagel et al.,
arXiv 1906.04721, section 3; what a weight's noise costs by derivatives of the loss: the same authors, arXiv 2004.10568,
section 3.)
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.fx import GraphModule, Interpreter, Node

from lspdmobile.choices import Precision
from lspdmobile.fusion.executing import tensors_in
from quantization.affine import largest_weight, weight_bits
from quantization.methods.channels import ChannelClasses
from quantization.methods.layers import Layer, activation_of

__all__ = ["Measured", "Moments", "NoiseModel", "measured"]

_STEPS: Final = 250
_RATE: Final = 0.05


@dataclass(frozen=True, kw_only=True)
class Moments:
    """What a tensor's channels did over the calibration pictures, float64 ``[C]`` each.

    Attributes:
        low, high: Smallest and largest value, widened to hold 0.
        reach: Sum of ``g`` over the positions that are not 0, over the heatmaps' sum of squares.
        kept: Whether a runtime keeps the tensor; not the input of a ReLU, which becomes part of the layer.
    """

    low: Tensor
    high: Tensor
    reach: Tensor
    kept: bool


@dataclass(frozen=True, kw_only=True)
class Measured:
    """A network over the calibration pictures.

    Attributes:
        tensors: By node name.
        weights: By layer name, float64 ``[C_out, C_in / groups]``: sum of ``g`` over taps, over the heatmaps' sum of
            squares.
    """

    tensors: Mapping[str, Moments]
    weights: Mapping[str, Tensor]


@dataclass(frozen=True, kw_only=True)
class _Reader:
    """How a layer's rows read classes.

    ``peaks`` ``[G, O, I]`` are its largest weights over taps, ``reach`` ``[G, O, I]`` what their noise does;
    ``largest`` is the largest integer of its weights.
    """

    members: Tensor
    peaks: Tensor
    reach: Tensor
    largest: int


class NoiseModel:
    """The forecast for one network.

    Args:
        program: The exported program.
        classes: Of its channels.
        measured: Over the calibration pictures.
        precision: Says how many bits weights have.
        activation_steps: 255 for int8 activations, 65534 for int16, None for float ones.
    """

    def __init__(
        self,
        program: GraphModule,
        classes: ChannelClasses,
        measured: Measured,
        *,
        precision: Precision,
        activation_steps: int | None,
    ) -> None:
        weights = program.state_dict()
        self._fixed, self._steps = classes.fixed, activation_steps
        self._readers = [
            _reader(layer, weights[layer.weight], measured.weights[layer.name], classes, precision)
            for layer in classes.layers
            if layer.source in classes.of
        ]
        kept = {name: each for name, each in measured.tensors.items() if each.kept}
        self._tensors = [(torch.from_numpy(classes.of[name]), each) for name, each in kept.items()]

    def noise(self, exponents: Tensor) -> Tensor:
        """Forecast the heatmaps' noise to signal for factors ``2^exponents``, float64 ``[classes]``."""
        factors = torch.exp2(exponents)
        total = torch.zeros((), dtype=torch.float64)
        for reader in self._readers:
            of_channel = factors[reader.members].reshape(reader.peaks.shape[0], 1, -1)
            steps = (reader.peaks * of_channel).amax(2, keepdim=True) / reader.largest
            total = total + (steps.square() * reader.reach / of_channel.square()).sum()
        if self._steps is not None:
            for members, moments in self._tensors:
                of_channel = factors[members]
                step = ((moments.high / of_channel).amax() - (moments.low / of_channel).amin()) / self._steps
                total = total + step.square() * (of_channel.square() * moments.reach).sum()
        return total / 12

    def noise_of(self, factors: NDArray[np.float64]) -> float:
        """Forecast the heatmaps' noise to signal for factors ``[classes]``."""
        return float(self.noise(torch.from_numpy(np.log2(factors))))

    def quietest(self, *, largest: float) -> NDArray[np.float64]:
        """Give the factors with the least noise found, from ``2^-largest`` to ``2^largest``; 1 for fixed classes."""
        free = torch.from_numpy(~self._fixed)
        exponents = torch.zeros(len(free), dtype=torch.float64, requires_grad=True)
        optimiser = torch.optim.Adam([exponents], lr=_RATE)
        best, least = torch.zeros_like(exponents), float("inf")
        for _ in range(_STEPS):
            now = (exponents * free).clamp(-largest, largest)
            noise = self.noise(now)
            if (found := float(noise.detach())) < least:
                best, least = now.detach().clone(), found
            optimiser.zero_grad()
            torch.log(noise).backward()
            optimiser.step()
        factors: NDArray[np.float64] = torch.exp2(best).numpy()
        return factors


def measured(program: GraphModule, classes: ChannelClasses, pictures: NDArray[np.float32], *, seed: int) -> Measured:
    """Measure a network over pictures ``[M, 3, H, W]``; ``seed`` draws one ``r`` for each."""
    recorder = _Recorder(program, classes)
    generator = torch.Generator().manual_seed(seed)
    with torch.enable_grad():
        for picture in pictures:
            recorder.add(torch.from_numpy(np.array(picture[None])), generator)
    kept = {node.name: activation_of(node) is None for node in program.graph.nodes}
    power = max(recorder.power, torch.finfo(torch.float64).tiny)
    return Measured(
        tensors={
            name: Moments(low=low, high=high, reach=reach / power, kept=kept[name])
            for name, (low, high, reach) in recorder.tensors.items()
        },
        weights={name: reach / power for name, reach in recorder.weights.items()},
    )


class _Recorder(Interpreter):
    """Adds up what is asked of each channel and weight, picture by picture."""

    def __init__(self, program: GraphModule, classes: ChannelClasses) -> None:
        super().__init__(program)
        self._classes = classes
        values = program.state_dict()
        names = dict.fromkeys(layer.weight for layer in classes.layers)
        self._leaves = {name: values[name].detach().clone().requires_grad_() for name in names}
        self._weights = {layer.name: self._leaves[layer.weight] for layer in classes.layers}
        self._seen: dict[str, Tensor] = {}
        self.tensors: dict[str, tuple[Tensor, Tensor, Tensor]] = {}
        self.weights: dict[str, Tensor] = {}
        self.power = 0.0

    def add(self, picture: Tensor, generator: torch.Generator) -> None:
        """Run a picture forwards and backwards."""
        self._seen = {}
        heatmaps = tensors_in(self.run(picture.requires_grad_()))
        self.power += sum(float(each.detach().double().square().sum()) for each in heatmaps)
        mixed = torch.stack([(each * torch.randn(each.shape, generator=generator)).sum() for each in heatmaps]).sum()
        wanted = [*self._seen.values(), *self._weights.values()]
        slopes = iter(torch.autograd.grad(mixed, wanted, allow_unused=True, materialize_grads=True))
        for name, value in self._seen.items():
            self._note(name, value.detach()[0].flatten(1).double(), next(slopes)[0].flatten(1).double().square())
        for name in self._weights:
            slope = next(slopes)
            reach = slope.double().square().reshape(*slope.shape[:2], -1).sum(2)
            self.weights[name] = self.weights.get(name, torch.zeros_like(reach)) + reach

    def _note(self, name: str, value: Tensor, squared: Tensor) -> None:
        low, high = torch.aminmax(value, dim=1)
        before = self.tensors.get(name, (torch.zeros_like(low),) * 3)
        reach = (squared * (value != 0)).sum(1)
        self.tensors[name] = (torch.minimum(before[0], low), torch.maximum(before[1], high), before[2] + reach)

    def get_attr(self, target: Any, args: Any, kwargs: Any) -> Any:
        return self._leaves[target] if target in self._leaves else super().get_attr(target, args, kwargs)

    def run_node(self, n: Node) -> Any:
        result = super().run_node(n)
        if n.name in self._classes.of:
            self._seen[n.name] = result
        return result


def _reader(layer: Layer, weight: Tensor, reach: Tensor, classes: ChannelClasses, precision: Precision) -> _Reader:
    by_group = (layer.groups, -1, weight.shape[1])
    return _Reader(
        members=torch.from_numpy(classes.of[layer.source]),
        peaks=weight.detach().double().abs().flatten(2).amax(2).reshape(by_group),
        reach=reach.reshape(by_group),
        largest=largest_weight(weight_bits(precision, weight.shape[1])),
    )
