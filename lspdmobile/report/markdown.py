"""``report.md``: the verdict of a run for a pull request, in plain Markdown of fewer than 60 lines."""

import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final

from lspdmobile.report.causes import cause_lines
from lspdmobile.report.conditions import condition_lines
from lspdmobile.report.delegations import delegation_lines
from lspdmobile.report.schema import ArtifactEntry, ParityEntry, Report
from lspdmobile.report.tables import MISSING, decibels, fraction, megabytes, metric_name, pixels, points
from lspdmobile.report.verdicts import against_lines, caveat_lines, counts_line, next_lines

__all__ = ["bullets", "plain", "render_markdown", "table", "write_markdown"]

_MOST_ROWS: Final = 24
_MOST_LINES: Final = 8
_FEW_LINES: Final = 3
_LONGEST: Final = 400
_SPECIAL: Final = re.compile(r"([\\`*\[\]|])")
_MENTION: Final = re.compile(r"(?<!\w)@(?=\w)|#(?=\d)")
_HEADINGS: Final = ("artifact", "MB", "heatmap SNR dB", "drift px mean / p95 / max")


def plain(text: object) -> str:
    """Write text so that Markdown shows it as it is: no markup, no HTML, no mention of a user or an issue, one line."""
    line = " ".join(str(text).split())
    line = f"{line[: _LONGEST - 1]}…" if len(line) > _LONGEST else line
    escaped = _SPECIAL.sub(r"\\\1", line.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;"))
    return _MENTION.sub(lambda found: f"&#{ord(found[0])};", escaped)


def table(headings: Sequence[str], rows: Iterable[Sequence[object]], *, words: bool = False) -> list[str]:
    """Give the lines of a table, its first column to the left, the others to the right unless they hold words."""
    head, *shown = [[plain(cell) for cell in row] for row in (headings, *rows)]
    return [
        f"| {' | '.join(cells)} |" for cells in (head, ["---", *["---" if words else "---:"] * (len(head) - 1)], *shown)
    ]


def bullets(lines: Sequence[str], *, most: int = _MOST_LINES) -> list[str]:
    """Give the lines of a list, the last of them saying how many were left out."""
    left = len(lines) - most
    return [f"- {plain(line)}" for line in lines[:most]] + ([f"- and {left} more"] if left > 0 else [])


def write_markdown(path: Path, report: Report, *, budget: float | None = None) -> None:
    """Write the Markdown report of a run; arguments as for :func:`render_markdown`."""
    path.write_text(render_markdown(report, budget=budget), encoding="utf-8")


def render_markdown(report: Report, *, budget: float | None = None) -> str:
    """Give the Markdown report of a run.

    Args:
        report: What the run found.
        budget: Largest drop that passes, in points; None where it is not known.
    """
    allowed = f", a drop of at most {points(budget)} points allowed" if budget is not None else ""
    shown, left = report.artifacts[:_MOST_ROWS], len(report.artifacts) - _MOST_ROWS
    headings = (*_HEADINGS, metric_name(report), "drop in points (95 %)", "verdict")
    sections = (
        [f"# {plain(report.student.name)}: {report.verdict.value.upper()}{_cause(report)}"],
        [f"{counts_line(report)} ({plain(report.reference.data)}){allowed}. {_reference(report)}"],
        table(headings, map(_row, shown)),
        [f"{left} more are in report.html."] if left > 0 else [],
        _titled("Why", against_lines(report)),
        _titled("Where it loses", condition_lines(report)),
        _titled("What the fast paths leave", delegation_lines(report), most=_FEW_LINES),
        _titled("What to do next", next_lines(report)),
        _titled("What this does not show", caveat_lines(report)),
        ["Pictures, drift and layers: report.html. The same numbers for machines: report.json."],
    )
    return "\n\n".join("\n".join(lines) for lines in sections if lines) + "\n"


def _cause(report: Report) -> str:
    causes = cause_lines(report)
    return f", likeliest cause: {plain('; '.join(causes))}" if causes else ""


def _titled(title: str, lines: Sequence[str], *, most: int = _MOST_LINES) -> list[str]:
    return [f"**{title}**", "", *bullets(lines, most=most)] if lines else []


def _reference(report: Report) -> str:
    name = metric_name(report)
    if name not in report.reference.metrics:
        return "No labels: drift and heatmaps decide."
    return f"The float student has {plain(name)} {fraction(report.reference.metrics[name])}."


def _row(artifact: ArtifactEntry) -> list[str]:
    return [artifact.label, megabytes(artifact.bytes), *_parity(artifact.parity), artifact.verdict.value]


def _parity(parity: ParityEntry | None) -> list[str]:
    if parity is None:
        return [MISSING] * 4
    drift, metric = parity.drift_px, parity.metric
    measured = [
        decibels(parity.heatmap_snr_db, identical=parity.heatmap_max_abs == 0),
        " / ".join(map(pixels, (drift.mean, drift.p95, drift.max))),
    ]
    if metric is None:
        return [*measured, MISSING, MISSING]
    low, high = metric.ci95
    return [*measured, fraction(metric.artifact), f"{points(metric.drop)} ({points(low)} to {points(high)})"]
