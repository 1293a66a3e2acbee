"""The parity table, why each artifact was judged so, and the metric joint by joint."""

from collections.abc import Iterable, Sequence
from dataclasses import fields

from markupsafe import Markup

from lspdmobile.choices import Verdict
from lspdmobile.report.conditions import CONDITIONS_CAPTION, condition_headings, condition_lines, condition_rows
from lspdmobile.report.html.markup import NOTHING, bar, bars, bullets, closed, joined, table
from lspdmobile.report.schema import ArtifactEntry, ParityEntry, Report
from lspdmobile.report.tables import fraction, metric_name, parity_rows, pixels

__all__ = ["conditions", "joints", "parity_table", "reasons"]

_HEADINGS = ("network", "verdict", "MB", "MACs", "parameters", "heatmap SNR dB", "drift px mean/p95/max")


def parity_table(report: Report) -> Markup:
    """Lay the parity table out, the verdict where a narrow screen still shows it; what ran it is said elsewhere."""
    texts = [[getattr(row, field.name) for field in fields(row)] for row in parity_rows(report)]
    rows = [[name, verdict, *rest] for name, *rest, _, verdict in texts]
    caption = f"Every file that was written was read back and executed on {report.reference.images} pictures"
    return table(caption, (*_HEADINGS, metric_name(report), "drop in points"), rows)


def reasons(report: Report) -> Markup:
    """Give every reason of every verdict and the notes; those of artifacts that passed for readers who ask."""
    passed = [artifact for artifact in report.artifacts if artifact.verdict is Verdict.PASS]
    others = [artifact for artifact in report.artifacts if artifact.verdict is not Verdict.PASS]
    return joined([_sentences(others), closed(f"{len(passed)} that passed" if passed else "", _sentences(passed))])


def _sentences(artifacts: Iterable[ArtifactEntry]) -> Markup:
    return bullets(
        Markup("<strong>{}</strong> ({}){}").format(
            artifact.label, artifact.verdict.value, bullets((*artifact.reasons, *artifact.notes))
        )
        for artifact in artifacts
    )


def conditions(report: Report) -> Markup:
    """Lay the drop by condition out: of small people, in the dark, upside down."""
    rows = condition_rows(report)
    if not rows:
        return NOTHING
    return joined([bullets(condition_lines(report)), table(CONDITIONS_CAPTION, condition_headings(report), rows)])


def joints(report: Report) -> Markup:
    """Lay the metric and the mean drift of each joint out; a bar each for the float student and the worst artifact."""
    name = metric_name(report)
    reference = report.reference.per_joint.get(name, {})
    measured = [(a.label, a.parity) for a in report.artifacts if a.parity is not None]
    names = dict.fromkeys([*reference, *(j for _, parity in measured for j in parity.per_joint_drift_px)])
    if not names:
        return NOTHING
    rows = [
        [
            joint.replace("_", " "),
            _bars(reference.get(joint), [parity for _, parity in measured], joint),
            fraction(reference.get(joint)),
            *(_cell(parity, joint) for _, parity in measured),
        ]
        for joint in names
    ]
    chart = Markup('<span class="key blue"></span> float <span class="key orange"></span> worst artifact')
    caption = f"{name} (0 to 1) and mean drift in input pixels, by joint"
    return table(caption, ["joint", chart if reference else "bars", "float", *(n for n, _ in measured)], rows)


def _bars(score: float | None, measured: Sequence[ParityEntry], joint: str) -> Markup:
    """Draw the float student's score and below it the lowest of the artifacts'."""
    if score is None:
        return NOTHING
    lowest = min((parity.per_joint[joint] for parity in measured if joint in parity.per_joint), default=None)
    below = bar(lowest, "orange") if lowest is not None else NOTHING
    return bars(bar(score, "blue"), below)


def _cell(parity: ParityEntry, joint: str) -> str:
    score, drift = parity.per_joint.get(joint), parity.per_joint_drift_px.get(joint)
    return f"{fraction(score)} ({pixels(drift)} px)" if score is not None else f"{pixels(drift)} px"
