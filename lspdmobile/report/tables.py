"""The one number formatter, and the tables a person reads in a terminal of 100 columns.

:func:`parity_rows` turns a report into rows of text; the terminal table and the HTML page both show these rows.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Final

from rich import box
from rich.table import Table
from rich.text import Text

from lspdmobile.choices import Verdict
from lspdmobile.report.schema import ArtifactEntry, FusionEntry, ParityEntry, Report

__all__ = [
    "MISSING",
    "ParityRow",
    "amount",
    "decibels",
    "error",
    "fraction",
    "fused_name",
    "megabytes",
    "metric_line",
    "metric_name",
    "metrics_table",
    "microseconds",
    "milliseconds",
    "note_lines",
    "parity_rows",
    "parity_table",
    "percent",
    "pixels",
    "points",
    "quotient",
    "ratio",
    "reason_lines",
    "size",
]

MISSING: Final = "-"
_VERDICT_STYLES: Final = {
    Verdict.PASS.value: "bold green",
    Verdict.FAIL.value: "bold red",
    Verdict.UNDECIDED.value: "bold yellow",
    Verdict.NOT_JUDGED.value: "yellow",
}


def megabytes(size_bytes: float | None) -> str:
    """Show bytes as MB (10^6) with three significant digits and no unit: 1876543 is ``1.88``."""
    return MISSING if size_bytes is None else _three_digits(size_bytes / 1e6)


def size(size_bytes: float | None) -> str:
    """Show bytes with their unit: 1876543 is ``1.88 MB``, 950 is ``950 B``."""
    if size_bytes is None:
        return MISSING
    if size_bytes < 1000:
        return f"{size_bytes:.0f} B"
    return f"{_three_digits(size_bytes / 1e3)} kB" if size_bytes < 1e5 else f"{megabytes(size_bytes)} MB"


def amount(count: float | None) -> str:
    """Show a count of parameters or multiply-accumulates: ``1.23 G``, ``456 M``, ``12.3 k``, ``900``."""
    if count is None:
        return MISSING
    for factor, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(count) >= factor * 0.9995:
            return f"{_three_digits(count / factor)} {letter}"
    return f"{count:.0f}"


def pixels(distance_px: float | None) -> str:
    """Show a distance in pixels: ``0.04``, ``3.21``, ``48.5``, ``123``."""
    if distance_px is None or math.isnan(distance_px):
        return MISSING
    return f"{distance_px:.2f}" if distance_px < 9.995 else _three_digits(distance_px)


def decibels(snr_db: float | None, *, identical: bool = False) -> str:
    """Show a signal-to-noise ratio: ``43.2``; ``∞`` between identical heatmaps."""
    if snr_db is None:
        return "∞" if identical else MISSING
    return f"{snr_db:.1f}"


def fraction(value: float | None) -> str:
    """Show a metric of 0 to 1: ``0.594``."""
    return MISSING if value is None else f"{value:.3f}"


def points(drop: float | None) -> str:
    """Show a drop in points: ``0.12``, ``-0.05``; never ``-0.00``."""
    return MISSING if drop is None else f"{round(drop, 2) + 0.0:.2f}"


def microseconds(price: float | None) -> str:
    """Show a price: ``0.42``, ``48.5``, ``123``."""
    return pixels(price)


def milliseconds(latency_ms: float | None) -> str:
    """Show a latency: ``4.21``, ``48.5``, ``123``."""
    return pixels(latency_ms)


def ratio(times: float) -> str:
    """Show how many times smaller something is: ``3.8x smaller``; ``as large`` where it is not."""
    return f"{_three_digits(times)}x smaller" if times >= 1.005 else "as large"


def quotient(value: float) -> str:
    """Show one time over another: ``0.48``, ``12.3``."""
    return pixels(value)


def percent(share: float | None) -> str:
    """Show a share of 0 to 1: ``98.2%``."""
    return MISSING if share is None else f"{100 * share:.1f}%"


def error(relative: float | None) -> str:
    """Show a relative error: ``3.1e-07``."""
    return MISSING if relative is None else f"{relative:.1e}"


def _three_digits(value: float) -> str:
    """Three significant digits without an exponent; whole numbers above."""
    magnitude = abs(value)
    for limit, digits in ((0.9995, 3), (9.995, 2), (99.95, 1)):
        if magnitude < limit:
            return f"{value:.{digits}f}"
    return f"{value:.0f}"


@dataclass(frozen=True, kw_only=True)
class ParityRow:
    """One line of the parity table, as text; the drift is ``mean/p95/max``."""

    name: str
    megabytes: str
    macs: str
    params: str
    snr_db: str
    drift_px: str
    metric: str
    drop: str
    executed_by: str
    verdict: str


def metric_name(report: Report) -> str:
    """Name the task metric the artifacts were judged by; ``metric`` where there are no labels."""
    entries = [a.parity for a in report.artifacts] + [fused.parity for fused in report.fused_networks]
    judged = (p.metric.name for p in entries if p is not None and p.metric is not None)
    return next(judged, next(iter(report.reference.metrics), "metric"))


def parity_rows(report: Report) -> list[ParityRow]:
    """Give the float student, the fused student and every artifact, in the report's order."""
    student, reference = report.student, report.reference
    rows = [
        ParityRow(
            name="float PyTorch",
            megabytes=megabytes(student.bytes),
            macs=amount(student.macs),
            params=amount(student.params),
            metric=fraction(reference.metrics.get(metric_name(report))),
            executed_by=reference.executed_by,
            verdict=MISSING,
            **_parity_texts(None),
        )
    ]
    rows += [_fused_row(report, fused) for fused in report.fused_networks]
    return rows + [_artifact_row(artifact) for artifact in report.artifacts]


