"""Calibrated activation ranges: how wide each tensor is, and which ones stand out."""

from collections.abc import Iterator
from itertools import chain
from math import asinh
from statistics import median
from typing import Final

from markupsafe import Markup

from lspdmobile.report.html.markup import closed, joined, table
from lspdmobile.report.schema import RangesEntry, Report

__all__ = ["ranges"]

_WIDTH: Final = 720
_HEIGHT: Final = 170
_EDGE: Final = 12
_STANDS_OUT: Final = 8.0
"""Times the median; the same as for a weight's channels (``lspdmobile.fusion.quantizability``)."""
_MOST_SHOWN: Final = 8
_HEADINGS: Final = ("tensor", "low", "high", "times the median")


def ranges(report: Report) -> Markup:
    """Draw the ranges of each plan and list the widest."""
    return joined(chain.from_iterable((_figure(each), _widest(each)) for each in report.ranges if each.ranges))


def _figure(entry: RangesEntry) -> Markup:
    widest = sum(_reach(pair) >= _STANDS_OUT * _middle(entry) for pair in entry.ranges.values())
    told = (
        f"{', '.join(entry.artifacts)}: {len(entry.ranges)} tensors from input to output; "
        f"{widest} reach {_STANDS_OUT:g} times the median or farther"
    )
    return Markup(
        '<figure class="wide"><svg class="chart" role="img" aria-label="{0}" viewBox="0 0 {1} {2}" '
        'preserveAspectRatio="none">\n{3}\n</svg><figcaption>{0}. The scale is logarithmic but for small values.'
        "</figcaption></figure>"
    ).format(told, _WIDTH, _HEIGHT, joined(_marks(entry)))


def _reach(pair: tuple[float, float]) -> float:
    return max(abs(pair[0]), abs(pair[1]))


def _middle(entry: RangesEntry) -> float:
    return median(map(_reach, entry.ranges.values())) or 1.0


def _marks(entry: RangesEntry) -> Iterator[Markup]:
    middle = _middle(entry)
    scaled = [(asinh(low / middle), asinh(high / middle)) for low, high in entry.ranges.values()]
    top, bottom = max(0.0, *(high for _, high in scaled)), min(0.0, *(low for low, _ in scaled))
    span = (top - bottom) or 1.0
    step = _WIDTH / len(scaled)

    def y(value: float) -> float:
        return _EDGE + (_HEIGHT - 2 * _EDGE) * (top - value) / span

    for i, (pair, (low, high)) in enumerate(zip(entry.ranges.items(), scaled, strict=True)):
        name, (lowest, highest) = pair
        kind = "far" if _reach((lowest, highest)) >= _STANDS_OUT * middle else "near"
        shape = '<rect class="{}" x="{:.2f}" y="{:.1f}" width="{:.2f}" height="{:.1f}"><title>{}</title></rect>'
        told = f"{name}: {lowest:.4g} to {highest:.4g}"
        yield Markup(shape).format(kind, (i + 0.1) * step, y(high), 0.8 * step, max(y(low) - y(high), 1.0), told)
    yield Markup('<path class="axis" d="M0 {0:.1f}H{1}"/>').format(y(0.0), _WIDTH)


def _widest(entry: RangesEntry) -> Markup:
    middle = _middle(entry)
    ordered = sorted(entry.ranges.items(), key=lambda item: -_reach(item[1]))[:_MOST_SHOWN]
    rows = [(name, f"{low:.4g}", f"{high:.4g}", f"{_reach((low, high)) / middle:.1f}") for name, (low, high) in ordered]
    return closed("The widest of them", table("The widest activation ranges", _HEADINGS, rows))
