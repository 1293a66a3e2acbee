"""Where float16 loses: every result of a program in float16 beside the same result in float32.

Two losses are told apart. What has accumulated: the float16 run against the float32 run. And an operation's own: the
operation alone in float16, on the float32 run's values, against its float32 result; that one names the culprit.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import inf, isnan, log10
from typing import Any, Final

import torch
from numpy.typing import NDArray
from torch import Tensor

from converters.coreml.mil.package import Program
from converters.coreml.mil.program import MilProgram
from converters.coreml.mil.steps import Step

__all__ = ["LARGEST_FP16", "SMALLEST_NORMAL_FP16", "TensorPrecision", "scan_precision", "troubled"]

LARGEST_FP16: Final = 65504.0
SMALLEST_NORMAL_FP16: Final = 2.0**-14


@dataclass(frozen=True, kw_only=True)
class TensorPrecision:
    """What float16 does to one computed value, over all pictures.

    Attributes:
        name: The value.
        made_by: Kind and first output of the operation that makes it.
        elements: Number of elements looked at.
        largest: Largest magnitude in float32.
        overflows: Elements that are finite in float32 and not in float16.
        subnormals: Elements that are not zero in float32 and below float16's normal range.
        snr_db: Signal to noise of the float16 run in dB, accumulated up to here; infinite where nothing is lost.
        own_snr_db: Signal to noise in dB of this operation alone.
    """

    name: str
    made_by: str
    elements: int
    largest: float
    overflows: int
    subnormals: int
    snr_db: float
    own_snr_db: float


def scan_precision(program: Program, pictures: Iterable[Mapping[str, NDArray[Any]]]) -> tuple[TensorPrecision, ...]:
    """Run a program in float32 and in float16, side by side.

    Args:
        program: As read; its own float types do not matter.
        pictures: Inputs by name, one mapping per run.

    Returns:
        One entry for every float value that is computed, in execution order; none without pictures.

    Raises:
        BadInputError: The inputs do not fit.
        ConversionError: The program holds what is not implemented.
    """
    exact, rounded = MilProgram(program, compute="fp32"), MilProgram(program, compute="fp16")
    tallies: dict[str, _Tally] = {}
    for inputs in pictures:
        for (step, values), (step_fp16, values_fp16) in zip(exact.walk(inputs), rounded.walk(inputs), strict=True):
            alone = rounded.run_alone(step_fp16, values)
            for output in step.outputs:
                if output.type.dtype.is_float:
                    tally = tallies.setdefault(output.name, _Tally(step))
                    tally.add(values[output.name], values_fp16[output.name], alone[output.name])
    return tuple(tally.result(name) for name, tally in tallies.items())


def troubled(
    scan: Iterable[TensorPrecision], *, lowest_snr_db: float = 40.0, most_subnormal: float = 0.5
) -> tuple[TensorPrecision, ...]:
    """Pick the values whose operation should stay in float32.

    Args:
        scan: All values.
        lowest_snr_db: An operation that loses more than this by itself is picked.
        most_subnormal: So is one with more than this fraction of its elements below float16's normal range.
    """
    return tuple(
        t
        for t in scan
        if t.overflows or not t.own_snr_db >= lowest_snr_db or t.subnormals > most_subnormal * t.elements
    )


@dataclass
class _Tally:
    step: Step
    elements: int = 0
    largest: float = 0.0
    overflows: int = 0
    subnormals: int = 0
    signal: float = 0.0
    noise: float = 0.0
    own_noise: float = 0.0

    def add(self, exact: Tensor, accumulated: Tensor, alone: Tensor) -> None:
        size = exact.abs()
        self.elements += exact.numel()
        self.largest = max(self.largest, float(size.max())) if exact.numel() else self.largest
        self.overflows += int((exact.isfinite() & ~alone.isfinite()).sum())
        self.subnormals += int(((size > 0) & (size < SMALLEST_NORMAL_FP16)).sum())
        self.signal += float(exact.double().square().sum())
        self.noise += _power(accumulated, exact)
        self.own_noise += _power(alone, exact)

    def result(self, name: str) -> TensorPrecision:
        return TensorPrecision(
            name=name,
            made_by=self.step.label,
            elements=self.elements,
            largest=self.largest,
            overflows=self.overflows,
            subnormals=self.subnormals,
            snr_db=_decibels(self.signal, self.noise),
            own_snr_db=_decibels(self.signal, self.own_noise),
        )


def _power(found: Tensor, exact: Tensor) -> float:
    """Power of the difference; infinite where a value is not finite that should be."""
    difference = torch.where(found == exact, 0.0, found.double() - exact.double())
    power = float(difference.square().sum())
    return inf if isnan(power) else power


def _decibels(signal: float, noise: float) -> float:
    if noise == 0:
        return inf
    return 10 * log10(signal / noise) if 0 < signal < inf and noise < inf else -inf