def _fused_row(report: Report, fused: FusionEntry) -> ParityRow:
    return ParityRow(
        name=fused_name(report, fused),
        megabytes=megabytes(fused.bytes),
        macs=amount(fused.macs),
        params=amount(fused.params),
        metric=_metric_text(fused.parity),
        executed_by=fused.executed_by,
        verdict=MISSING,
        **_parity_texts(fused.parity),
    )


def fused_name(report: Report, fused: FusionEntry) -> str:
    """Name a fused network, by the first artifact that was made from it where there is more than one."""
    return "fused PyTorch" if len(report.fused_networks) == 1 else f"fused for {fused.artifacts[0]}"


def _artifact_row(artifact: ArtifactEntry) -> ParityRow:
    return ParityRow(
        name=artifact.label,
        megabytes=megabytes(artifact.bytes),
        macs=amount(artifact.macs),
        params=amount(artifact.params),
        metric=_metric_text(artifact.parity),
        executed_by=artifact.executed_by or MISSING,
        verdict=artifact.verdict.value,
        **_parity_texts(artifact.parity),
    )


def _metric_text(parity: ParityEntry | None) -> str:
    return fraction(parity.metric.artifact if parity is not None and parity.metric is not None else None)


def _parity_texts(parity: ParityEntry | None) -> dict[str, str]:
    if parity is None:
        return {"snr_db": MISSING, "drift_px": MISSING, "drop": MISSING}
    drift = parity.drift_px
    known = drift.mean is not None
    return {
        "snr_db": decibels(parity.heatmap_snr_db, identical=parity.heatmap_max_abs == 0),
        "drift_px": "/".join(pixels(v) for v in (drift.mean, drift.p95, drift.max)) if known else MISSING,
        "drop": points(parity.metric.drop if parity.metric is not None else None),
    }


def parity_table(*reports: Report) -> Table:
    """Lay the parity rows of runs out for a terminal, each under the name of its student where there are several."""
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=0)
    table.add_column("artifact", no_wrap=True)
    for heading in ("MB", "MACs", "params", "SNR dB", "drift px\nmean/p95/max", metric_name(reports[0]), "drop"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("executed by", overflow="fold")
    table.add_column("verdict", min_width=10)
    for report in reports:
        if len(reports) > 1:
            table.add_section()
            table.add_row(Text(report.student.name, style="bold"))
        for row in parity_rows(report):
            texts = [Text(getattr(row, field.name)) for field in fields(row)]
            texts[-2] = Text(row.executed_by.split(" (")[0])
            texts[-1].stylize(_VERDICT_STYLES.get(row.verdict, ""))
            table.add_row(*texts)
    return table


def reason_lines(report: Report, *, only_failures: bool = False) -> list[str]:
    """Give one line per reason: ``tflite w8a8: 95% of the joints drift by …``."""
    return [
        f"{artifact.label}: {reason}"
        for artifact in report.artifacts
        for reason in artifact.reasons
        if artifact.verdict in (Verdict.FAIL, Verdict.UNDECIDED) or not only_failures
    ]


def note_lines(report: Report) -> list[str]:
    """Give one line per note on an artifact, and each thing that running them here cannot show, once."""
    notes = [f"{a.label}: {note}" for a in report.artifacts for note in a.notes]
    return notes + list(dict.fromkeys(f"note: {a.caveat}" for a in report.artifacts if a.caveat))


def metrics_table(metrics: Mapping[str, float], per_joint: Mapping[str, Mapping[str, float]]) -> Table:
    """Lay the metrics that count joint by joint out: one column each, the total first, then one row per joint."""
    names = [name for name in metrics if name in per_joint]
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
    table.add_column("joint", no_wrap=True)
    for name in names:
        table.add_column(name, justify="right", no_wrap=True)
    table.add_row(Text("all", style="bold"), *(Text(fraction(metrics[name]), style="bold") for name in names))
    for joint in dict.fromkeys(joint for joints in per_joint.values() for joint in joints):
        scores = (per_joint[name].get(joint) for name in names)
        table.add_row(Text(joint.replace("_", " ")), *(Text(fraction(score)) for score in scores))
    return table


def metric_line(metrics: Mapping[str, float]) -> str:
    """Show metrics on one line: ``oks_ap 0.608, oks_ap50 0.938``."""
    return ", ".join(f"{name} {fraction(value)}" for name, value in metrics.items())
