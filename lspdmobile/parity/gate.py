"""The gate: the rule that turns evidence into a verdict.

An artifact passes where all of this holds:

1. its heatmaps have no fault (right shape, finite);
2. the task metric drops by no more than the budget (point estimate), where there are labels;
3. 95 % of the joints drift by at most half a heatmap cell;
4. float artifacts are float: the relative heatmap error stays below a bound of their precision;
5. quantized artifacts say what their plan says, where the format lets this be seen (``lspdmobile.deviation``): every
   channel of every int8 tensor is within a fraction of a step of the plan's own, and so are the heatmaps. Rules 2 and 3
   judge the plan; they leave room for a wrong scale or a lost bias that happens to cost little on these pictures.
"""

import math
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from lspdmobile.choices import Format, Precision, Verdict
from lspdmobile.deviation import Deviation
from lspdmobile.errors import BadInputError
from lspdmobile.parity.compare import Parity
from lspdmobile.parity.drop import MetricDrop

__all__ = ["DropType", "Gate", "judge"]

_FINER_INT16: Final = 256


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
        max_drift_p95_cells: Largest 95th percentile of the drift, in heatmap cells.
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
    max_drift_p95_cells: float = 0.5
    max_relative_error_fp32: float = 1e-5
    max_relative_error_fp16: float = 1e-2
    max_relative_error_fp16_coreml: float = 5e-3
    max_steps_from_plan: float = 0.25
    max_relative_error_from_plan: float = 5e-3

    def __post_init__(self) -> None:
        """Refuse a budget that cannot be one.

        Raises:
            BadInputError: The budget is negative or not a finite number.
        """
        if not (math.isfinite(self.max_drop) and self.max_drop >= 0):
            message = f"--max-drop {self.max_drop:g}: give a number of points, 0 or more"
            raise BadInputError(message)

    def max_steps(self, precision: Precision) -> float:
        """Give the bound on the distance from the plan, in steps of the precision's grids."""
        return self.max_steps_from_plan * (_FINER_INT16 if precision is Precision.W8A16 else 1)

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
    """One rule applied: whether it holds, and a sentence with the numbers."""

    holds: bool
    sentence: str


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
    findings = [_drop_finding(metric_drop, gate), _drift_finding(parity, gate)]
    limit = gate.max_relative_error(precision, format)
    if limit is not None:
        findings.append(_error_finding(parity, precision, limit))
    if deviation is not None:
        findings.append(_plan_finding(deviation, precision, gate))
    failed = tuple(f.sentence for f in findings if not f.holds)
    if failed:
        return Verdict.FAIL, failed
    return Verdict.PASS, tuple(f.sentence for f in findings)


def _drop_finding(drop: MetricDrop | None, gate: Gate) -> _Finding:
    if drop is None:
        return _Finding(holds=True, sentence="no labels: judged by heatmap error and drift alone, not by a task metric")
    value, (low, high), unit = drop.drop, drop.ci95, "points"
    if gate.drop_type is DropType.RELATIVE:
        scale = 1 / drop.float_value if drop.float_value > 0 else 0.0
        value, low, high, unit = value * scale, low * scale, high * scale, "percent"
    holds = value <= gate.max_drop
    unsure = (
        "; the interval crosses the budget, so more pictures would be needed to be sure"
        if (low <= gate.max_drop < high)
        else ""
    )
    sentence = (
        f"{drop.name} drops by {value:.2f} {unit} (95% interval {low:.2f} to {high:.2f}), from "
        f"{100 * drop.float_value:.2f} to {100 * drop.artifact_value:.2f}: the budget is {gate.max_drop:.2f}{unsure}"
    )
    return _Finding(holds=holds, sentence=sentence)


def _drift_finding(parity: Parity, gate: Gate) -> _Finding:
    cells = parity.drift_px.p95 / parity.cell_px
    sentence = (
        f"95% of the joints drift by at most {parity.drift_px.p95:.2f} px ({cells:.2f} heatmap cells): "
        f"at most {gate.max_drift_p95_cells:.2f} cells are allowed"
    )
    return _Finding(holds=cells <= gate.max_drift_p95_cells, sentence=sentence)


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
    steps, error = gate.max_steps(precision), gate.max_relative_error_from_plan
    holds = deviation.steps <= steps and deviation.heatmaps <= error
    where = f"int8 values by up to {deviation.steps:.2f} steps ({deviation.tensor}), " if deviation.tensor else ""
    sentence = (
        f"beside the plan's own arithmetic, {where}heatmaps by {deviation.heatmaps:.1e} of the largest value: "
        f"at most {f'{steps:.2f} steps and ' if where else ''}{error:.0e} is allowed"
    )
    return _Finding(holds=holds, sentence=sentence)
