"""What one kernel costs: a sum of four terms, fitted to measurements.

Runtimes pick a kernel by the operator's shape (:class:`Kind`). Within one kind the time is modelled as::

    microseconds = op_us + (pixel_ns * pixels + element_ns * elements + mac_ns * macs) / 1000

``op_us`` is the price of dispatching an operator, ``pixel_ns`` that of one output pixel whatever its channels (pointers
to set up, vectors that are not full), ``element_ns`` that of reading and writing (bytes moved, counted in elements),
``mac_ns`` that of arithmetic. No coefficient is negative, so a larger operator of one kind never costs less.

The fit minimises the sum of squared *relative* errors: a layer of 5 us counts as much as one of 5 ms.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from enum import StrEnum
from itertools import combinations
from typing import Final

import numpy as np

from lspdmobile.fusion.operations import AddOp, AffineOp, ConvOp, Op

__all__ = ["Coefficients", "Features", "Kind", "features_of", "fitted", "kind_of"]


class Kind(StrEnum):
    """Operators that run through the same kernel."""

    DEPTHWISE_1 = "depthwise, 1 tap"
    DEPTHWISE_9 = "depthwise, 2 to 9 taps"
    DEPTHWISE_25 = "depthwise, 10 to 25 taps"
    DEPTHWISE_LARGE = "depthwise, more than 25 taps"
    POINTWISE = "dense 1x1"
    DENSE = "dense, larger kernels"
    GROUPED = "grouped"
    ADD = "add"
    AFFINE = "scale and shift"
    PAD = "separate pad"
    FALLBACK = "outside of the fast path"


@dataclass(frozen=True, kw_only=True)
class Features:
    """What a kernel's time depends on: output pixels, elements read or written, multiply-accumulates."""

    pixels: int
    elements: int
    macs: int


@dataclass(frozen=True, kw_only=True)
class Coefficients:
    """Price of an operator, of a pixel, an element and a MAC; none is negative."""

    op_us: float = 0.0
    pixel_ns: float = 0.0
    element_ns: float = 0.0
    mac_ns: float = 0.0

    def __post_init__(self) -> None:
        """Refuse a price that is negative or not finite.

        Raises:
            ValueError: There is one.
        """
        values = [getattr(self, each.name) for each in fields(self)]
        if not all(np.isfinite(values)) or min(values) < 0:
            message = f"a price is finite and not negative: {values}"
            raise ValueError(message)

    def microseconds(self, features: Features) -> float:
        """Price an operator."""
        rest = self.pixel_ns * features.pixels + self.element_ns * features.elements + self.mac_ns * features.macs
        return self.op_us + rest / 1000


_USED: Final[dict[Kind, tuple[str, ...]]] = {
    Kind.DEPTHWISE_1: ("op", "elements"),
    Kind.DEPTHWISE_9: ("op", "pixels", "elements"),
    Kind.DEPTHWISE_25: ("op", "pixels", "elements"),
    Kind.DEPTHWISE_LARGE: ("op", "elements", "macs"),
    Kind.POINTWISE: ("op", "pixels", "elements", "macs"),
    Kind.DENSE: ("op", "pixels", "macs"),
    Kind.GROUPED: ("op", "pixels", "macs"),
    Kind.ADD: ("op", "elements"),
    Kind.AFFINE: ("op", "elements"),
    Kind.PAD: ("op", "elements"),
}
"""Terms that are told apart in a kind, the work it mainly does last; no fit is without that one, so that prices of few
samples grow with the operator. Within the depthwise kinds of one tile, MACs are elements times a constant."""

_SHORTEST_US: Final = 0.5
"""Differences of timings below this are noise: such samples weigh as if they took this long."""


def kind_of(op: Op) -> Kind:
    """Give the kernel an operator's shape asks for, before the target's rules."""
    match op:
        case AddOp():
            return Kind.ADD
        case AffineOp():
            return Kind.AFFINE
        case ConvOp() if op.is_depthwise:
            tiles = ((1, Kind.DEPTHWISE_1), (9, Kind.DEPTHWISE_9), (25, Kind.DEPTHWISE_25))
            return next((kind for taps, kind in tiles if op.taps <= taps), Kind.DEPTHWISE_LARGE)
        case ConvOp():
            if op.groups > 1:
                return Kind.GROUPED
            return Kind.POINTWISE if op.taps == 1 else Kind.DENSE


def features_of(op: Op) -> Features:
    """Count an operator's output pixels, the elements it reads and writes, and its MACs."""
    match op:
        case ConvOp():
            elements = op.in_channels * op.in_size[0] * op.in_size[1] + op.out_channels * op.pixels
            return Features(pixels=op.pixels, elements=elements, macs=op.macs)
        case AddOp():
            return Features(pixels=op.pixels, elements=3 * op.channels * op.pixels, macs=0)
        case AffineOp():
            return Features(pixels=op.pixels, elements=2 * op.channels * op.pixels, macs=op.macs)


def fitted(kind: Kind, samples: Sequence[tuple[Features, float]]) -> Coefficients:
    """Fit the prices of one kind: least squares of relative errors over the sets of terms that need no negative price.

    Args:
        kind: Which terms are told apart.
        samples: Features and measured microseconds; at least one.

    Raises:
        ValueError: There is no sample.
    """
    if not samples:
        message = f"no measurement of {kind}"
        raise ValueError(message)
    names = _USED[kind]
    times = np.array([max(time, _SHORTEST_US) for _, time in samples])
    columns = np.array([[_term(name, each) for name in names] for each, _ in samples]) / times[:, None]
    best: tuple[float, dict[str, float]] | None = None
    for count in range(min(len(names), len(samples))):
        for chosen in ((*others, len(names) - 1) for others in combinations(range(len(names) - 1), count)):
            prices, *_ = np.linalg.lstsq(columns[:, chosen], np.ones(len(times)), rcond=None)
            error = float(np.sum((columns[:, chosen] @ prices - 1) ** 2))
            if prices.min() >= 0 and (best is None or error < best[0]):
                best = error, {names[index]: float(price) for index, price in zip(chosen, prices, strict=True)}
    assert best is not None  # the last column alone has a positive price
    found = best[1]
    return Coefficients(
        op_us=found.get("op", 0.0),
        pixel_ns=found.get("pixels", 0.0),
        element_ns=found.get("elements", 0.0),
        mac_ns=found.get("macs", 0.0),
    )


def _term(name: str, features: Features) -> float:
    """Give one column: 1 for the operator itself, else a count in thousands (prices are in nanoseconds)."""
    return 1.0 if name == "op" else float(getattr(features, name)) / 1000
