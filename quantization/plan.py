"""The quantization plan: precision, calibrated ranges and how they were estimated; every emitter applies it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final, Self

from lspdmobile.choices import Estimator, Precision
from lspdmobile.errors import BadInputError

__all__ = ["Estimation", "QuantizationPlan", "TensorRange", "Tuning"]


class Tuning(StrEnum):
    """What made a range after calibration had estimated it."""

    HEATMAPS = "tuned on heatmaps"


@dataclass(frozen=True, kw_only=True)
class TensorRange:
    """The values of a tensor that its integers cover.

    Attributes:
        low, high: Ends; values outside are clipped.
        estimator: What made this range where that is not the plan's own estimator, else None.
    """

    low: float
    high: float
    estimator: Estimator | Tuning | None = None


@dataclass(frozen=True, kw_only=True)
class Estimation:
    """How ranges are made of the values that tensors take over the calibration pictures (``quantization.estimators``).

    Attributes:
        estimator: Which rule.
        momentum: Moving average: weight of what was seen so far against the next picture, from 0 to below 1.
        percentile: Percentile: share of the values that is not clipped, above 50 and at most 100.
        clip_output: Whether the rule also holds for the network's output, whose range sets the height of the heatmaps'
            peaks; otherwise the output takes its smallest and largest value.
    """

    estimator: Estimator = Estimator.MIN_MAX
    momentum: float = 0.9
    percentile: float = 99.99
    clip_output: bool = False

    def __post_init__(self) -> None:
        """Refuse numbers that make no range.

        Raises:
            BadInputError: The momentum or the percentile is out of its bounds.
        """
        if not 0 <= self.momentum < 1:
            message = f"momentum {self.momentum} is not from 0 to below 1; 0.9 is usual"
            raise BadInputError(message)
        if not 50 < self.percentile <= 100:
            message = f"percentile {self.percentile} is not above 50 and at most 100; 99.99 is usual"
            raise BadInputError(message)

    def to_dict(self) -> dict[str, Any]:
        """Give what ``plan.json`` says of it: the rule and the numbers that it uses."""
        fields: dict[str, Any] = {"estimator": self.estimator.value}
        if used := _NUMBERS.get(self.estimator):
            fields[used] = getattr(self, used)
        if self.clip_output:
            fields["clip_output"] = True
        return fields


_NUMBERS: Final = {Estimator.MOVING_AVERAGE: "momentum", Estimator.PERCENTILE: "percentile"}


@dataclass(frozen=True, kw_only=True)
class QuantizationPlan:
    """One plan for three runtimes.

    Static integer precisions quantize weights per output channel, symmetric int8, and activations per tensor,
    asymmetric int8 (``w8a8``) or symmetric int16 (``w8a16``); input and output stay float32.

    Attributes:
        precision: How weights and activations are stored.
        ranges: Node name in the exported program of the fused network to its calibrated range; the input's name is
            the program's own placeholder name. Empty for float precisions.
        kept_float: Names of the nodes whose operators stay in float (``w8a8`` only); of a ReLU, with the operator it is
            fused into.
        estimation: How the ranges were made.
        calibration_pictures: Of how many pictures.
        calibration_sha256: Hash of the calibration inputs; empty where none were used.
    """

    precision: Precision
    ranges: Mapping[str, TensorRange] = field(default_factory=dict)
    kept_float: frozenset[str] = frozenset()
    estimation: Estimation = field(default_factory=Estimation)
    calibration_pictures: int = 0
    calibration_sha256: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Give what ``plan.json`` holds."""
        fields = {
            "schema_version": 1,
            "precision": self.precision.value,
            "weights": self._weights(),
            "activations": self._activations(),
            "calibration_pictures": self.calibration_pictures,
            "calibration_sha256": self.calibration_sha256,
            "kept_float": sorted(self.kept_float),
            "ranges": {name: [r.low, r.high] for name, r in self.ranges.items()},
        }
        other = {name: r.estimator.value for name, r in self.ranges.items() if r.estimator is not None}
        return {**fields, "range_estimators": other} if other else fields

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> Self:
        """Rebuild from :meth:`to_dict`.

        Raises:
            BadInputError: A field is missing or of a wrong kind.
        """
        try:
            other = {name: _maker(value) for name, value in fields.get("range_estimators", {}).items()}
            return cls(
                precision=Precision(fields["precision"]),
                ranges={
                    name: TensorRange(low=float(low), high=float(high), estimator=other.get(name))
                    for name, (low, high) in fields["ranges"].items()
                },
                kept_float=frozenset(map(str, fields.get("kept_float", ()))),
                estimation=_estimation(fields.get("activations")),
                calibration_pictures=int(fields.get("calibration_pictures", 0)),
                calibration_sha256=str(fields["calibration_sha256"]),
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            message = f"not a quantization plan ({type(error).__name__}: {error}); export again"
            raise BadInputError(message) from error

    def _weights(self) -> dict[str, Any] | None:
        """Describe integer weights; ``w4`` has 8 bits where a layer reads one channel for each output."""
        grid = {"granularity": "per-channel", "symmetric": True}
        if self.precision is Precision.W4:
            return {"bits": 4, **grid, "bits_of_one_channel": 8}
        return {"bits": 8, **grid} if self._integer or self.precision is Precision.W8 else None

    def _activations(self) -> dict[str, Any] | None:
        """Describe the activations: int8 asymmetric, int16 symmetric, or None for float."""
        if not self._integer:
            return None
        wide = self.precision is Precision.W8A16
        grid = {"bits": 16 if wide else 8, "granularity": "per-tensor", "symmetric": wide}
        return {**grid, **self.estimation.to_dict()}

    @property
    def _integer(self) -> bool:
        return self.precision.is_static_integer


def _maker(said: str) -> Estimator | Tuning:
    """Read back what made a single range."""
    return Tuning(said) if said in set(Tuning) else Estimator(said)


def _estimation(activations: Mapping[str, Any] | None) -> Estimation:
    """Read back what a plan says of its activations."""
    fields = activations or {}
    named = fields.get("estimator", Estimator.MIN_MAX)
    known = {key: fields[key] for key in ("momentum", "percentile", "clip_output") if key in fields}
    return Estimation(estimator=Estimator(named), **known)
