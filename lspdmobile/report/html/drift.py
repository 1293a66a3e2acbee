"""How far joints drifted: a histogram for each artifact, as inline SVG."""

from collections.abc import Iterator
from typing import Final

from markupsafe import Markup

from lspdmobile.report.html.markup import NOTHING, joined
from lspdmobile.report.schema import Report
from lspdmobile.report.spread import HistogramEntry
from lspdmobile.report.tables import percent

__all__ = ["drift_histograms"]

_WIDTH: Final = 300
_HEIGHT: Final = 150
_TOP: Final = 22
_BOTTOM: Final = 34
_GAP: Final = 2
_HALF_CELL: Final = 0.5


def drift_histograms(report: Report) -> Markup:
    """Draw the histogram of every artifact that has one."""
    figures = [
        _figure(artifact.label, parity.drift_histogram)
        for artifact in report.artifacts
        if (parity := artifact.parity) is not None and parity.drift_histogram is not None
    ]
    if not figures:
        return NOTHING
    key = Markup(
        "<p>Joints by how far they moved, in input pixels (each step doubles). Blue: at most half a heatmap cell, "
        "as the gate allows to 95 % of them; orange: farther.</p>"
    )
    return Markup('{}\n<div class="charts">\n{}\n</div>').format(key, joined(figures))


def _figure(label: str, histogram: HistogramEntry) -> Markup:
    total = sum(histogram.counts)
    near = sum(c for c, end in zip(histogram.counts, histogram.edges_px[1:], strict=False) if end <= _half(histogram))
    told = f"{percent(near / total) if total else '-'} of {total} joints within half a cell ({_half(histogram):g} px)"
    return Markup(
        '<figure><svg class="chart" role="img" aria-label="{}" viewBox="0 0 {} {}">\n{}\n</svg>'
        "<figcaption><strong>{}</strong> {}</figcaption></figure>"
    ).format(f"{label}: {told}", _WIDTH, _HEIGHT, joined(_marks(histogram)), label, told)


def _half(histogram: HistogramEntry) -> float:
    return _HALF_CELL * histogram.cell_px


def _marks(histogram: HistogramEntry) -> Iterator[Markup]:
    step, bottom = _WIDTH / max(1, len(histogram.counts)), _HEIGHT - _BOTTOM
    tallest = max(histogram.counts, default=0) or 1
    for i, (count, start) in enumerate(zip(histogram.counts, histogram.edges_px, strict=True)):
        x, height = i * step, (bottom - _TOP) * count / tallest
        end = histogram.edges_px[i + 1] if i + 1 < len(histogram.edges_px) else float("inf")
        if count:
            kind = "near" if end <= _half(histogram) else "far"
            shape = '<rect class="{}" x="{:.1f}" y="{:.1f}" width="{:.1f}" height="{:.1f}"/>'
            yield Markup(shape).format(kind, x + _GAP / 2, bottom - max(height, 1.0), step - _GAP, max(height, 1.0))
            number = '<text class="middle" x="{:.1f}" y="{:.1f}">{}</text>'
            yield Markup(number).format(x + step / 2, bottom - max(height, 1.0) - 4, count)
        if i % 2 == 0:
            tick = '<text class="tick" x="{:.1f}" y="{}">{}</text>'
            yield Markup(tick).format(x, bottom + 14, f"{start:g}")
    yield Markup('<path class="axis" d="M0 {0}H{1}"/>').format(bottom, _WIDTH)
    yield Markup('<text class="tick end" x="{}" y="{}">drift, px</text>').format(_WIDTH, _HEIGHT - 4)
