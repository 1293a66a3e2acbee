"""From a student to what its artifacts are emitted from: a network fused for each target, and a plan for each network.

A format goes by the cost target of its converter unless the request names one for all. The prices are the ones that
come with the package, whatever was measured on this machine, so that a run is the same everywhere. Targets that choose
the same forms share one network, its calibration and its plans.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from converters import emitter
from lspdmobile.calibrating import Calibrator
from lspdmobile.choices import Precision
from lspdmobile.fusion import Fused, fuse_for_targets
from lspdmobile.fusion.operations import Dtype
from lspdmobile.fusion.targets import default_targets
from lspdmobile.measuring import Progress
from lspdmobile.request import ExportRequest, Pair
from lspdmobile.student import Student
from quantization.plan import QuantizationPlan

__all__ = ["Goal", "Prepared", "fused_for", "goal_of", "prepared", "target_of"]

Goal = tuple[str, Dtype]
"""Name of a cost target, and what is computed in there."""


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """What one artifact is emitted from.

    Attributes:
        target: Name of the cost target its forms were chosen for.
        fused: Network and certificate.
        plan: Of the artifact's precision.
        changed: The fused network with other weights where quantization methods changed them, else None.
        records: What each of these methods did, JSON-able.
    """

    target: str
    fused: Fused
    plan: QuantizationPlan
    changed: nn.Module | None = None
    records: tuple[Mapping[str, Any], ...] = ()

    @property
    def network(self) -> nn.Module:
        """What is emitted."""
        return self.fused.network if self.changed is None else self.changed


def prepared(
    request: ExportRequest, pairs: Iterable[Pair], pictures: Tensor, calibrator: Calibrator, progress: Progress
) -> dict[Pair, Prepared]:
    """Fuse for every target and calibrate every network once.

    Args:
        request: Gives the student, the target for all formats if one was named, and the seed.
        pairs: Format and precision of every artifact.
        pictures: Real inputs ``[M, 3, H, W]`` that the certificates try.
        calibrator: Makes the plans.
        progress: Told of each step.

    Raises:
        BadInputError: The student cannot be fused, or the calibration pictures cannot be used.
        GateFailedError: A fusion is not exact.
    """
    goals = {pair: goal_of(target_of(request, pair), pair[1]) for pair in pairs}
    progress("fuse", 0, 1)
    networks = fused_for(request.student, goals.values(), pictures=pictures, seed=request.seed)
    plans: dict[int, dict[Precision, QuantizationPlan]] = {}
    for pair, goal in goals.items():
        precision, fused = pair[1], networks[goal]
        known = plans.setdefault(id(fused.network), {})
        if precision not in known:
            known[precision] = calibrator.plan(fused.network, precision)
    return {
        pair: Prepared(target=goal[0], fused=networks[goal], plan=plans[id(networks[goal].network)][pair[1]])
        for pair, goal in goals.items()
    }


def target_of(request: ExportRequest, pair: Pair) -> str:
    """Name the cost target of an artifact."""
    return request.target or emitter(pair[0], request.backend).COST_TARGET


def fused_for(
    student: Student, goals: Iterable[Goal], *, pictures: Tensor | None = None, seed: int = 0
) -> Mapping[Goal, Fused]:
    """Fuse a student for targets, by name, and what each will compute in; equal forms share one network.

    Raises:
        BadInputError: The student cannot be fused.
        GateFailedError: A fusion is not exact.
        KeyError: There is no target of that name.
    """
    models, wanted = default_targets(), list(dict.fromkeys(goals))
    fused = fuse_for_targets(
        student.program or student.network,
        [(models[name], dtype) for name, dtype in wanted],
        input_size=student.contract.input_size,
        pictures=pictures,
        seed=seed,
    )
    return dict(zip(wanted, fused, strict=True))


def goal_of(target: str, precision: Precision) -> Goal:
    """Give what forms are chosen by; there are no prices for wide activations and for float16."""
    return target, "int8" if precision is Precision.W8A8 else "fp32"
