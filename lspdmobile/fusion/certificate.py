"""What a certificate holds, and what passes.

Every error is relative, ``max |before - after| / max |before|``, and is taken

- in float64, where the rewrites' algebra must hold to rounding (``TOLERANCE_FP64``), and in float32, the numbers that
  ship (``TOLERANCE_FP32``: some sixty layers that each round to 6e-8 of their largest value). ``before`` is always the
  original in float64: on an input with little signal the original's own float32 rounding can exceed the tolerance;
  the fused network may then err at most twice as much as the original itself does;
- on every kind of input in ``probes.INPUTS``, on the example inputs of a program, and on pictures where some are given;
- with norm statistics as trained, and randomised around them, since a fresh norm hides most faults;
- of the whole network, and of every rewritten site by itself, before any activation can hide a difference.

A float32 error is also given in units in the last place (ULP) of the largest value.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Final

from lspdmobile.fusion.cost import Cost
from lspdmobile.fusion.operations import Dtype
from lspdmobile.fusion.planner import Choice
from lspdmobile.fusion.quantizability import Advice, SiteForecast, WeightForecast

__all__ = ["STATISTICS", "TOLERANCE_FP32", "TOLERANCE_FP64", "Certificate", "Check", "Refusal", "SiteCheck"]

TOLERANCE_FP64: Final = 1e-12
TOLERANCE_FP32: Final = 1e-5
_TIMES_ROUNDING: Final = 2.0
STATISTICS: Final = ("as trained", "randomised")


@dataclass(frozen=True, kw_only=True)
class Check:
    """One comparison of the whole network: what was tried, the error it gave and the original's own.

    Attributes:
        precision: ``fp64`` or ``fp32``; ``export`` compares the exported program with the module it came from.
        statistics: As trained or randomised.
        input: Kind of input.
        error: Relative error.
        rounding: The original's own relative error in this precision.
        ulps: The error in units in the last place of the largest value.
    """

    precision: str
    statistics: str
    input: str
    error: float
    rounding: float
    ulps: float


@dataclass(frozen=True, kw_only=True)
class SiteCheck:
    """One rewritten place and its largest errors over all inputs and statistics.

    Attributes:
        name: Path of the layer that gives the result.
        rewrite: What was done last, of ``rewrites``, all that was done, in order.
        form: How the result is computed now.
        choice: Why it is computed so; None where there was only one way.
        error_fp64, error_fp32: Relative errors.
        rounding_fp32: The original's own relative error in float32.
        ulps_fp32: The float32 error in units in the last place of the largest value.
        fault: Why it could not be compared; empty where it could.
    """

    name: str
    rewrite: str
    rewrites: tuple[str, ...]
    form: str
    choice: Choice | None
    error_fp64: float
    error_fp32: float
    rounding_fp32: float
    ulps_fp32: float
    fault: str = ""


@dataclass(frozen=True, kw_only=True)
class Refusal:
    """A rewrite that was looked at and not done, and why."""

    name: str
    rewrite: str
    reason: str


@dataclass(frozen=True, kw_only=True)
class Certificate:
    """What the fusion did and how exactly it did it.

    Attributes:
        sites: Every rewritten place; empty where nothing was fused.
        checks: Every comparison of the whole network.
        refused: What was not rewritten and why.
        removed: Idle and duplicate operators that were removed, by name.
        norms_left: Paths of the batch norms no rewrite could take.
        skipped: Inputs on which the original itself overflows in a precision.
        input_size: Rows and columns H, W of the first input compared on and counted for; empty for other shapes.
        inputs: Kinds of input tried.
        seed: Of the inputs and of the randomised statistics.
        target: Name of the cost model that chose the forms.
        dtype: What it priced them in.
        operators_before, operators_after: Nodes of the graph that compute something.
        before, after: Parameters, MACs and operators that were not counted.
        int8: How well every merged kernel survives int8 beside its branches.
        weights: The same of every layer's weights after the fusion, by path.
        tolerance_fp64, tolerance_fp32: Largest relative errors that pass.
    """

    sites: tuple[SiteCheck, ...]
    checks: tuple[Check, ...]
    refused: tuple[Refusal, ...]
    norms_left: tuple[str, ...]
    input_size: tuple[int, ...]
    inputs: tuple[str, ...]
    seed: int
    target: str
    dtype: Dtype
    operators_before: int
    operators_after: int
    before: Cost
    after: Cost
    removed: Mapping[str, int] = field(default_factory=dict)
    int8: tuple[SiteForecast, ...] = ()
    weights: Mapping[str, WeightForecast] = field(default_factory=dict)
    skipped: tuple[str, ...] = ()
    tolerance_fp64: float = TOLERANCE_FP64
    tolerance_fp32: float = TOLERANCE_FP32

    @property
    def error_fp64(self) -> float:
        """Largest float64 relative error of the whole network."""
        return max((check.error for check in self.checks if check.precision == "fp64"), default=float("inf"))

    @property
    def error_fp32(self) -> float:
        """Largest float32 relative error of the whole network."""
        return max((check.error for check in self.checks if check.precision == "fp32"), default=float("inf"))

    @property
    def ulps_fp32(self) -> float:
        """Largest float32 error of the whole network in units in the last place."""
        return max((check.ulps for check in self.checks if check.precision == "fp32"), default=float("inf"))

    @property
    def faults(self) -> tuple[str, ...]:
        """Everything over its tolerance, one line each; a number that is not a number is over it."""
        allowed = {"fp64": self.tolerance_fp64, "fp32": self.tolerance_fp32, "export": self.tolerance_fp32}
        network = [
            f"whole network, {c.precision}, statistics {c.statistics}, input {c.input}: relative error {c.error:.1e}"
            for c in self.checks
            if not c.error <= max(allowed[c.precision], _TIMES_ROUNDING * c.rounding)
        ]
        if not any(check.precision == "fp64" for check in self.checks):
            network.append("whole network: no input could be compared; the original overflows on every one")
        return (*(fault for site in self.sites if (fault := self._fault(site))), *network)

    def _fault(self, site: SiteCheck) -> str:
        if site.fault:
            return f"{site.name} ({site.rewrite}): {site.fault}"
        small = site.error_fp32 <= max(self.tolerance_fp32, _TIMES_ROUNDING * site.rounding_fp32)
        if site.error_fp64 <= self.tolerance_fp64 and small:
            return ""
        errors = f"relative error {site.error_fp64:.1e} in fp64, {site.error_fp32:.1e} in fp32"
        return f"{site.name} ({site.rewrite}): {errors}"

    @property
    def passed(self) -> bool:
        """Whether every comparison is within its tolerance."""
        return not self.faults

    @property
    def summary(self) -> str:
        """Say in one line what was fused and how exactly."""
        if not self.sites:
            idle = f"; {sum(self.removed.values())} idle operators removed" if self.removed else ""
            why = "no convolution is followed by a batch norm and no branches can be merged"
            return f"nothing was fused: {why}{idle}"
        counts = {rewrite: sum(s.rewrite == rewrite for s in self.sites) for rewrite in self._rewrites}
        done = ", ".join(f"{rewrite} {count}x" for rewrite, count in counts.items())
        left = f"; {len(self.norms_left)} norms left" if self.norms_left else ""
        return f"{done}{left}; relative error {self.error_fp64:.1e} in fp64, {self.error_fp32:.1e} in fp32"

    @property
    def advice(self) -> tuple[str, ...]:
        """Say what to do before quantizing, a line for each merged kernel that needs something."""
        return tuple(f"{s.name}: {s.advice.value}: {s.reason}" for s in self.int8 if s.advice is not Advice.FUSE)

    @property
    def _rewrites(self) -> list[str]:
        return list(dict.fromkeys(site.rewrite for site in self.sites))

    def to_dict(self) -> dict[str, Any]:
        """Give what ``fusion.json`` holds."""
        return {
            "schema_version": 1,
            "passed": self.passed,
            "summary": self.summary,
            "target": self.target,
            "dtype": self.dtype,
            "relative_error": {"fp64": self.error_fp64, "fp32": self.error_fp32},
            "ulps": {"fp32": self.ulps_fp32},
            "tolerance": {"fp64": self.tolerance_fp64, "fp32": self.tolerance_fp32},
            "input_size": list(self.input_size),
            "inputs": list(self.inputs),
            "statistics": list(STATISTICS),
            "seed": self.seed,
            "operators": {"before": self.operators_before, "after": self.operators_after},
            "params": {"before": self.before.params, "after": self.after.params},
            "macs": {"before": self.before.macs, "after": self.after.macs},
            "uncounted_ops": {"before": dict(self.before.uncounted_ops), "after": dict(self.after.uncounted_ops)},
            "removed": dict(self.removed),
            "norms_left": list(self.norms_left),
            "refused": [asdict(refusal) for refusal in self.refused],
            "skipped": list(self.skipped),
            "sites": [{**asdict(site), "rewrites": list(site.rewrites)} for site in self.sites],
            "checks": [asdict(check) for check in self.checks],
            "int8": {
                "sites": [forecast.to_dict() for forecast in self.int8],
                "layers": {path: forecast.to_dict() for path, forecast in self.weights.items()},
            },
        }
