"""Where float16 loses: every result of a program in float16 beside the same result in float32.

Two losses are told apart. What has accumulated: the float16 run against the float32 run. And an operation's own: the
operation alone in float16, on the float32 run's values rounded once, against its float32 result; that one names the
culprit, be it that its result does not fit into float16 or that it takes the difference of numbers nearly alike.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from math import inf, isnan, log10
from typing import Any, Final

import torch
from numpy.typing import NDArray
from torch import Tensor

from converters.coreml.mil.package import Operation, Program
from converters.coreml.mil.program import MilProgram
from converters.coreml.mil.steps import SMALLEST_NORMAL_FP16, Compute, Step, is_fp16

__all__ = ["LARGEST_FP16", "TensorPrecision", "kept_in_fp32", "scan_precision", "troubled"]

LARGEST_FP16: Final = 65504.0
_MOST_SUBNORMAL: Final = 0.5
_SUBNORMAL_SNR_DB: Final = 60.0


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
        stays_in_fp32: Names of the operations (their first outputs) that would have to stay in float32 for this value:
            its maker, and those that use a value out of float16's range, or else those whose rounding it magnifies.
            Conversions between float types are passed over.
    """

    name: str
    made_by: str
    elements: int
    largest: float
    overflows: int
    subnormals: int
    snr_db: float
    own_snr_db: float
    stays_in_fp32: tuple[str, ...] = ()

    @property
    def is_too_small(self) -> bool:
        """Whether most of it is below float16's normal range, and that is felt: rounding alone leaves some 70 dB."""
        return self.subnormals > _MOST_SUBNORMAL * self.elements and self.own_snr_db < _SUBNORMAL_SNR_DB

    @property
    def loss(self) -> str:
        """Say what is lost, in words."""
        if self.overflows:
            return f"{self.overflows} of {self.elements} numbers overflow float16 (largest {self.largest:.3g})"
        if self.is_too_small:
            return f"{self.subnormals} of {self.elements} numbers are below float16's normal range"
        if self.own_snr_db == -inf:
            return "not finite in float32 either"
        return f"rounding to float16 leaves {self.own_snr_db:.1f} dB"


def scan_precision(
    program: Program, pictures: Iterable[Mapping[str, NDArray[Any]]], *, compute: Compute = "fp16"
) -> tuple[TensorPrecision, ...]:
    """Run a program in float32 and in float16, side by side.

    Args:
        program: As read.
        pictures: Inputs by name, one mapping per run.
        compute: ``fp16`` to round every float whatever its type in the file, ``stated`` to round those it types so.

    Returns:
        One entry for every float value that is computed, in execution order; none without pictures.

    Raises:
        BadInputError: The inputs do not fit.
        ConversionError: The program holds what is not implemented.
    """
    exact, rounded = MilProgram(program, compute="fp32"), MilProgram(program, compute=compute)
    neighbours = _Neighbours(program)
    tallies: dict[str, _Tally] = {}
    for inputs in pictures:
        for (step, values), (step_fp16, values_fp16) in zip(exact.walk(inputs), rounded.walk(inputs), strict=True):
            alone = rounded.run_alone(step_fp16, values)
            for output in step.outputs:
                if output.type.dtype.is_float:
                    tally = tallies.setdefault(output.name, _Tally(step, is_fp16(output.type.dtype, compute)))
                    tally.add(values[output.name], values_fp16[output.name], alone[output.name])
    return tuple(tally.result(name, neighbours) for name, tally in tallies.items())


def troubled(scan: Iterable[TensorPrecision], *, lowest_snr_db: float = 40.0) -> tuple[TensorPrecision, ...]:
    """Pick the values that float16 does not hold well.

    Args:
        scan: All values.
        lowest_snr_db: An operation that loses more than this by itself is picked, as is one that overflows, or whose
            result is too small.
    """
    return tuple(t for t in scan if t.overflows or t.is_too_small or not t.own_snr_db >= lowest_snr_db)


def kept_in_fp32(values: Iterable[TensorPrecision]) -> frozenset[str]:
    """Name the operations, by their first outputs, that would have to stay in float32 for all of these values."""
    return frozenset(name for value in values for name in value.stays_in_fp32)


class _Neighbours:
    """Who makes and who uses each value, conversions between float types passed over."""

    def __init__(self, program: Program) -> None:
        computing = [o for o in program.operations if o.kind != "const" and not o.kind.startswith("constexpr_")]
        self._maker = {value.name: operation for operation in computing for value in operation.outputs}
        self._users: dict[str, list[Operation]] = {}
        for operation in computing:
            for bound in (bound for bounds in operation.inputs.values() for bound in bounds):
                if isinstance(bound, str):
                    self._users.setdefault(bound, []).append(operation)

    def makers(self, name: str) -> list[str]:
        """Name the operation that makes a value."""
        operation = self._maker.get(name)
        if operation is None:
            return []
        return self.sources(operation) if operation.kind == "cast" else [operation.outputs[0].name]

    def sources(self, operation: Operation) -> list[str]:
        """Name the operations that make an operation's inputs."""
        bounds = [bound for bounds in operation.inputs.values() for bound in bounds if isinstance(bound, str)]
        return [maker for bound in bounds for maker in self.makers(bound)]

    def users(self, name: str) -> list[str]:
        """Name the operations that use a value."""
        found = []
        for operation in self._users.get(name, ()):
            made = operation.outputs[0].name
            found.extend(self.users(made) if operation.kind == "cast" else [made])
        return found

    def around(self, name: str, *, out_of_range: bool) -> tuple[str, ...]:
        """Name who would have to stay in float32 for a value."""
        others = self.users(name) if out_of_range else self.sources(self._maker[name])
        return tuple(dict.fromkeys([*self.makers(name), *others]))


@dataclass
class _Tally:
    step: Step
    is_rounded: bool
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
        if self.is_rounded:
            self.subnormals += int(((size > 0) & (size < SMALLEST_NORMAL_FP16)).sum())
        self.signal += float(exact.double().square().sum())
        self.noise += _power(accumulated, exact)
        self.own_noise += _power(alone, exact)

    def result(self, name: str, neighbours: _Neighbours) -> TensorPrecision:
        found = TensorPrecision(
            name=name,
            made_by=self.step.label,
            elements=self.elements,
            largest=self.largest,
            overflows=self.overflows,
            subnormals=self.subnormals,
            snr_db=_decibels(self.signal, self.noise),
            own_snr_db=_decibels(self.signal, self.own_noise),
        )
        around = neighbours.around(name, out_of_range=found.overflows > 0 or found.is_too_small)
        return replace(found, stays_in_fp32=around)


def _power(found: Tensor, exact: Tensor) -> float:
    """Power of the difference; infinite where a value is not finite that should be."""
    difference = torch.where(found == exact, 0.0, found.double() - exact.double())
    power = float(difference.square().sum())
    return inf if isnan(power) else power


def _decibels(signal: float, noise: float) -> float:
    if noise == 0:
        return inf
    return 10 * log10(signal / noise) if 0 < signal < inf and noise < inf else -inf
