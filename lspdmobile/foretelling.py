"""What the runtimes will take of a student, told by rules before the minutes of a conversion."""

from collections.abc import Iterator, Mapping

from converters import foretell
from lspdmobile.delegation import Delegation
from lspdmobile.delegation_gate import PARTITION, delegation_faults
from lspdmobile.preparing import fused_for, goal_of, target_of
from lspdmobile.request import ExportRequest, Pair, pairs_of

__all__ = ["foretold", "foretold_faults"]


def foretold(request: ExportRequest) -> Mapping[Pair, Delegation]:
    """Fuse the student as the export would, and foretell the partition of each artifact that will have one.

    Raises:
        BadInputError: The request cannot be met, or the student cannot be fused.
        GateFailedError: A fusion is not exact.
    """
    pairs, _ = pairs_of(request)
    goals = {pair: goal_of(target_of(request, pair), pair[1]) for pair in pairs}
    networks = fused_for(request.student, goals.values(), seed=request.seed)
    size = request.student.contract.input_size
    told = {
        pair: foretell(pair[0], request.backend, networks[goal].network, size, pair[1]) for pair, goal in goals.items()
    }
    return {pair: found for pair, found in told.items() if found is not None}


def foretold_faults(request: ExportRequest, told: Mapping[Pair, Delegation]) -> Iterator[str]:
    """Yield a line for each artifact that will miss a limit on real partitions."""
    for (form, precision), found in told.items():
        named = {PARTITION, found.target}
        limits = {target: share for target, share in request.min_delegated.items() if target in named}
        for fault in delegation_faults(limits, form, found):
            yield f"{form} {precision}: {fault}"
