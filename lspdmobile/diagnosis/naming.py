"""The choice among causes."""

from dataclasses import dataclass
from typing import Final

import numpy as np

from lspdmobile.choices import Cause
from lspdmobile.deviation import Deviation
from lspdmobile.diagnosis.evidence import Candidate, Evidence, Maps
from lspdmobile.diagnosis.geometry import geometry_candidates, shift_sentence
from lspdmobile.diagnosis.inputs import input_candidates
from lspdmobile.diagnosis.outputs import output_candidates
from lspdmobile.diagnosis.rounding import rounded_to_float16
from lspdmobile.diagnosis.weights import weight_candidates
from lspdmobile.parity.shift import Shift

__all__ = ["Diagnosis", "diagnose"]

_MOST_LEFT: Final = 0.25
_LEAST_EXPLAINED: Final = 0.5
_AS_GOOD: Final = 1.05
_EXACT: Final = 1e-6
_SURE: Final = 0.8
_RELATED: Final = 0.3
_MOST_OF: Final = 0.5
_MOST_FLOAT16: Final = 3.0


@dataclass(frozen=True, kw_only=True)
class Diagnosis:
    """The likeliest cause.

    Attributes:
        cause: Its kind.
        sentence: What is wrong, for somebody who has to mend it.
        explained: Share of the squared difference between the artifact's heatmaps and the float student's that it
            explains, 0 to 1; None where it was found in another way.
    """

    cause: Cause
    sentence: str
    explained: float | None = None


def diagnose(
    evidence: Evidence,
    deviation: Deviation | None = None,
    *,
    shift: Shift | None = None,
    max_steps: float = 0.25,
    float16: bool = False,
) -> Diagnosis:
    """Name the likeliest cause of a difference; of an artifact that is judged sound there is none to be named.

    Args:
        evidence: The artifact's heatmaps beside its float student's.
        deviation: Of a quantized artifact from its plan, where that is known.
        shift: Of all joints on all pictures, where the gate fails it.
        max_steps: What the gate allows of the deviation.
        float16: Whether the artifact has weights or values in float16.
    """
    best = _best(evidence)
    if best is not None:
        return best
    if shift is not None:
        return Diagnosis(cause=Cause.SHIFT, sentence=shift_sentence(shift.x, shift.y))
    if deviation is not None:
        return _by_plan(evidence, deviation, max_steps)
    return (_by_float16(evidence) if float16 else None) or _by_likeness(evidence)


def _best(evidence: Evidence) -> Diagnosis | None:
    """Give the candidate that explains most, the simplest of those that are as good; None where none does."""
    found: list[tuple[float, Candidate]] = []
    for make in (input_candidates, geometry_candidates, output_candidates, weight_candidates):
        if found and max(share for share, _ in found) > _SURE and make is weight_candidates:
            break
        found += [
            (evidence.explained(each.maps), each)
            for each in make(evidence)
            if np.isfinite(each.maps).all() and evidence.left(each.maps) <= _MOST_LEFT
        ]
    most = max((share for share, _ in found), default=0.0)
    if most < _LEAST_EXPLAINED:
        return None
    share, chosen = next(each for each in found if 1 - each[0] <= _AS_GOOD * (1 - most) + _EXACT)
    return Diagnosis(cause=chosen.cause, sentence=chosen.sentence, explained=share)


def _by_plan(evidence: Evidence, deviation: Deviation, max_steps: float) -> Diagnosis:
    """Go by the layers that are not what their plan says, each computed from the right values before it."""
    off = [tensor.name for tensor in deviation.tensors if not tensor.worst_channel <= max_steps]
    if not off and not deviation.faults:
        told = "the file computes what its plan says: what is lost is lost to quantization, not to a fault of the file"
        return Diagnosis(cause=Cause.QUANTIZATION, sentence=told)
    if len(off) > _MOST_OF * len(deviation.tensors) or len(deviation.faults) > _MOST_OF * deviation.layers > 0:
        return _by_likeness(evidence)
    if off:
        more = f" and {len(off) - 1} more" if len(off) > 1 else ""
        told = f"layer {off[0]}{more} gives something else than its plan says: a weight, bias or scale of it is another"
        return Diagnosis(cause=Cause.LAYER, sentence=told)
    more = f"; and {len(deviation.faults) - 1} more" if len(deviation.faults) > 1 else ""
    return Diagnosis(cause=Cause.LAYER, sentence=f"numbers in the file are not its plan's: {deviation.faults[0]}{more}")


def _by_float16(evidence: Evidence) -> Diagnosis | None:
    """Tell what float16 loses anyhow; None where the artifact is much further off, or where nothing is lost."""
    rounded = rounded_to_float16(evidence)
    if not np.isfinite(rounded).all():
        told = "float16 cannot hold the network's values: the largest overflow where they are rounded to it"
        return Diagnosis(cause=Cause.FLOAT16, sentence=told)
    times = evidence.beside(rounded)
    if times > _MOST_FLOAT16:
        return None
    told = f"float16 itself loses this: the file is {times:.2g} times as far off as the student rounded to float16"
    return Diagnosis(cause=Cause.FLOAT16, sentence=told)


def _by_likeness(evidence: Evidence) -> Diagnosis:
    """Tell weights of another training of the same network from what has nothing to do with it."""
    alike = _correlations(evidence.expected, evidence.found)
    low, high = float(alike.min()), float(alike.max())
    told = f"no single fault explains it; joint by joint the heatmaps correlate by {low:.2f} to {high:.2f}"
    if np.median(alike) >= _RELATED:
        more = "all weights seem to be another checkpoint's of the same network: an old export, or the wrong file"
        return Diagnosis(cause=Cause.CHECKPOINT, sentence=f"{more} ({told})")
    return Diagnosis(cause=Cause.UNKNOWN, sentence=told)


def _correlations(a: Maps, b: Maps) -> Maps:
    """Correlate the heatmaps of each joint ``[n, K, h, w]`` over all pictures; 0 where one of the two is constant."""
    flat = (maps.astype(np.float64).transpose(1, 0, 2, 3).reshape(maps.shape[1], -1) for maps in (a, b))
    x, y = (each - each.mean(1, keepdims=True) for each in flat)
    scale = np.sqrt(np.square(x).sum(1) * np.square(y).sum(1))
    found: Maps = np.divide((x * y).sum(1), scale, out=np.zeros(len(x)), where=scale > 0).astype(np.float32)
    return found
