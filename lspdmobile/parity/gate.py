"""The gate: the rule that turns evidence into a verdict.

An artifact passes where all of this holds:

1. its heatmaps have no fault (right shape, finite);
2. the drop of the task metric is within the budget, where there are labels: not only on these pictures, but by the high
   end of the drop's interval (:mod:`lspdmobile.parity.interval`);
3. 95 % of the joints drift by at most half a heatmap cell, and what all of them moved by together is no more than a
   quarter of an input pixel (:mod:`lspdmobile.parity.shift`), by the ends of its interval: the smallest mistake there
   is, pixel centres taken for corners, moves them by half a pixel;
4. float artifacts are float: the relative heatmap error stays below a bound of their precision;
5. quantized artifacts say what their plan says, where the format lets this be seen (``lspdmobile.deviation``): every
   channel of every int8 tensor is within a fraction of a step of the plan's own, and so are the heatmaps. Rules 2 and 3
   judge the plan; they leave room for a wrong scale or a lost bias that happens to cost little on these pictures.

It fails where the drop on these pictures is beyond the budget, or one of the other rules does not hold. Where only an
interval, of the drop or of the shift, reaches beyond its limit there are not enough pictures: a verdict of its own,
which is no pass.

A drop that is within the budget may pass without regard to its interval on one ground only: the artifact is float by
rule 4, so what it computes is known on any picture, and its keypoints show it. Either no joint moved by more than 5 %
of what decides about it; or so few did that their share, with the interval of a Poisson count around it, is within the
budget even if all of them had been lost. Joints move in a float artifact only where the float student itself has two
peaks that are equal within the rounding, so their number is a number of coincidences, one joint at a time.
"""

import math
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from lspdmobile.choices import Format, Precision, Verdict
from lspdmobile.deviation import Deviation
from lspdmobile.errors import BadInputError
from lspdmobile.parity.compare import Parity
from lspdmobile.parity.drop import DEFAULT_CONFIDENCE, MetricDrop
from lspdmobile.parity.interval import ALL_POINTS
from lspdmobile.parity.shift import Shift

__all__ = ["DropType", "Gate", "judge"]

_FINER_INT16: Final = 256
_CONFIDENCES: Final = (0.5, 0.999)


class DropType(StrEnum):
    """What the drop budget counts in."""

    ABSOLUTE = "absolute"
    RELATIVE = "relative"


@dataclass(frozen=True, kw_only=True)
class Gate:
    """The limits.

    Attributes:
        max_drop: Budget: points (hundredths of the metric) where absolute, percent of the float metric where relative.
        drop_type: How the budget counts.
        confidence: Of the two-sided interval of the drop, whose high end has to be inside the budget. An artifact whose
            drop over all pictures there are is beyond the budget passes with a probability of at most 1 - confidence.
        max_drift_p95_cells: Largest 95th percentile of the drift, in heatmap cells.
        max_shift_px: Largest mean displacement of all joints along an axis, in input pixels.
        max_relative_error_fp32: Largest relative heatmap error of a float32 artifact.
        max_relative_error_fp16: The same for float16 artifacts.
        max_relative_error_fp16_coreml: The same for float16 Core ML, which computes in float16 throughout, also inside
            a ``.pte``; ExecuTorch has float16 from no other backend.
        max_steps_from_plan: Largest root mean square distance of a channel of an int8 tensor from the plan's, in steps
            of its grid. Rounding to the grid alone makes 1 / sqrt(12) = 0.29. Of an int16 tensor 256 times as many,
            which is as much of its range: TFLite's int16 kernels multiply by 16-bit numbers.
        max_relative_error_from_plan: Largest relative heatmap error of a quantized artifact beside its plan.
    """

    max_drop: float = 1.0
    drop_type: DropType = DropType.ABSOLUTE
    confidence: float = DEFAULT_CONFIDENCE
    max_drift_p95_cells: float = 0.5
    max_shift_px: float = 0.25
    max_relative_error_fp32: float = 1e-5
    max_relative_error_fp16: float = 1e-2
    max_relative_error_fp16_coreml: float = 5e-3
    max_steps_from_plan: float = 0.25
    max_relative_error_from_plan: float = 5e-3

    def __post_init__(self) -> None:
        """Refuse a budget or a confidence that cannot be one.

        Raises:
            BadInputError: The budget is negative or not a finite number, or the confidence below 0.5 or above 0.999.
        """
        if not (math.isfinite(self.max_drop) and self.max_drop >= 0):
            message = f"--max-drop {self.max_drop:g}: give a number of points, 0 or more"
            raise BadInputError(message)
        if not _CONFIDENCES[0] <= self.confidence <= _CONFIDENCES[1]:
            message = f"--confidence {self.confidence:g}: give a probability from 0.5 to 0.999, such as 0.95"
            raise BadInputError(message)

    def max_steps(self, precision: Precision) -> float:
        """Give the bound on the distance from the plan, in steps of the precision's grids."""
        return self.max_steps_from_plan * (_FINER_INT16 if precision is Precision.W8A16 else 1)

    def is_shifted(self, shift: Shift) -> bool:
        """Tell whether all joints moved along an axis by more than is allowed, and by more than chance moves them."""
        pairs = zip((shift.x, shift.y), shift.half_widths(self.confidence), strict=True)
        return any(abs(mean) > max(self.max_shift_px, width) for mean, width in pairs)

    def max_relative_error(self, precision: Precision, artifact_format: Format | None) -> float | None:
        """Give the bound on the relative heatmap error; None for precisions that quantize."""
        if precision is Precision.FP32:
            return self.max_relative_error_fp32
        if precision is Precision.FP16:
            throughout = artifact_format in (Format.COREML, Format.EXECUTORCH)
            return self.max_relative_error_fp16_coreml if throughout else self.max_relative_error_fp16
        return None


