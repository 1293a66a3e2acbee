"""One entry to all methods: a float network and its plan in, those to emit out.

What each method leaves for the next fixes their order: equalisation needs weights that are not rounded yet and makes
new ranges necessary; range tuning sees the network as it will be. Rounding corrects biases itself, layer by layer, so
bias correction is for networks that are not rounded (it takes seconds) and no part of the default.

No method may do harm: what one did is undone where the quantized heatmaps are further from the float ones afterwards,
over calibration pictures, and so is an equalisation whose network does not compute the same. (Mean errors, for
instance, are not what is wrong with a network whose int8 form is ruined.)
"""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from lspdmobile.choices import Precision
from lspdmobile.errors import BadInputError, GateFailedError
from quantization.affine import INTEGER_WEIGHTS
from quantization.calibrate import calibrate
from quantization.graph import quantized_module
from quantization.methods.bias_correction import correct_biases
from quantization.methods.equalization import LARGEST_FACTOR, equalize
from quantization.methods.range_tuning import tune_ranges
from quantization.methods.rounding import round_weights
from quantization.methods.simulated import simulated
from quantization.pictures import Pictures, one_by_one
from quantization.plan import QuantizationPlan

__all__ = ["DEFAULT_METHODS", "Method", "Prepared", "parse_methods", "prepare"]

Progress = Callable[[str, int, int], None]
Recalibrate = Callable[[nn.Module], QuantizationPlan]


class Method(StrEnum):
    """A method, in the order of application."""

    EQUALIZATION = "equalization"
    ROUNDING = "rounding"
    BIAS_CORRECTION = "bias-correction"
    RANGE_TUNING = "range-tuning"


DEFAULT_METHODS: Final = (Method.EQUALIZATION, Method.ROUNDING, Method.RANGE_TUNING)
_FEWEST_PICTURES: Final = 2
_MOST_PICTURES: Final = 64
_JUDGING_PICTURES: Final = 16
_LARGEST_FACTORS: Final = (LARGEST_FACTOR, 8.0, 4.0, 2.0)
"""Binary logarithms of the largest factors of equalisation, tried in this order."""
_LARGEST_MULTIPLIER: Final = 128
"""Half of what XNNPACK takes: later methods change grids by less than that."""


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """What to emit.

    Attributes:
        network: Float network with the node names of the one that was given.
        plan: To quantize it by.
        records: What each method did, in order, JSON-able: ``method``, ``noise`` of the quantized heatmaps (noise to
            signal before and after), ``kept`` and the method's own keys, ``fault`` where it failed; or ``method``,
            ``skipped`` and why.
    """

    network: nn.Module
    plan: QuantizationPlan
    records: tuple[dict[str, Any], ...]


def parse_methods(text: str) -> tuple[Method, ...]:
    """Read a comma list of methods; ``default`` means those that usually help together, ``none`` none.

    Raises:
        BadInputError: A name is unknown.
    """
    words = [word.strip().lower() for word in text.split(",")]
    if words in (["default"], ["none"]):
        return DEFAULT_METHODS if words == ["default"] else ()
    if unknown := [word for word in words if word not in set(Method)]:
        message = f"unknown method {unknown[0]!r}: choose from {', '.join(Method)}, default or none"
        raise BadInputError(message)
    return tuple(_ordered([Method(word) for word in words]))


def prepare(
    network: nn.Module,
    plan: QuantizationPlan,
    pictures: Pictures,
    *,
    methods: Collection[Method] = DEFAULT_METHODS,
    recalibrate: Recalibrate | None = None,
    seed: int = 0,
    progress: Progress | None = None,
) -> Prepared:
    """Apply methods to a copy of a network and its plan; the network itself is not touched.

    Args:
        network: Fused float student in eval mode.
        plan: Made from it; ``w4``, ``w8``, ``w8a8`` or ``w8a16``. Others come back as they are.
        pictures: Normalised calibration inputs, at least 2; no labels are needed. Ranges are calibrated on all of them,
            the rest is done on at most 64, evenly spaced.
        methods: Which; their order is that of :class:`Method`, whatever the order here.
        recalibrate: Gives the plan of an equalised network; by default that of the given plan's estimation.
        seed: Of every random choice.
        progress: Called with a method's name, steps done and their number.

    Raises:
        BadInputError: There are fewer than two pictures, or the plan is another network's.
        EnvironmentLacksError: torchao or executorch is absent.
    """
    if plan.precision not in INTEGER_WEIGHTS:
        skipped = f"methods are for integer weights, not {plan.precision}"
        return Prepared(network=network, plan=plan, records=tuple(_skipped(m, skipped) for m in _ordered(methods)))
    if len(pictures) < _FEWEST_PICTURES:
        message = (
            f"quantization methods need at least 2 calibration pictures, not {len(pictures)}: "
            "pass more --calib, or --methods none"
        )
        raise BadInputError(message)

    def anew(changed: nn.Module) -> QuantizationPlan:
        found = calibrate(changed, pictures, precision=plan.precision, estimation=plan.estimation)
        return replace(found, kept_float=plan.kept_float)

    work = _Work(
        network=network,
        plan=plan,
        pictures=_some(pictures),
        recalibrate=recalibrate or anew,
        seed=seed,
        progress=progress or _silent,
    )
    records = tuple(work.apply(method) for method in _ordered(methods))
    return Prepared(network=work.network, plan=work.plan, records=records)


