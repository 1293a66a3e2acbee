"""The gate on delegation: how much of a file its runtime's fast path has to take.

A share counts twice, of the operators and of the multiply-accumulates, and both have to reach it: a light operator that
leaves costs two changes of runtime and keeps the parts around it from being one, a heavy one costs its own time.
"""

from collections.abc import Mapping, Sequence
from typing import Final

from lspdmobile.choices import Format, Verdict
from lspdmobile.delegation import Basis, Delegation
from lspdmobile.errors import BadInputError

__all__ = ["PARTITION", "TARGETS", "delegation_faults", "judged_with", "parse_min_delegated", "require_targets"]

PARTITION: Final = "partition"
"""Stands for whatever a runtime really did with a file."""

_APPLE: Final = ("coreml-ane", "coreml-gpu")
TARGETS: Final[Mapping[Format, tuple[str, ...]]] = {
    Format.COREML: _APPLE,
    Format.TFLITE: ("litert-xnnpack", "litert-gpu"),
    Format.EXECUTORCH: ("executorch-xnnpack", "executorch-coreml", *_APPLE),
}
_PARTITIONED: Final = (Format.TFLITE, Format.EXECUTORCH)
_TOLD: Final = 3


def parse_min_delegated(text: str | None) -> dict[str, float]:
    """Read ``0.98`` (every real partition), ``coreml-ane=0.9`` (a target by name), or a comma list of both.

    Raises:
        BadInputError: A share is not a number from 0 to 1, or there is no such target.
    """
    limits: dict[str, float] = {}
    for part in filter(None, (text or "").split(",")):
        target, equals, share = (piece.strip() for piece in part.rpartition("="))
        known = sorted({name for names in TARGETS.values() for name in names})
        if equals and target not in known:
            message = f"--min-delegated {part}: no target {target!r}; one of {', '.join(known)}"
            raise BadInputError(message)
        limits[target or PARTITION] = _share(share, part)
    return limits


def _share(text: str, part: str) -> float:
    try:
        share = float(text)
    except ValueError:
        share = -1.0
    if not 0 <= share <= 1:
        message = f"--min-delegated {part}: give a share from 0 to 1, such as 0.98"
        raise BadInputError(message)
    return share


def require_targets(limits: Mapping[str, float], formats: Sequence[Format]) -> None:
    """Refuse a limit that none of the formats has anything to say about.

    Raises:
        BadInputError: The message names the formats that do.
    """
    for target in limits:
        having = list(_PARTITIONED) if target == PARTITION else [f for f, names in TARGETS.items() if target in names]
        if not set(having) & set(formats):
            told = "a real partition" if target == PARTITION else target
            message = f"--min-delegated: {told} is of {' and '.join(having)} files only; add one to --format"
            raise BadInputError(message)


def delegation_faults(
    limits: Mapping[str, float], form: Format, partition: Delegation | None, forecasts: Sequence[Delegation] = ()
) -> tuple[str, ...]:
    """Give a sentence for each limit that a file misses, with the operators that were left and why.

    Args:
        limits: From :func:`parse_min_delegated`.
        form: Of the file.
        partition: What its runtime did; None where that cannot be told.
        forecasts: What rules foretell for other targets.
    """
    faults: list[str] = []
    known = {found.target: found for found in (*forecasts, *filter(None, (partition,)))}
    for target, wanted in limits.items():
        found = partition if target == PARTITION else known.get(target)
        if found is not None and min(found.fraction, found.macs_fraction) < wanted:
            faults.append(_sentence(found, wanted))
        elif found is None and target == PARTITION and form in _PARTITIONED:
            faults.append("the runtime cannot load the file, so what it would take cannot be told")
    return tuple(faults)


def judged_with(verdict: Verdict, reasons: tuple[str, ...], faults: tuple[str, ...]) -> tuple[Verdict, tuple[str, ...]]:
    """Add the faults of delegation to a verdict: with any the artifact fails."""
    if not faults:
        return verdict, reasons
    return Verdict.FAIL, (*(reasons if verdict is not Verdict.PASS else ()), *faults)


def _sentence(found: Delegation, wanted: float) -> str:
    does = "takes" if found.basis is Basis.PARTITION else "is foretold to take"
    left = [f"{each.operator} ({each.why})" for each in found.left[:_TOLD]]
    more = f" and {len(found.left) - _TOLD} more" if len(found.left) > _TOLD else ""
    return (
        f"{found.delegate} {does} {found.delegated} of {found.total} operators ({found.fraction:.1%}) and "
        f"{found.macs_fraction:.1%} of the multiply-accumulates: at least {wanted:.1%} of both are wanted; "
        f"left: {'; '.join(left)}{more}"
    )