@dataclass(frozen=True, kw_only=True)
class _Finding:
    """One rule applied: whether it holds, and a sentence with the numbers.

    ``undecided`` says that it holds on these pictures, and that this is not enough.
    """

    holds: bool
    sentence: str
    undecided: bool = False


_DEFAULT_GATE: Final = Gate()


def judge(
    parity: Parity,
    metric_drop: MetricDrop | None,
    precision: Precision,
    format: Format | None,
    *,
    deviation: Deviation | None = None,
    gate: Gate = _DEFAULT_GATE,
) -> tuple[Verdict, tuple[str, ...]]:
    """Judge one artifact.

    Args:
        parity: What :func:`lspdmobile.parity.compare.compare` found.
        metric_drop: None where there are no labels; then drift and heatmap error decide, and the reasons say so.
        precision: Sets the bound on the relative heatmap error.
        format: The artifact's format; None for a PyTorch network.
        deviation: From its plan; None for float artifacts and where it cannot be known.
        gate: The limits.

    Returns:
        The verdict, and one sentence per finding: on a failure those that failed, otherwise those that held.
    """
    if parity.faults:
        return Verdict.FAIL, parity.faults
    findings = [_drift_finding(parity, gate)]
    limit = gate.max_relative_error(precision, format)
    if limit is not None:
        findings.append(_error_finding(parity, precision, limit))
    exact = limit is not None and parity.heatmap_relative_error <= limit
    findings.insert(0, _drop_finding(metric_drop, gate, exact=exact))
    if parity.shift is not None:
        findings.append(_shift_finding(parity.shift, gate, exact=exact))
    if deviation is not None:
        findings.append(_plan_finding(deviation, precision, gate))
    failed = tuple(f.sentence for f in findings if not f.holds)
    if failed:
        return Verdict.FAIL, failed
    undecided = tuple(f.sentence for f in findings if f.undecided)
    if undecided:
        return Verdict.UNDECIDED, undecided
    return Verdict.PASS, tuple(f.sentence for f in findings)


def _drop_finding(drop: MetricDrop | None, gate: Gate, *, exact: bool) -> _Finding:
    if drop is None:
        return _Finding(holds=True, sentence="no labels: judged by heatmap error and drift alone, not by a task metric")
    relative = gate.drop_type is DropType.RELATIVE
    scale, unit = (_percent(drop), "percent") if relative else (1.0, "points")
    value, (low, high) = scale * drop.drop, (scale * end for end in drop.interval(gate.confidence))
    holds, inside = value <= gate.max_drop, high <= gate.max_drop
    proof = _float_proof(drop, gate, scale) if exact and holds and not inside else None
    told = (
        f"{drop.name} drops by {value:.2f} {unit} ({100 * gate.confidence:g}% interval {low:.2f} to {high:.2f}), from "
        f"{100 * drop.float_value:.2f} to {100 * drop.artifact_value:.2f}: the budget is {gate.max_drop:.2f}"
    )
    if proof is not None:
        more = f"; {proof}"
    elif not holds:
        more = ", which the interval excludes" if low > gate.max_drop else ", which is within the interval"
    else:
        more = "" if inside else f"; {_wanted(drop, gate, scale)}"
    return _Finding(holds=holds, undecided=holds and not inside and proof is None, sentence=told + more)


