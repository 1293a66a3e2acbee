"""Which single number of the network, if it were another, would explain what an artifact gives.

To first order a change d of the numbers along a direction e moves the heatmaps by ``d J e``, J the Jacobian. Of the
difference r this explains at most ``<r, J e>^2 / (|J e|^2 |r|^2)``. One backward pass gives ``<r, J e>`` for all
numbers at once; ``|J e|^2`` is the mean of ``<v, J e>^2`` over random v of unit variance (Hutchinson's estimate). The
directions are every single number, every output channel of a layer with all that makes it, and every layer. The best
few are then tried on the network itself, with the change sought along a line, because a fault is rarely small.
"""

import copy
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from torch import Tensor, nn

from lspdmobile.choices import Cause
from lspdmobile.diagnosis.evidence import Candidate, Evidence, Maps

__all__ = ["weight_candidates"]

_PICTURES: Final = 4
_PROBES: Final = 8
_SINGLES: Final = 12
_GAINS: Final = 8
_STRETCHES: Final = (1.0, 3.0)
_FINALISTS: Final = 3
_FACTORS: Final = (0.5, 2.0)
_ROUNDS: Final = 4
_FLOOR: Final = 1e-3


@dataclass(frozen=True, kw_only=True, eq=False)
class _Direction:
    """A way to change parameters: ``parameter + d * direction`` for each of the named ones.

    Attributes:
        score: Share of the difference it explains to first order.
        start: The d that does.
        single: Whether it is one number, which the change is added to; others are multiplied by 1 + d.
        where: Parameter to the index of its elements, None for all.
    """

    score: float
    start: float
    single: bool
    where: Mapping[str, tuple[int, ...] | None]

    @property
    def whole(self) -> bool:
        """Whether it is all that a layer gives."""
        return None in self.where.values()


def weight_candidates(evidence: Evidence) -> Iterator[Candidate]:
    """Change the most suspicious numbers of a copy of the network, and give what fits best, if there is any."""
    network = copy.deepcopy(evidence.network)
    few = slice(0, _PICTURES)
    directions = _directions(network, evidence.inputs[few], evidence.found[few] - evidence.expected[few])
    searches = sorted((_Search(network, evidence, each) for each in directions), key=lambda each: -each.best[0])
    if not searches:
        return
    (_, change), direction = max(
        ((each.sharpened(), each.direction) for each in searches[:_FINALISTS]), key=lambda each: each[0][0]
    )
    with _changed(network, direction, change):
        maps = _run(network, evidence.inputs)
    cause = Cause.WEIGHT if direction.single else Cause.SCALE
    yield Candidate(cause=cause, sentence=_sentence(network, direction, change), maps=maps)


def _directions(network: nn.Module, inputs: Maps, difference: Maps) -> list[_Direction]:
    parameters = {n: p.requires_grad_() for n, p in network.named_parameters() if p.is_floating_point()}
    if not parameters:
        return []
    heatmaps = network(torch.from_numpy(inputs))
    wanted = torch.from_numpy(difference)
    toward = _gradients(heatmaps, parameters, wanted)
    generator = torch.Generator().manual_seed(0)
    probes = [_gradients(heatmaps, parameters, torch.randn(wanted.shape, generator=generator)) for _ in range(_PROBES)]
    energy = float(wanted.square().sum())
    singles = _best([_single(name, toward, probes, energy) for name in parameters], _SINGLES)
    gains = [list(_gains(names, parameters, toward, probes, energy)) for names in _layers(parameters)]
    layers, channels = (
        _best([[each for each in part if each.whole is whole] for part in gains], _GAINS) for whole in (True, False)
    )
    return singles + layers + channels


def _gradients(heatmaps: Tensor, parameters: Mapping[str, Tensor], along: Tensor) -> dict[str, Tensor]:
    found: Sequence[Tensor | None] = torch.autograd.grad(
        heatmaps, list(parameters.values()), along, retain_graph=True, allow_unused=True
    )
    pairs = zip(parameters.items(), found, strict=True)
    return {name: torch.zeros_like(value) if grad is None else grad for (name, value), grad in pairs}


def _best(found: Sequence[list[_Direction]], most: int) -> list[_Direction]:
    everything = [each for part in found for each in part]
    return sorted(everything, key=lambda each: -each.score)[:most]


def _single(
    name: str, toward: Mapping[str, Tensor], probes: Sequence[Mapping[str, Tensor]], energy: float
) -> list[_Direction]:
    """Score each element of a parameter; gives its best few."""
    product = toward[name].flatten()
    length = torch.stack([probe[name].flatten() for probe in probes]).square().mean(0)
    length = length + _FLOOR * length.mean() + torch.finfo(length.dtype).tiny
    scores = product.square() / (length * energy)
    top = scores.topk(min(_SINGLES, len(scores))).indices
    shape = toward[name].shape
    return [
        _Direction(
            score=float(scores[i]),
            start=float(product[i] / length[i]),
            single=True,
            where={name: tuple(int(n) for n in np.unravel_index(int(i), shape))},
        )
        for i in top
    ]


def _layers(parameters: Mapping[str, Tensor]) -> list[list[str]]:
    """Group parameters by the module that holds them."""
    layers: dict[str, list[str]] = {}
    for name in parameters:
        layers.setdefault(name.rpartition(".")[0], []).append(name)
    return list(layers.values())


