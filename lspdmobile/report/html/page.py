"""The page as a whole: the order of its parts, and what keeps a reader's browser from loading anything."""

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from markupsafe import Markup

from lspdmobile.report.html import artifacts, background, parity
from lspdmobile.report.html.banner import banner, next_steps, tiles
from lspdmobile.report.html.drift import drift_histograms
from lspdmobile.report.html.ladder import ladder
from lspdmobile.report.html.markup import bullets, joined, section
from lspdmobile.report.html.ranges import ranges
from lspdmobile.report.html.sizes import layers, operators, sizes
from lspdmobile.report.methods import method_lines
from lspdmobile.report.pictures import WorstPicture, picture_figures
from lspdmobile.report.schema import Report
from lspdmobile.report.style import style_sheet

__all__ = ["render_html", "write_html"]

_SAFETY: Final = Markup("default-src 'none'; img-src data:; style-src 'unsafe-inline'")
_PAGE: Final = Markup(
    '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n<title>{title}</title>\n'
    '<meta http-equiv="Content-Security-Policy" content="{safety}">\n'
    '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
    "<style>{style}</style>\n</head>\n<body>\n<header><h1>{title}</h1>\n<p>{subject}</p></header>\n<main>\n{parts}\n"
    "</main>\n<footer><p>The same numbers for machines: report.json. Drift is in input pixels, drops are in points "
    "(hundredths of the metric), 1 MB is 10<sup>6</sup> bytes.</p></footer>\n</body>\n</html>\n"
)


def write_html(path: Path, report: Report, *, worst: Sequence[WorstPicture] = (), budget: float | None = None) -> None:
    """Write the page of a run; arguments as for :func:`render_html`."""
    path.write_text(render_html(report, worst=worst, budget=budget), encoding="utf-8")


def render_html(report: Report, *, worst: Sequence[WorstPicture] = (), budget: float | None = None) -> str:
    """Give the page of a run as text.

    Args:
        report: What the run found.
        worst: Pictures to show, worst first.
        budget: Largest drop that passes, in points; None where it is not known.
    """
    return str(
        _PAGE.format(
            title=f"{report.student.name}: parity report",
            safety=_SAFETY,
            style=Markup(style_sheet()),  # no text of a run is in it
            subject=_subject(report),
            parts=_parts(report, worst, budget),
        )
    )


def _subject(report: Report) -> str:
    student, reference = report.student, report.reference
    rows, columns = student.input_size
    what = f"{student.architecture}, {rows}x{columns}, {student.skeleton}"
    return f"{what}; judged on {reference.data} beside {reference.executed_by}"


def _parts(report: Report, worst: Sequence[WorstPicture], budget: float | None) -> Markup:
    return joined(
        [
            banner(report),
            tiles(report),
            section("What to do next", next_steps(report)),
            section("Where the accuracy went", ladder(report, budget=budget)),
            section("Parity", parity.parity_table(report)),
            section("Why", parity.reasons(report)),
            section("Largest drifts", picture_figures(worst)),
            section("Drift", drift_histograms(report)),
            section("Joints", parity.joints(report)),
            section("Conditions", parity.conditions(report)),
            section("Size", sizes(report), operators(report.artifacts)),
            section("Layers", layers(report)),
            section("Delegation", artifacts.delegation(report)),
            section("Not honoured", artifacts.shortfalls(report)),
            section("Files", artifacts.files(report)),
            section("Calibration", background.calibration(report), ranges(report)),
            section("Quantization methods", bullets(line.strip() for line in method_lines(report.methods))),
            section("Blocks", background.blocks(report)),
            section("Repair", background.repairs(report)),
            section("Background", background.certificates(report), background.about(report)),
        ]
    )
