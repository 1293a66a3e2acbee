"""What the artifacts were made from: calibration, methods, blocks, repair, certificates, plan, student, environment."""

from markupsafe import Markup

from lspdmobile.report.calibration import calibration_lines
from lspdmobile.report.explanations import form_rows, repair_lines, repair_rows
from lspdmobile.report.html.markup import NOTHING, bullets, closed, facts, joined, table
from lspdmobile.report.pareto import pareto_figure
from lspdmobile.report.schema import Report
from lspdmobile.report.tables import fused_name

__all__ = ["about", "blocks", "calibration", "certificates", "repairs"]


def calibration(report: Report) -> Markup:
    """Say what was calibrated on, and what is wrong with it."""
    entry = report.calibration
    if entry is None:
        return NOTHING
    made = f"{entry.estimator} ranges of {entry.pictures} pictures ({entry.source})"
    return Markup("<p>{}</p>\n{}").format(made, bullets(calibration_lines(entry) or ["nothing found"]))


def blocks(report: Report) -> Markup:
    """Lay out how the targets chose the form of every block."""
    rows = form_rows(report)
    headings = ("blocks", "form", "target", "price µs", "branches apart µs", "one kernel µs", "exact forms")
    return table("Forms that the targets chose, by their prices", headings, rows, words=(1, 2)) if rows else NOTHING


def repairs(report: Report) -> Markup:
    """Lay out every network that was judged, smallest first, and why operators stay in float."""
    rows = repair_rows(report)
    if not rows:
        return NOTHING
    sizes = ("operators in float", "in int8", "weights grow by", "to")
    headings = ("artifacts", *sizes, "drop in points", "drift px p95", "front", "verdict")
    plots = joined(pareto_figure(repair, name=f"repair-{i}") for i, repair in enumerate(report.repairs))
    lines = bullets(line.strip() for line in repair_lines(report))
    return joined([lines, plots, table("Every network that was judged", headings, rows)])


def certificates(report: Report) -> Markup:
    """Give the certificate of each fused network."""
    return joined(
        closed(f"Fusion certificate, {fused_name(report, each)}", facts(each.certificate))
        for each in report.fused_networks
    )


def about(report: Report) -> Markup:
    """Give plan, student, reference and environment."""
    reference = {f"reference {k}": v for k, v in report.reference.model_dump().items() if k != "per_joint"}
    return joined(
        [
            closed("Plan", facts(report.plan)),
            closed("Student and reference", facts({**report.student.model_dump(), **reference})),
            closed("Environment", facts(report.environment)),
        ]
    )
