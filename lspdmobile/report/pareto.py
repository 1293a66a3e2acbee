"""The trade of a repair: accuracy, size and integer operators of every network that was judged, as an inline SVG.

A network is on the front where no other one is at least as good in all three (drop in points, or drift without labels;
bytes of the weights; operators that stay integer) and better in one. The colours are those of the page's style sheet,
so the plot follows the reader's light or dark mode; shape says the same as colour.
"""

import math
from collections.abc import Sequence
from typing import Final

from markupsafe import Markup

from lspdmobile.report.repair import RepairEntry, TrialEntry
from lspdmobile.report.tables import pixels, points

__all__ = ["on_front", "pareto_figure", "ticks"]

_WIDTH: Final = 520
_HEIGHT: Final = 320
_LEFT: Final = 60
_RIGHT: Final = 24
_TOP: Final = 24
_BOTTOM: Final = 52
_TICKS: Final = 5
_RADIUS: Final = 5
_KEY: Final = (
    "Filled: passes the gate; hollow: does not. The line joins the networks that no other one betters, with the number "
    "of their int8 operators. The ring is the choice."
)


def on_front(trials: Sequence[TrialEntry]) -> tuple[bool, ...]:
    """Tell of each trial whether none dominates it; of equal ones all are on the front."""
    costs = [_costs(trial) for trial in trials]
    return tuple(not any(other != cost and _at_most(other, cost) for other in costs) for cost in costs)


def _costs(trial: TrialEntry) -> tuple[float, float, float]:
    return _loss(trial), trial.extra_bytes, -trial.integer_operators


def _at_most(one: tuple[float, ...], other: tuple[float, ...]) -> bool:
    return all(a <= b for a, b in zip(one, other, strict=True))


def _loss(trial: TrialEntry) -> float:
    """Give the drop in points, the drift in pixels where there is none; infinity where heatmaps are not finite."""
    loss = trial.drift_p95_px if trial.drop is None else trial.drop
    return math.inf if loss is None else loss


def ticks(largest: float) -> list[float]:
    """Give a few round numbers from 0 to the largest or just past it: 1, 2 or 5 times a power of ten apart."""
    if largest <= 0:
        return [0.0, 1.0]
    rough = largest / _TICKS
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(step * power for step in (1, 2, 5, 10) if step * power >= rough * (1 - 1e-9))
    return [round(step * i, 12) for i in range(math.ceil(largest / step - 1e-9) + 1)]


def pareto_figure(repair: RepairEntry, *, name: str) -> Markup:
    """Draw a repair's networks: growth of the weights to the right, what is lost upwards.

    Args:
        repair: With its trials.
        name: An HTML id that nothing else of the page has.
    """
    shown = sorted((t for t in repair.trials if math.isfinite(_loss(t))), key=lambda t: (t.extra_bytes, _loss(t)))
    if not shown:
        return Markup("")
    axes = _Axes(shown, repair)
    unit = "drop in points" if shown[0].drop is not None else "drift p95 in pixels"
    title = f"{', '.join(repair.artifacts)}: {unit} over growth of the weights"
    front = [trial for trial in shown if trial.on_front]
    steps = " ".join(f"{x:.1f},{y:.1f}" for x, y in map(axes.place, front))
    marks = Markup("\n").join(_mark(trial, repair, axes) for trial in shown)
    return Markup(
        '<figure class="pareto"><svg role="img" aria-labelledby="{name}-title {name}-desc" '
        'viewBox="0 0 {width} {height}">\n<title id="{name}-title">{title}</title>\n'
        '<desc id="{name}-desc">{described}</desc>\n{axes}\n<polyline class="front" points="{steps}"/>\n{marks}\n'
        "</svg><figcaption>{key}</figcaption></figure>"
    ).format(
        name=name,
        width=_WIDTH,
        height=_HEIGHT,
        title=title,
        described=_described(repair, front),
        axes=axes.drawn(unit),
        steps=steps,
        marks=marks,
        key=_KEY,
    )


def _described(repair: RepairEntry, front: Sequence[TrialEntry]) -> str:
    each = "; ".join(_words(trial, repair) for trial in front)
    return f"{len(repair.trials)} networks were judged. On the front: {each}. Chosen: {_words(repair.chosen, repair)}."


def _words(trial: TrialEntry, repair: RepairEntry) -> str:
    lost = f"drift {pixels(trial.drift_p95_px)} px" if trial.drop is None else f"drop {points(trial.drop)} points"
    return f"{trial.integer_operators} int8 operators, weights grow by {repair.growth_percent(trial):.1f}%, {lost}"


def _mark(trial: TrialEntry, repair: RepairEntry, axes: "_Axes") -> Markup:
    x, y = axes.place(trial)
    kind = "passed" if trial.passed else "failed"
    circle = Markup('<circle class="{}" cx="{:.1f}" cy="{:.1f}" r="{}"><title>{}</title></circle>')
    mark = circle.format(kind, x, y, _RADIUS, _words(trial, repair))
    if trial.chosen:
        mark += Markup('<circle class="chosen" cx="{:.1f}" cy="{:.1f}" r="{}"/>').format(x, y, 2 * _RADIUS)
    if trial.on_front:
        number = Markup('<text x="{:.1f}" y="{:.1f}">{}</text>')
        mark += number.format(x + 2.4 * _RADIUS, y - _RADIUS, trial.integer_operators)
    return mark


class _Axes:
    """Where values lie in the picture."""

    def __init__(self, trials: Sequence[TrialEntry], repair: RepairEntry) -> None:
        self._repair = repair
        self._columns = ticks(max(repair.growth_percent(trial) for trial in trials))
        self._rows = ticks(max(0.0, *map(_loss, trials)))
        self._lowest = min(0.0, *map(_loss, trials))

    def place(self, trial: TrialEntry) -> tuple[float, float]:
        """Give x and y of a trial."""
        return self._x(self._repair.growth_percent(trial)), self._y(_loss(trial))

    def _x(self, growth: float) -> float:
        return _LEFT + (_WIDTH - _LEFT - _RIGHT) * growth / self._columns[-1]

    def _y(self, loss: float) -> float:
        span = self._rows[-1] - self._lowest
        return _TOP + (_HEIGHT - _TOP - _BOTTOM) * (self._rows[-1] - loss) / span

    def drawn(self, unit: str) -> Markup:
        """Draw grid, numbers and names of the axes."""
        bottom, right, middle = _HEIGHT - _BOTTOM, _WIDTH - _RIGHT, (_HEIGHT - _BOTTOM + _TOP) / 2
        across, down = (Markup('<path class="grid" d="M{:.1f} {:.1f}' + way + '{}"/>') for way in "HV")
        lines = [across.format(_LEFT, self._y(row), right) for row in self._rows]
        lines += [down.format(self._x(column), _TOP, bottom) for column in self._columns]
        beside = Markup('<text class="tick end" x="{}" y="{:.1f}">{:g}</text>')
        lines += [beside.format(_LEFT - 8, self._y(row) + 4, row) for row in self._rows]
        below = Markup('<text class="tick middle" x="{:.1f}" y="{}">{:g}%</text>')
        lines += [below.format(self._x(column), bottom + 18, column) for column in self._columns]
        name = Markup('<text class="middle" x="{:.0f}" y="{}">weights grow by</text>')
        lines.append(name.format((_LEFT + right) / 2, _HEIGHT - 8))
        turned = Markup('<text class="middle" transform="translate(16 {:.0f}) rotate(-90)">{}</text>')
        lines.append(turned.format(middle, unit))
        return Markup("\n").join(lines)
