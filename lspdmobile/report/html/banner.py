"""What is read first: the verdict with the reasons against it, and four numbers."""

from collections.abc import Iterator

from markupsafe import Markup

from lspdmobile.choices import Verdict
from lspdmobile.report.causes import cause_lines
from lspdmobile.report.html.markup import NOTHING, bullets, joined, verdict_class
from lspdmobile.report.schema import ArtifactEntry, ParityEntry, Report
from lspdmobile.report.tables import fraction, metric_name, pixels, points, ratio, size
from lspdmobile.report.verdicts import against_lines, caveat_lines, counts_line, next_lines

__all__ = ["banner", "next_steps", "tiles"]


def banner(report: Report) -> Markup:
    """Give the verdict, the likeliest causes of failures, and for each artifact that did not pass the first reason."""
    verdict = report.verdict.value
    causes = joined(
        Markup("<p><strong>Likeliest cause</strong>: {}.</p>\n").format(line) for line in cause_lines(report)
    )
    against = bullets(against_lines(report))
    head = Markup(
        '<section class="banner {}" aria-label="Verdict">\n<p class="word">{}: {}</p>\n{}{}</section>'
    ).format(verdict_class(verdict), verdict.upper(), counts_line(report), causes, against)
    caveats = (Markup('<p class="caveat">{}.</p>').format(line) for line in caveat_lines(report))
    return joined([head, *caveats])


def next_steps(report: Report) -> Markup:
    """Give what to do next."""
    return bullets(next_lines(report))


def tiles(report: Report) -> Markup:
    """Give the numbers an engineer asks for first; nothing where nothing was measured."""
    each = (
        Markup("<div><dt>{}</dt><dd>{}</dd><dd>{}</dd></div>").format(name, value, of)
        for name, value, of in _numbers(report)
    )
    inside = joined(each)
    return Markup('<dl class="tiles">\n{}\n</dl>').format(inside) if inside else NOTHING


def _numbers(report: Report) -> Iterator[tuple[str, str, str]]:
    name = metric_name(report)
    if name in report.reference.metrics:
        yield f"{name}, float", fraction(report.reference.metrics[name]), f"{report.reference.images} pictures"
    measured = [(a, a.parity) for a in report.artifacts if a.parity is not None]
    drops = [(p.metric.drop, a) for a, p in measured if p.metric is not None]
    if drops:
        drop, artifact = max(drops, key=lambda each: each[0])
        yield "largest drop", f"{points(drop)} points", artifact.label
    drifts = [(p95, a) for a, p in measured if (p95 := p.drift_px.p95) is not None]
    if drifts:
        drift, artifact = max(drifts, key=lambda each: each[0])
        yield "largest drift, p95", f"{pixels(drift)} px", artifact.label
    yield from _smallest(report, [(a, p) for a, p in measured if a.verdict is Verdict.PASS])


def _smallest(report: Report, passed: list[tuple[ArtifactEntry, ParityEntry]]) -> Iterator[tuple[str, str, str]]:
    sizes = [(a.bytes, a) for a, _ in passed if a.bytes]
    if sizes:
        size_bytes, artifact = min(sizes, key=lambda each: each[0])
        yield "smallest that passes", size(size_bytes), f"{artifact.label}, {ratio(report.student.bytes / size_bytes)}"