def _gains(
    names: Sequence[str],
    parameters: Mapping[str, Tensor],
    toward: Mapping[str, Tensor],
    probes: Sequence[Mapping[str, Tensor]],
    energy: float,
) -> Iterator[_Direction]:
    """Score the gain of each output channel of a layer, of the layer, and of its weights without the biases."""
    channels = {len(parameters[name]) for name in names}
    if len(channels) != 1:
        return

    def summed(grads: Mapping[str, Tensor], chosen: Sequence[str]) -> Tensor:
        parts = [(grads[n] * parameters[n].detach()).reshape(len(parameters[n]), -1).sum(1) for n in chosen]
        return torch.stack(parts).sum(0)

    weights = [name for name in names if parameters[name].dim() > 1]
    for chosen in [names, weights] if weights and len(weights) < len(names) else [names]:
        product, random = summed(toward, chosen), torch.stack([summed(probe, chosen) for probe in probes])
        length = random.square().mean(0) + torch.finfo(random.dtype).tiny
        for channel in range(len(product)):
            score = float(product[channel] ** 2 / (length[channel] * energy))
            start = float(product[channel] / length[channel])
            yield _Direction(score=score, start=start, single=False, where=dict.fromkeys(chosen, (channel,)))
        whole = float(random.sum(1).square().mean()) + torch.finfo(random.dtype).tiny
        along = float(product.sum())
        where = dict.fromkeys(chosen)
        yield _Direction(score=along**2 / (whole * energy), start=along / whole, single=False, where=where)


class _Search:
    """Seeks the change along a direction that explains most, on the first pictures.

    Attributes:
        direction: Along which.
        tried: Change to the share it explains.
    """

    def __init__(self, network: nn.Module, evidence: Evidence, direction: _Direction) -> None:
        few = slice(0, _PICTURES)
        self.direction = direction
        self._network, self._inputs, self._found = network, evidence.inputs[few], evidence.found[few]
        self._difference = float(np.square(self._found - evidence.expected[few]).sum())
        self.tried = {0.0: 0.0}
        starts = [direction.start * stretch for stretch in _STRETCHES]
        for change in starts if direction.single else [*starts, *(factor - 1 for factor in _FACTORS)]:
            self._try(change)

    @property
    def best(self) -> tuple[float, float]:
        """The largest share and its change."""
        return max((share, change) for change, share in self.tried.items())

    def sharpened(self) -> tuple[float, float]:
        """Go on to the top of the parabola through the best change and its neighbours, as long as that helps."""
        for _ in range(_ROUNDS):
            change = _top(self.tried)
            if change is None or any(math.isclose(change, each, rel_tol=_FLOOR) for each in self.tried):
                break
            self._try(change)
        return self.best

    def _try(self, change: float) -> None:
        with _changed(self._network, self.direction, change):
            found = _run(self._network, self._inputs)
        share = 1 - float(np.square(self._found - found).sum()) / self._difference
        self.tried[change] = share if math.isfinite(share) else -math.inf


def _top(tried: Mapping[float, float]) -> float | None:
    """Give where the parabola through the best of the changes and its neighbours is highest; None where nowhere."""
    changes = sorted(tried)
    middle = changes.index(max(tried, key=lambda change: tried[change]))
    if middle in (0, len(changes) - 1):
        return 2 * changes[middle]
    (x0, y0), (x1, y1), (x2, y2) = ((each, tried[each]) for each in changes[middle - 1 : middle + 2])
    rise, fall = (y1 - y0) / (x1 - x0), (y2 - y1) / (x2 - x1)
    if not math.isfinite(rise - fall) or rise == fall:
        return None
    return (x0 + x1) / 2 + rise / (rise - fall) * (x2 - x0) / 2


@contextmanager
def _changed(network: nn.Module, direction: _Direction, change: float) -> Iterator[None]:
    """Change the numbers of a direction while the context lasts."""
    kept = {name: network.get_parameter(name).detach().clone() for name in direction.where}
    with torch.no_grad():
        for name, index in direction.where.items():
            chosen = network.get_parameter(name)[... if index is None else index]
            if direction.single:
                chosen += change
            else:
                chosen *= 1 + change
    try:
        yield
    finally:
        with torch.no_grad():
            for name, values in kept.items():
                network.get_parameter(name).copy_(values)


def _run(network: nn.Module, inputs: Maps) -> Maps:
    with torch.no_grad():
        found: Maps = network(torch.from_numpy(inputs)).numpy()
    return found


def _sentence(network: nn.Module, direction: _Direction, change: float) -> str:
    name, index = next(iter(direction.where.items()))
    layer = name.rpartition(".")[0] or name
    if direction.single:
        assert index is not None
        value = network.get_parameter(name)[index].item()
        place = ", ".join(map(str, index))
        return f"one number of the network is another: {name}[{place}] is about {value + change:.3g}, not {value:.3g}"
    what = "all that layer {0} gives" if index is None else "channel {1} of layer {0}"
    channel = index[0] if index is not None else 0
    return f"a scale is off: {what.format(layer, channel)} is {1 + change:.3g} times as large as the student's"
