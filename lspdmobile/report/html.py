"""``report.html``: one self-contained page that needs no network and runs no script.

Everything that comes from a file, a name or a message is escaped; pictures are inlined as JPEG.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields
from html import escape
from pathlib import Path
from typing import Final

from lspdmobile.choices import Verdict
from lspdmobile.report.calibration import calibration_lines
from lspdmobile.report.conditions import CONDITIONS_CAPTION, condition_headings, condition_rows
from lspdmobile.report.explanations import form_rows, repair_lines, repair_rows
from lspdmobile.report.methods import method_lines
from lspdmobile.report.pareto import pareto_figure
from lspdmobile.report.pictures import WorstPicture, picture_figures
from lspdmobile.report.schema import ParityEntry, Report
from lspdmobile.report.style import style_sheet
from lspdmobile.report.tables import (
    MISSING,
    fraction,
    fused_name,
    metric_name,
    milliseconds,
    parity_rows,
    pixels,
    size,
)

__all__ = ["render_html", "write_html"]

_LONGEST_LIST: Final = 12
_CLASSES: Final = {
    Verdict.PASS.value: "pass",
    Verdict.FAIL.value: "fail",
    Verdict.UNDECIDED.value: "unjudged",
    Verdict.NOT_JUDGED.value: "unjudged",
}
_SAFETY: Final = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"


def write_html(path: Path, report: Report, *, worst: Sequence[WorstPicture] = ()) -> None:
    """Write the page of a run."""
    path.write_text(render_html(report, worst=worst), encoding="utf-8")


def render_html(report: Report, *, worst: Sequence[WorstPicture] = ()) -> str:
    """Give the page of a run as text.

    Args:
        report: What the run found.
        worst: Pictures to show, worst first.
    """
    title = escape(f"{report.student.name}: parity report")
    sections = (
        _banner(report),
        _section("Parity", _parity(report)),
        _section("Why", _reasons(report)),
        _section("Calibration", _calibration(report)),
        _section("Quantization methods", _lines(method_lines(report.methods))),
        _section("Largest drifts", picture_figures(worst)),
        _section("Joints", _joints(report)),
        _section("Conditions", _conditions(report)),
        _section("Artifacts", _artifacts(report)),
        _section("Not honoured", _shortfalls(report)),
        _section("Blocks", _forms(report)),
        _section("Repair", _repairs(report)),
        *(
            _section(f"Fusion certificate, {fused_name(report, each)}", _facts(each.certificate))
            for each in report.fused_networks
        ),
        _section("Plan", _facts(report.plan)),
        _section("Student and reference", _facts(_about(report))),
        _section("Environment", _facts(report.environment)),
    )
    return (
        f'<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n<title>{title}</title>\n'
        f'<meta http-equiv="Content-Security-Policy" content="{_SAFETY}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<style>{style_sheet()}</style>\n</head>\n<body>\n<h1>{title}</h1>\n"
        + "\n".join(section for section in sections if section)
        + "\n<footer><p>The same numbers for machines: report.json. Drift is in input pixels, drops are in points "
        "(hundredths of the metric), 1 MB is 10<sup>6</sup> bytes.</p></footer>\n</body>\n</html>\n"
    )


def _section(heading: str, content: str) -> str:
    return f"<section>\n<h2>{escape(heading)}</h2>\n{content}\n</section>" if content else ""


def _banner(report: Report) -> str:
    passed = sum(a.verdict is Verdict.PASS for a in report.artifacts)
    counts = f"{passed} of {len(report.artifacts)} artifacts passed on {report.reference.images} pictures"
    verdict = report.verdict.value
    caveats = dict.fromkeys(a.caveat for a in report.artifacts if a.caveat)
    return f'<p class="banner {_CLASSES[verdict]}" role="status">{escape(verdict.upper())}: {counts}</p>' + "".join(
        f"\n<p>{escape(caveat)}.</p>" for caveat in caveats
    )


def _table(caption: str, headings: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Lay escaped rows out; the first cell of each names the row, a verdict is coloured."""
    head = "".join(f'<th scope="col">{escape(h)}</th>' for h in headings)
    lines = []
    for first, *rest in rows:
        cells = "".join(f"<td{_cell_class(text)}>{escape(text)}</td>" for text in rest)
        lines.append(f'<tr><th scope="row">{escape(first)}</th>{cells}</tr>')
    return (
        f'<div class="scroll" role="region" tabindex="0" aria-label="{escape(caption)}">\n<table>'
        f"<caption>{escape(caption)}</caption>\n<thead><tr>{head}</tr></thead>\n<tbody>\n"
        + "\n".join(lines)
        + "\n</tbody></table>\n</div>"
    )


def _cell_class(text: str) -> str:
    return f' class="{_CLASSES[text]}"' if text in _CLASSES else ""


def _parity(report: Report) -> str:
    """Lay the parity table out, the verdict where a narrow screen still shows it."""
    headings = ("MB", "MACs", "parameters", "heatmap SNR dB", "drift px mean/p95/max", metric_name(report))
    texts = [[getattr(row, field.name) for field in fields(row)] for row in parity_rows(report)]
    rows = [[name, verdict, *rest] for name, *rest, verdict in texts]
    caption = f"Every file that was written was read back and executed on {report.reference.images} pictures"
    return _table(caption, ("network", "verdict", *headings, "drop in points", "executed by"), rows)


