"""The files: what is in them, which operators the fast path takes, and what of the plan they do not honour."""

from markupsafe import Markup

from lspdmobile.report.delegations import basis_text, delegations_of, left_rows
from lspdmobile.report.html.markup import NOTHING, bar, bars, gathered, joined, table
from lspdmobile.report.schema import Report
from lspdmobile.report.tables import MISSING, milliseconds, percent, pixels, size

__all__ = ["delegation", "files", "shortfalls"]


def files(report: Report) -> Markup:
    """Lay the files out with their hashes."""
    headings = ("file", "bytes", "layout", "export s", "latency ms", "sha256", "executed by")
    rows = [
        [
            artifact.file,
            size(artifact.bytes),
            artifact.layout.value if artifact.layout else MISSING,
            pixels(artifact.export_seconds),
            milliseconds(artifact.latency_ms),
            artifact.sha256[:16] if artifact.sha256 else MISSING,
            artifact.executed_by or MISSING,
        ]
        for artifact in report.artifacts
    ]
    caption = "What was written, and how long one picture took on this machine"
    return table(caption, headings, rows, words=(6,)) if rows else NOTHING


def delegation(report: Report) -> Markup:
    """Show the share of operators that each target takes, and every operator that one leaves or may leave, with why."""
    rows = [
        (
            artifact.label,
            bars(bar(found.fraction, "teal")),
            f"{found.delegated} of {found.total}",
            percent(found.macs_fraction) if found.total_macs else MISSING,
            found.delegate or MISSING,
            basis_text(found),
            ", ".join(found.not_delegated) or "none",
        )
        for artifact in report.artifacts
        for found in delegations_of(artifact)
    ]
    if not rows:
        return NOTHING
    headings = ("artifact", "share", "operators taken", "MACs taken", "by", "known from", "left behind")
    shares = table("Operators that the fast path takes", headings, rows, words=(1, 4, 5, 6))
    left = gathered(left_rows(report), 2)
    if not left:
        return shares
    reasons = table("Operators left behind", ("artifact", "target", "operator", "", "why"), left, words=range(1, 5))
    return joined([shares, reasons])


def shortfalls(report: Report) -> Markup:
    """Lay out every layer in which a file differs from its plan."""
    rows = [
        (artifact.label, each.layer, each.wanted, each.found, each.reason)
        for artifact in report.artifacts
        for each in artifact.not_honoured
    ]
    headings = ("artifact", "layer", "planned", "in the file", "why")
    caption = "What the files hold otherwise than planned"
    return table(caption, headings, gathered(rows, 1), words=range(1, 5)) if rows else NOTHING
