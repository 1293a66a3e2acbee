"""Where the accuracy went: each step from the float student to a file, by what it loses."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from markupsafe import Markup

from lspdmobile.choices import Verdict
from lspdmobile.report.html.markup import NOTHING, table
from lspdmobile.report.schema import ParityEntry, Report
from lspdmobile.report.tables import MISSING, fraction, fused_name, metric_name, pixels, points

__all__ = ["ladder"]

_MARGIN: Final = 0.06
_NEAR: Final = 4.0
"""Percent of the column's width; two labels that are nearer would lie on each other."""
_KINDS: Final = {Verdict.PASS: "passed", Verdict.FAIL: "failed"}


@dataclass(frozen=True, kw_only=True)
class _Rung:
    """One network: its name, the group it is of, what its column says, and its loss with an interval around it."""

    name: str
    group: str
    value: str
    loss: float | None = None
    low: float | None = None
    high: float | None = None
    kind: str = "passed"


def ladder(report: Report, *, budget: float | None) -> Markup:
    """Chart the drop of every network in points, or its drift where there are no labels.

    Args:
        report: What the run found.
        budget: Largest drop that passes, in points; None where none is known or there are no labels.
    """
    labelled = metric_name(report) in report.reference.metrics
    rungs = [*_float(report), *_fused(report, labelled), *_files(report, labelled)]
    if not any(rung.loss is not None for rung in rungs):
        return NOTHING
    scale = _Scale(rungs, budget if labelled else None)
    unit, shown = ("drop, points", points) if labelled else ("drift p95, px", pixels)
    rows = [(rung.name, rung.value, shown(rung.loss), scale.track(rung)) for rung in rungs]
    breaks = {i for i in range(1, len(rungs)) if rungs[i].group != rungs[i - 1].group}
    within = f", line: the budget of {points(budget)}" if labelled and budget is not None else ""
    caption = f"Each network beside the float student; bar: 95 % interval{within}" if labelled else "Drift by network"
    value = metric_name(report) if labelled else "agreement"
    chart = table(caption, ("network", value, unit, scale.axis()), rows, words=(3,), breaks=breaks)
    return Markup('<div class="ladder">{}</div>').format(chart)


def _float(report: Report) -> Iterator[_Rung]:
    if report.student.teacher:
        yield _Rung(name=f"teacher: {report.student.teacher}", group="PyTorch", value="not measured here")
    yield _Rung(
        name="float student",
        group="PyTorch",
        value=fraction(report.reference.metrics.get(metric_name(report))),
        loss=0.0,
    )


def _fused(report: Report, labelled: bool) -> Iterator[_Rung]:
    for fused in report.fused_networks:
        yield _rung(fused_name(report, fused), "PyTorch", fused.parity, labelled)


def _files(report: Report, labelled: bool) -> Iterator[_Rung]:
    for artifact in report.artifacts:
        kind = _KINDS.get(artifact.verdict, "open")
        yield _rung(artifact.label, artifact.format.value, artifact.parity, labelled, kind=kind)


def _rung(name: str, group: str, parity: ParityEntry | None, labelled: bool, *, kind: str = "passed") -> _Rung:
    metric = parity.metric if parity is not None else None
    if labelled and metric is not None:
        low, high = metric.ci95
        value = fraction(metric.artifact)
        return _Rung(name=name, group=group, value=value, loss=metric.drop, low=low, high=high, kind=kind)
    if labelled or parity is None:
        return _Rung(name=name, group=group, value=MISSING, kind=kind)
    value = fraction(parity.agreement)
    return _Rung(name=name, group=group, value=value, loss=parity.drift_px.p95, kind=kind)


class _Scale:
    """Where losses lie in the chart's column, in percent of its width."""

    def __init__(self, rungs: Sequence[_Rung], budget: float | None) -> None:
        known = [v for rung in rungs for v in (rung.loss, rung.low, rung.high) if v is not None]
        self._budget = budget
        low, high = min(0.0, *known), max(0.0, *known, *([] if budget is None else [budget]))
        margin = _MARGIN * ((high - low) or 1.0)
        self._low, self._span = low - margin, (high - low or 1.0) + 2 * margin

    def _at(self, loss: float) -> float:
        return 100 * (loss - self._low) / self._span

    def track(self, rung: _Rung) -> Markup:
        """Draw one network: its interval, its loss, the zero line and the budget."""
        marks = [self._line("zero", 0.0)]
        if self._budget is not None:
            marks.append(self._line("budget", self._budget))
        if rung.low is not None and rung.high is not None:
            left, right = self._at(rung.low), self._at(rung.high)
            span = '<i class="interval {}" style="left:{:.1f}%;width:{:.1f}%"></i>'
            marks.append(Markup(span).format(rung.kind, left, right - left))
        if rung.loss is not None:
            marks.append(Markup('<i class="dot {}" style="left:{:.1f}%"></i>').format(rung.kind, self._at(rung.loss)))
        return Markup('<span class="track" aria-hidden="true">{}</span>').format(Markup("").join(marks))

    def _line(self, kind: str, loss: float) -> Markup:
        return Markup('<i class="{}" style="left:{:.1f}%"></i>').format(kind, self._at(loss))

    def axis(self) -> Markup:
        """Name the lines."""
        marks = [] if self._budget is None else [(self._budget, f"{self._budget:g}")]
        if not any(abs(self._at(loss) - self._at(0.0)) < _NEAR for loss, _ in marks):
            marks.append((0.0, "0"))
        texts = (Markup('<b style="left:{:.1f}%">{}</b>').format(self._at(loss), text) for loss, text in marks)
        return Markup('<span class="track axis">{}</span>').format(Markup("").join(texts))