def _percent(drop: MetricDrop) -> float:
    """Turn points of the metric into percent of its float value; a metric of 0 cannot drop."""
    return 1 / drop.float_value if drop.float_value > 0 else 0.0


def _float_proof(drop: MetricDrop, gate: Gate, scale: float) -> str | None:
    """Say why a float artifact needs no more pictures; None where it does."""
    from scipy.special import pdtri

    if drop.moved == 0:
        return f"no joint of {drop.joints} moved, and the heatmaps are equal within float arithmetic"
    most = float(pdtri(drop.moved, (1 - gate.confidence) / 2))
    share = scale * ALL_POINTS * most / drop.joints
    if share > gate.max_drop:
        return None
    return (
        f"the heatmaps are equal within float arithmetic, and the joints that moved, {drop.moved} of {drop.joints}, "
        "are too few to cost it"
    )


def _wanted(drop: MetricDrop, gate: Gate, scale: float) -> str:
    """Say how many pictures would decide."""
    wanted = drop.pictures_needed(gate.max_drop / scale, gate.confidence)
    if wanted is None:
        return f"{drop.pictures} pictures cannot show it, and more of them would not: the drop uses the budget up"
    return f"{drop.pictures} pictures cannot show it, about {wanted} would"


def _drift_finding(parity: Parity, gate: Gate) -> _Finding:
    cells = parity.drift_px.p95 / parity.cell_px
    sentence = (
        f"95% of the joints drift by at most {parity.drift_px.p95:.2f} px ({cells:.2f} heatmap cells): "
        f"at most {gate.max_drift_p95_cells:.2f} cells are allowed"
    )
    return _Finding(holds=cells <= gate.max_drift_p95_cells, sentence=sentence)


def _shift_finding(shift: Shift, gate: Gate, *, exact: bool) -> _Finding:
    """A shift beyond the limit fails where chance does not make it; one that may be beyond it is not decided.

    Heatmaps that are exact by rule 4 need no more pictures.
    """
    widths = shift.half_widths(gate.confidence)
    axes = [(abs(mean), width) for mean, width in zip((shift.x, shift.y), widths, strict=True)]
    sentence = (
        f"all joints together moved by {shift.x:+.2f} px to the right and {shift.y:+.2f} px down "
        f"({100 * gate.confidence:g}% interval within {widths[0]:.2f} and {widths[1]:.2f} px of it): "
        f"at most {gate.max_shift_px:.2f} px is allowed"
    )
    beyond = gate.is_shifted(shift)
    unsure = not (beyond or exact) and any(mean + width > gate.max_shift_px for mean, width in axes)
    more = f"; {shift.pictures} pictures cannot show it" if unsure else ""
    return _Finding(holds=not beyond, undecided=unsure, sentence=sentence + more)


def _error_finding(parity: Parity, precision: Precision, limit: float) -> _Finding:
    error = parity.heatmap_relative_error
    sentence = (
        f"heatmaps differ by {error:.1e} of the largest value: at most {limit:.0e} is allowed for {precision.value}"
    )
    return _Finding(holds=error <= limit, sentence=sentence)


def _plan_finding(deviation: Deviation, precision: Precision, gate: Gate) -> _Finding:
    if deviation.faults:
        more = f" ({len(deviation.faults)} faults in all)" if len(deviation.faults) > 1 else ""
        return _Finding(holds=False, sentence=f"it is not what the plan says: {deviation.faults[0]}{more}")
    if not deviation.pictures:
        return _Finding(holds=True, sentence="every weight, scale and grid in it is the plan's")
    steps, error = gate.max_steps(precision), gate.max_relative_error_from_plan
    holds = deviation.steps <= steps and deviation.heatmaps <= error
    where = f"int8 values by up to {deviation.steps:.2f} steps ({deviation.tensor}), " if deviation.tensor else ""
    sentence = (
        f"beside the plan's own arithmetic, {where}heatmaps by {deviation.heatmaps:.1e} of the largest value: "
        f"at most {f'{steps:.2f} steps and ' if where else ''}{error:.0e} is allowed"
    )
    return _Finding(holds=holds, sentence=sentence)