def _reasons(report: Report) -> str:
    items = [
        f"<li><strong>{escape(a.label)}</strong> ({escape(a.verdict.value)}): {escape(reason)}</li>"
        for a in report.artifacts
        for reason in (*a.reasons, *a.notes)
    ]
    return _list(items)


def _list(items: Sequence[str]) -> str:
    return "<ul>\n" + "\n".join(items) + "\n</ul>" if items else ""


def _lines(lines: Iterable[str]) -> str:
    return _list([f"<li>{escape(line.strip())}</li>" for line in lines])


def _calibration(report: Report) -> str:
    entry = report.calibration
    if entry is None:
        return ""
    made = f"{entry.estimator} ranges of {entry.pictures} pictures ({entry.source})"
    return f"<p>{escape(made)}</p>\n{_lines(calibration_lines(entry) or ['nothing found'])}"


def _joints(report: Report) -> str:
    name = metric_name(report)
    reference = report.reference.per_joint.get(name, {})
    measured = [(a.label, a.parity) for a in report.artifacts if a.parity is not None]
    joints = dict.fromkeys([*reference, *(j for _, parity in measured for j in parity.per_joint_drift_px)])
    if not joints:
        return ""
    rows = [
        [
            joint.replace("_", " "),
            fraction(reference.get(joint)),
            *(_joint_cell(parity, joint) for _, parity in measured),
        ]
        for joint in joints
    ]
    return _table(
        f"{name} and mean drift in input pixels, by joint", ["joint", "float", *(n for n, _ in measured)], rows
    )


def _joint_cell(parity: ParityEntry, joint: str) -> str:
    score, drift = parity.per_joint.get(joint), parity.per_joint_drift_px.get(joint)
    return f"{fraction(score)} ({pixels(drift)} px)" if score is not None else f"{pixels(drift)} px"


def _conditions(report: Report) -> str:
    rows = condition_rows(report)
    return _table(CONDITIONS_CAPTION, condition_headings(report), rows) if rows else ""


def _artifacts(report: Report) -> str:
    headings = ("file", "bytes", "layout", "weights by dtype", "delegated", "export s", "latency ms", "sha256")
    rows = [
        [
            artifact.file,
            size(artifact.bytes),
            artifact.layout.value if artifact.layout else MISSING,
            ", ".join(f"{dtype} {size(n)}" for dtype, n in artifact.weight_bytes_by_dtype.items()) or MISSING,
            f"{artifact.delegation.delegated} of {artifact.delegation.total}" if artifact.delegation else MISSING,
            pixels(artifact.export_seconds),
            milliseconds(artifact.latency_ms),
            artifact.sha256[:16] if artifact.sha256 else MISSING,
        ]
        for artifact in report.artifacts
    ]
    return _table("What was written", headings, rows) if rows else ""


def _forms(report: Report) -> str:
    headings = ("blocks", "form", "target", "price µs", "branches apart µs", "one kernel µs", "exact forms")
    return (
        _table("Forms that the targets chose, by their prices", headings, rows) if (rows := form_rows(report)) else ""
    )


def _shortfalls(report: Report) -> str:
    """List, layer by layer, what the files do not honour of the plan."""
    rows = [
        [artifact.label, each.layer, each.wanted, each.found, each.reason]
        for artifact in report.artifacts
        for each in artifact.not_honoured
    ]
    headings = ("artifact", "layer", "planned", "in the file", "why")
    return _table("What the files hold otherwise than planned", headings, rows) if rows else ""


def _repairs(report: Report) -> str:
    """Lay out every network that was judged, smallest first, and why operators stay in float."""
    rows = repair_rows(report)
    if not rows:
        return ""
    sizes = ("operators in float", "in int8", "weights grow by", "to")
    headings = ("artifacts", *sizes, "drop in points", "drift px p95", "front", "verdict")
    plots = "\n".join(pareto_figure(repair, name=f"repair-{i}") for i, repair in enumerate(report.repairs))
    return f"{_lines(repair_lines(report))}\n{plots}\n" + _table("Every network that was judged", headings, rows)


def _about(report: Report) -> dict[str, object]:
    reference = report.reference
    shown = {k: v for k, v in reference.model_dump().items() if k != "per_joint"}
    return {**report.student.model_dump(), **{f"reference {key}": value for key, value in shown.items()}}


def _facts(values: Mapping[str, object]) -> str:
    """Show a mapping as a definition list; long lists and mappings are only counted."""
    lines = [f"<dt>{escape(str(key).replace('_', ' '))}</dt><dd>{_fact(value)}</dd>" for key, value in values.items()]
    return "<dl>\n" + "\n".join(lines) + "\n</dl>" if lines else ""


def _fact(value: object) -> str:
    if isinstance(value, Mapping):
        return _facts(value) if len(value) <= _LONGEST_LIST else f"{len(value)} entries"
    if isinstance(value, list | tuple):
        return ", ".join(map(_fact, value)) if len(value) <= _LONGEST_LIST else f"{len(value)} entries"
    if value is None or isinstance(value, bool):
        return {None: MISSING, True: "yes", False: "no"}[value]
    return escape(f"{value:.4g}" if isinstance(value, float) else str(value))