class _Work:
    """A network and its plan between two methods."""

    def __init__(
        self,
        *,
        network: nn.Module,
        plan: QuantizationPlan,
        pictures: NDArray[np.float32],
        recalibrate: Recalibrate,
        seed: int,
        progress: Progress,
    ) -> None:
        self.network, self.plan = network, plan
        self._exact = network
        self._noise = _NoiseOf(network, pictures)
        self._pictures, self._recalibrate, self._seed, self._progress = pictures, recalibrate, seed, progress

    def apply(self, method: Method) -> dict[str, Any]:
        """Apply one method, undo it if it did harm, and give its record."""
        if method is Method.RANGE_TUNING and self.plan.precision is not Precision.W8A8:
            return _skipped(method, f"{self.plan.precision} has no 8-bit activations")
        self._progress(method.value, 0, 1)
        before = self.network, self.plan, self._exact
        noise = self._noise(self.network, self.plan)
        try:
            found = self._applied(method)
        except GateFailedError as fault:
            return {"method": method.value, "noise": [noise, noise], "kept": False, "fault": str(fault)}
        after = self._noise(self.network, self.plan)
        kept = after <= noise
        if not kept:
            self.network, self.plan, self._exact = before
        return {"method": method.value, "noise": [noise, after], "kept": kept, **found}

    def _applied(self, method: Method) -> dict[str, Any]:
        """Apply one method and give what it says of itself."""

        def progress(done: int, total: int) -> None:
            self._progress(method.value, done, total)

        match method:
            case Method.EQUALIZATION:
                return self._equalise()
            case Method.ROUNDING:
                return self._round(progress)
            case Method.BIAS_CORRECTION:
                return self._correct(progress)
            case Method.RANGE_TUNING:
                return self._tune(progress)

    def _equalise(self) -> dict[str, Any]:
        """Equalise, with smaller factors where larger ones leave numbers that a kernel cannot multiply by.

        A channel that is nearly always 0 costs nothing, whatever its factor; it alone is driven that far.
        """
        precision = self.plan.precision
        for largest in _LARGEST_FACTORS:
            done = equalize(self.network, self._pictures, precision=precision, seed=self._seed, largest=largest)
            plan = self._recalibrate(done.network) if precision.is_static_integer else self.plan
            if self._runs(done.network, plan):
                break
        self.network, self.plan, self._exact = done.network, plan, done.network
        return done.to_dict()

    def _runs(self, network: nn.Module, plan: QuantizationPlan) -> bool:
        if plan.precision is not Precision.W8A8:
            return True
        from quantization.integer_layers import largest_multiplier  # it reads layers as this package does

        size = (self._pictures.shape[2], self._pictures.shape[3])
        return largest_multiplier(quantized_module(network, plan, size)) < _LARGEST_MULTIPLIER

    def _round(self, progress: Callable[[int, int], None]) -> dict[str, Any]:
        done = round_weights(self.network, self.plan, self._pictures, seed=self._seed, progress=progress)
        self.network = done.network
        return {"layers": [each.to_dict() for each in done.layers]}

    def _correct(self, progress: Callable[[int, int], None]) -> dict[str, Any]:
        done = correct_biases(self.network, self.plan, self._pictures, reference=self._exact, progress=progress)
        self.network = done.network
        return {"layers": [each.to_dict() for each in done.layers]}

    def _tune(self, progress: Callable[[int, int], None]) -> dict[str, Any]:
        done = tune_ranges(
            self.network, self.plan, self._pictures, reference=self._exact, seed=self._seed, progress=progress
        )
        self.plan = done.plan
        return done.to_dict()


class _NoiseOf:
    """Measures noise to signal of quantized heatmaps against a float network's, over a few pictures."""

    def __init__(self, exact: nn.Module, pictures: NDArray[np.float32]) -> None:
        every = max(1, len(pictures) // _JUDGING_PICTURES)
        self._inputs = [torch.from_numpy(np.ascontiguousarray(each[None])) for each in pictures[::every]]
        with torch.no_grad():
            self._wanted = [exact(each) for each in self._inputs]

    @torch.no_grad()
    def __call__(self, network: nn.Module, plan: QuantizationPlan) -> float:
        module = simulated(network, plan, (self._inputs[0].shape[2], self._inputs[0].shape[3])).module
        pairs = list(zip(self._inputs, self._wanted, strict=True))
        missed = sum(float((module(each) - wanted).square().sum()) for each, wanted in pairs)
        return missed / sum(float(wanted.square().sum()) for wanted in self._wanted)


def _some(pictures: Pictures) -> NDArray[np.float32]:
    """Give at most 64 pictures, evenly spaced, float32 ``[M, 3, H, W]``."""
    chosen = set(np.linspace(0, len(pictures) - 1, min(len(pictures), _MOST_PICTURES)).round().astype(int).tolist())
    return np.concatenate([each for index, each in enumerate(one_by_one(pictures)) if index in chosen])


def _ordered(methods: Collection[Method]) -> Sequence[Method]:
    return [method for method in Method if method in methods]


def _skipped(method: Method, reason: str) -> dict[str, Any]:
    return {"method": method.value, "skipped": reason}


def _silent(*_: object) -> None:
    """Tell nobody."""
