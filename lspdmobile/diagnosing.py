"""The likeliest cause of a failed artifact, found on some of the evaluation pictures."""

from typing import Final

import numpy as np
from torch import nn

from lspdmobile.choices import Precision
from lspdmobile.deviation import Deviation
from lspdmobile.diagnosis import Cause, Diagnosis, Evidence, diagnose
from lspdmobile.measuring import Comparison, Reference
from lspdmobile.parity import Gate

__all__ = ["diagnosed"]

_PICTURES: Final = 12


def diagnosed(
    found: Comparison,
    reference: Reference,
    network: nn.Module,
    *,
    precision: Precision,
    deviation: Deviation | None,
    gate: Gate,
) -> Diagnosis:
    """Name the likeliest cause of what separates an artifact from its float student.

    Args:
        found: The artifact on the evaluation pictures; the gate has failed it.
        reference: The float student on the same.
        network: The float student, fused as for the artifact, whose layers' names the file goes by.
        precision: The artifact's.
        deviation: From its plan, where that is known.
        gate: What it failed by.
    """
    if found.parity.faults:
        return _unusable(found, reference)
    chosen = np.unique(np.linspace(0, len(reference.views) - 1, _PICTURES).round().astype(int))
    student = reference.student
    evidence = Evidence(
        network=network,
        inputs=np.concatenate([reference.views.inputs(i, i + 1) for i in chosen]),
        expected=reference.heatmaps[chosen],
        found=found.heatmaps[chosen],
        contract=student.contract,
        skeleton=student.skeleton,
        rule=student.decode_rule,
    )
    shift = found.parity.shift
    return diagnose(
        evidence,
        deviation,
        shift=shift if shift is not None and gate.is_shifted(shift) else None,
        max_steps=gate.max_steps(precision),
        float16=precision.may_compute_in_float16,
    )


def _unusable(found: Comparison, reference: Reference) -> Diagnosis:
    """Go by the shape, or by values that are not finite."""
    shape, wanted = found.heatmaps.shape, reference.heatmaps.shape
    if shape == wanted:
        told = f"a weight or a scale in it is not finite, or its values overflow: {found.parity.faults[0]}"
        return Diagnosis(cause=Cause.WEIGHT, sentence=told)
    if sorted(shape) == sorted(wanted):
        told = f"the output's layout is another one, NCHW and NHWC mixed up: {found.parity.faults[0]}"
        return Diagnosis(cause=Cause.LAYOUT, sentence=told)
    return Diagnosis(cause=Cause.UNKNOWN, sentence=found.parity.faults[0])
