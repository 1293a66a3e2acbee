"""The targets: what a sequence of operators costs on each, and which rules each goes by.

===================  ======================================================================================
litert-xnnpack       LiteRT with XNNPACK on this machine: measured here, or the defaults (x86-64)
executorch-xnnpack   ExecuTorch with XNNPACK on this machine: measured here, or the defaults (x86-64)
xnnpack-arm          XNNPACK on one big ARM core; from published latencies, not measured
coreml-ane           the Neural Engine; from published latencies, not measured
coreml-cpu           Core ML on the CPU; from published latencies, not measured
===================  ======================================================================================

Costs rank forms of a block; they are no forecast of a network's latency (kernels are timed with their pictures in the
cache, one thread). How well they rank is printed by ``benchmarks/fusion_cost.py --forms``.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Final

from lspdmobile.errors import BadInputError
from lspdmobile.fusion.kernel_costs import Coefficients, Kind, features_of
from lspdmobile.fusion.measurements import Measurements, defaults, measured_here
from lspdmobile.fusion.operations import AddOp, AffineOp, ConvOp, Dtype, Op
from lspdmobile.fusion.published_costs import Profile, coreml_ane, coreml_cpu, xnnpack_arm
from lspdmobile.fusion.rules import COREML_ANE, COREML_CPU, EXECUTORCH, LITERT, XNNPACK, Effect, Rule, steps_of

__all__ = [
    "TARGETS",
    "AddOp",
    "AffineOp",
    "ConvOp",
    "Dtype",
    "Target",
    "Targets",
    "default_targets",
    "target_named",
    "target_on",
]


@dataclass(frozen=True, kw_only=True)
class Target:
    """A runtime on a machine: its rules and its prices.

    Attributes:
        name: As users write it.
        rules: Which operators stay on the fast path and what becomes of the others.
        prices: Prices of every kernel the rules can lead to, by dtype.
        provenance: Where the prices come from, in one line.
        is_measured: Whether they were measured on this very machine.
    """

    name: str
    rules: tuple[Rule, ...]
    prices: Profile
    provenance: str
    is_measured: bool

    def cost(self, ops: Sequence[Op], dtype: Dtype) -> float:
        """Give the microseconds operators take one after the other; infinite where one cannot be emitted.

        Raises:
            ValueError: The dtype is neither ``fp32`` nor ``int8``.
        """
        if dtype not in self.prices:
            message = f"{self.name} has no prices for {dtype!r}: one of {', '.join(self.prices)}"
            raise ValueError(message)
        return sum((self._one(op, dtype) for op in ops), start=0.0)

    def broken_rules(self, op: Op, dtype: Dtype) -> tuple[Rule, ...]:
        """Give the rules that take an operator off the fast path, in the order of ``rules``."""
        return tuple(rule for rule in self.rules if rule.effect is not Effect.FREE and rule.applies(op, dtype))

    def _one(self, op: Op, dtype: Dtype) -> float:
        steps = steps_of(op, dtype, self.rules)
        if steps is None:
            return math.inf
        return sum(self.prices[dtype][step.kind].microseconds(step.features) for step in steps)


class Targets(Mapping[str, Target]):
    """The targets by name; measurements are read when the first target is asked for."""

    def __getitem__(self, name: str) -> Target:
        return self._by_name[name]

    def __iter__(self) -> Iterator[str]:
        return iter(_NAMES)

    def __len__(self) -> int:
        return len(_NAMES)

    @cached_property
    def _by_name(self) -> dict[str, Target]:
        return {target.name: target for target in _targets(defaults(), measured_here())}


TARGETS: Final[Mapping[str, Target]] = Targets()
"""Every target by name."""

_HOST: Final[dict[str, tuple[Rule, ...]]] = {"litert-xnnpack": LITERT, "executorch-xnnpack": EXECUTORCH}
_NAMES: Final = (*_HOST, "xnnpack-arm", "coreml-ane", "coreml-cpu")
_UNMEASURED: Final = "derived from published latencies, not measured here"


def target_named(name: str) -> Target:
    """Look a target up.

    Raises:
        BadInputError: There is none of that name.
    """
    if name not in _NAMES:
        message = f"unknown target {name!r}: choose from {', '.join(_NAMES)}"
        raise BadInputError(message)
    return TARGETS[name]


def default_targets() -> Mapping[str, Target]:
    """Give the targets as they come with the package, whatever was measured here."""
    return {target.name: target for target in _targets(defaults(), None)}


def target_on(name: str, measurements: Measurements) -> Target:
    """Price one of the runtimes that can be measured by given measurements alone.

    Raises:
        KeyError: There is no such runtime.
    """
    rules = _HOST[name]
    provenance = f"measured on {measurements.machine.text} on {measurements.taken}"
    prices = measurements.profile(name, rules)
    return Target(name=name, rules=rules, prices=prices, provenance=provenance, is_measured=True)


def _targets(shipped: Measurements, here: Measurements | None) -> Iterator[Target]:
    for name in _HOST:
        yield _host_target(name, shipped, here)
    tiles = shipped.profile("litert-xnnpack", LITERT)
    ratios = {dtype: _large_over_tile(prices) for dtype, prices in tiles.items()}
    published = (
        ("xnnpack-arm", XNNPACK, xnnpack_arm(ratios)),
        ("coreml-ane", COREML_ANE, coreml_ane()),
        ("coreml-cpu", COREML_CPU, coreml_cpu()),
    )
    for name, rules, prices in published:
        yield Target(name=name, rules=rules, prices=prices, provenance=_UNMEASURED, is_measured=False)


def _host_target(name: str, shipped: Measurements, here: Measurements | None) -> Target:
    """Price a runtime by this machine's measurements; kernels these lack, by the defaults."""
    usual = target_on(name, shipped)
    if here is None or name not in here.targets:
        return replace(usual, provenance=f"defaults, {usual.provenance}", is_measured=False)
    own = target_on(name, here)
    return replace(own, prices={dtype: {**usual.prices[dtype], **own.prices[dtype]} for dtype in usual.prices})


def _large_over_tile(prices: Mapping[Kind, Coefficients]) -> float:
    """Tell how many times a MAC of a 7x7 depthwise kernel costs one of a 5x5 (64 channels at 32x32)."""
    by_side = {
        side: ConvOp(
            in_channels=64,
            out_channels=64,
            groups=64,
            kernel=(side, side),
            dilation=(1, 1),
            stride=(1, 1),
            padding=(side // 2,) * 4,
            in_size=(32, 32),
            bias=True,
        )
        for side in (5, 7)
    }
    kinds = {5: Kind.DEPTHWISE_25, 7: Kind.DEPTHWISE_LARGE}
    per_mac = {side: prices[kinds[side]].microseconds(features_of(op)) / op.macs for side, op in by_side.items()}
    return per_mac[7] / per_mac[5]
