"""What the fast paths take of each file, as rows and lines that the page, ``report.md`` and the terminal share."""

from collections.abc import Iterator
from itertools import groupby
from typing import Final

from lspdmobile.delegation import Basis
from lspdmobile.report.inspected import DelegationEntry, LeftEntry
from lspdmobile.report.schema import ArtifactEntry, Report
from lspdmobile.report.tables import percent

__all__ = ["basis_text", "delegation_line", "delegation_lines", "delegations_of", "left_rows"]

_NAMED: Final = 4


def delegations_of(artifact: ArtifactEntry) -> tuple[DelegationEntry, ...]:
    """Give what a runtime did with a file, and what is foretold of it."""
    return (*((artifact.delegation,) if artifact.delegation else ()), *artifact.forecasts)


def basis_text(found: DelegationEntry) -> str:
    """Say where a delegation is known from."""
    return "its own partition" if found.basis is Basis.PARTITION else "rules"


def delegation_line(found: DelegationEntry) -> str:
    """Say in one line what a target takes, what it leaves and why, and what is doubtful."""
    counted = f"{found.delegated} of {found.total} operators ({percent(found.fraction)})"
    macs = f", {percent(found.macs_fraction)} of the MACs" if found.total_macs else ""
    known = "" if found.basis is Basis.PARTITION else ", by rules"
    left = _named("left", found.left) if found.left else _kinds(found)
    return f"{found.delegate}: {counted}{macs}{known}{left}{_named('doubtful', found.doubtful)}"


def delegation_lines(report: Report, *, heavy_only: bool = False) -> list[str]:
    """Give a line for each file and target where something is left or doubtful.

    Args:
        report: What the run found.
        heavy_only: Leave out forecasts by which no multiply-accumulate leaves, such as of casts at the borders.
    """
    return [
        f"{artifact.label} on {delegation_line(found)}"
        for artifact in report.artifacts
        for found in delegations_of(artifact)
        if (found.fraction < 1 or found.doubtful)
        and not (heavy_only and found.basis is Basis.RULES and found.macs_fraction == 1)
    ]


def left_rows(report: Report) -> Iterator[tuple[str, str, str, str, str]]:
    """Yield artifact, target, operator, whether it is left or doubtful, and why, for every such operator."""
    for artifact in report.artifacts:
        for found in delegations_of(artifact):
            for what, entries in (("left", found.left), ("doubtful", found.doubtful)):
                for each in entries:
                    yield artifact.label, found.target or found.delegate, each.operator, what, each.why


def _kinds(found: DelegationEntry) -> str:
    return f"; left: {', '.join(found.not_delegated)}" if found.not_delegated else ""


def _named(what: str, entries: tuple[LeftEntry, ...]) -> str:
    """Name operator kinds with their number by the reason they have in common."""
    if not entries:
        return ""
    told = []
    by_reason = sorted(entries, key=lambda each: each.why)
    for why, same in groupby(by_reason, key=lambda each: each.why):
        kinds = [each.kind for each in same]
        names = [f"{kind} x{kinds.count(kind)}" for kind in dict.fromkeys(kinds)]
        more = f" and {len(names) - _NAMED} more kinds" if len(names) > _NAMED else ""
        told.append(f"{', '.join(names[:_NAMED])}{more} ({why})")
    return f"; {what}: {'; '.join(told)}"
