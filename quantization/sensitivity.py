"""What each part of a ``w8a8`` plan costs the heatmaps, without labels.

Every candidate is looked at twice: **alone**, the only integer part of a float network, and **left out**, the only
float part of the integer network. What counts is the noise in the heatmaps beside the float student's, in decibels::

    snr = 10 log10( sum float^2 / sum (float - mixed)^2 )

A tensor escapes rounding only where its producer and all its readers stay in float, so what can stay in float are not
only units but also the units around a tensor, and blocks: all units of a module.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from quantization.causes import cause_of
from quantization.mixed import MixedNetwork
from quantization.parallel import mapped

__all__ = ["Candidate", "Sensitivity", "sensitivity", "snr_db"]

_NO_NOISE_DB: Final = 200.0
_GROWTH: Final = 3
"""Bytes that a weight grows by from int8 to float32."""


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """Units that could stay in float together.

    Attributes:
        name: The unit's layer or node, the tensor's node, or the module of a block.
        kind: ``unit``, ``tensor`` or ``block``.
        growth: Bytes that the weights of each of them grow by, by name.
        alone_db: Signal to noise where only they are integer.
        left_out_db: Signal to noise where only they are float.
        share: Its noise alone over the integer network's.
        gain: Share of the integer network's noise that goes where they are float; negative where it grows.
        cause: Where the noise comes from, in words.
    """

    name: str
    kind: str
    growth: Mapping[str, int]
    alone_db: float
    left_out_db: float
    share: float
    gain: float
    cause: str

    @property
    def worth(self) -> float:
        """Share of the noise that both looks agree on: chance gains little, a unit amid rounded tensors nothing."""
        return max(0.0, min(self.share, self.gain))

    @property
    def units(self) -> frozenset[str]:
        """Their names."""
        return frozenset(self.growth)

    @property
    def extra_bytes(self) -> int:
        """What all their weights grow by."""
        return sum(self.growth.values())


@dataclass(frozen=True, kw_only=True)
class Sensitivity:
    """What was found.

    Attributes:
        snr_db: Of the integer network.
        candidates: Largest worth per unit first, of equal ones the noisiest.
        runs: How often the network was run, whole or in part, on all pictures.
    """

    snr_db: float
    candidates: tuple[Candidate, ...]
    runs: int


def sensitivity(
    network: MixedNetwork,
    pictures: NDArray[np.float32],
    *,
    kept: Iterable[str] = (),
    jobs: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Sensitivity:
    """Look at every candidate.

    Args:
        network: With its plan.
        pictures: A few normalised ones ``[N, 3, H, W]``; all values of two runs are held at once.
        kept: Units that are in float already: the noise is that of the network with them, and what is looked at are the
            others.
        jobs: Candidates looked at at once; None takes as many as PyTorch has threads. The result is the same.
        progress: Called with candidates done and their number.
    """
    inputs = torch.from_numpy(np.ascontiguousarray(pictures))
    everything, already = frozenset(network.units), frozenset(kept)
    exact, rounded = network.run(inputs, kept=everything), network.run(inputs, kept=already)
    truth, integer = network.result(exact), network.result(rounded)
    whole = _noise(truth, integer)

    def look(group: tuple[str, str, frozenset[str]]) -> Candidate:
        name, kind, units = group
        alone = network.result(network.run(inputs, kept=everything - units, like=(exact, everything)))
        left_out = network.result(network.run(inputs, kept=already | units, like=(rounded, already)))
        return Candidate(
            name=name,
            kind=kind,
            growth={unit: _GROWTH * network.units[unit].weights for unit in sorted(units)},
            alone_db=snr_db(truth, alone),
            left_out_db=snr_db(truth, left_out),
            share=_noise(truth, alone) / whole if whole else 0.0,
            gain=1 - _noise(truth, left_out) / whole if whole else 0.0,
            cause=cause_of(network, units, exact),
        )

    found = mapped(look, _groups(network, already), jobs=jobs, progress=progress)
    found.sort(key=lambda candidate: (-candidate.worth / len(candidate.units), -candidate.share))
    return Sensitivity(snr_db=snr_db(truth, integer), candidates=tuple(found), runs=2 + 2 * len(found))


def snr_db(truth: Tensor, other: Tensor) -> float:
    """Give the signal-to-noise ratio of heatmaps; 200 stands for no noise at all."""
    signal, noise = float(truth.double().square().sum()), _noise(truth, other)
    return min(_NO_NOISE_DB, 10 * math.log10(signal / noise)) if noise > 0 and signal > 0 else _NO_NOISE_DB


def _noise(truth: Tensor, other: Tensor) -> float:
    return float((truth.double() - other.double()).square().sum())


def _groups(network: MixedNetwork, already: frozenset[str]) -> Iterator[tuple[str, str, frozenset[str]]]:
    """Give every unit, the units around every tensor, and the units of every module that has several, each set once."""
    seen: set[frozenset[str]] = set()
    for name, kind, group in _all_groups(network):
        units = group - already
        if units and units not in seen and len(units) < len(network.units):
            seen.add(units)
            yield name, kind, units


def _all_groups(network: MixedNetwork) -> Iterator[tuple[str, str, frozenset[str]]]:
    for unit in network.units.values():
        yield unit.layer or unit.name, "unit", frozenset((unit.name,))
    for tensor, readers in network.readers.items():
        yield tensor, "tensor", frozenset((*readers, *({tensor} & network.units.keys())))
    modules: dict[str, set[str]] = {}
    for unit in network.units.values():
        parts = unit.layer.split(".")
        for length in range(1, len(parts)):
            modules.setdefault(".".join(parts[:length]), set()).add(unit.name)
    for module, units in modules.items():
        yield module, "block", frozenset(units)
