"""Which operators stay in float so that a quantized network passes: few, small, and found with few evaluations.

Candidates are ranked by what they cost the heatmaps per byte they would grow by, without labels
(``quantization.sensitivity``). Then the first ones are kept in float together, twice as many each time, until the
network passes; bisection finds how many are needed, and each of them is given back once to see whether the others do.
Where none passes, the rest is ranked anew beside the best that was found: a fault that ruins the heatmaps hides how
much the other operators matter. An exhaustive ranking on the metric evaluates every operator.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from quantization.sensitivity import Candidate

__all__ = ["Outcome", "Promotion", "Trial", "promoted"]

_LEAST_WORTH: Final = 0.01
"""Of the noise; less is not worth a conversion to float and back."""
_MOST_RANKINGS: Final = 4
"""After the first."""
_BYTES_OF_CONVERTING: Final = 4096
"""Stands for the conversions around an operator, so that one without weights is not free."""


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What a network gave: whether it passes, its drop in points (None without labels) and its drift in pixels."""

    passed: bool
    drop: float | None
    drift_p95_px: float


@dataclass(frozen=True, kw_only=True)
class Trial:
    """One network that was evaluated: the units in float, what the weights grew by, and what it gave."""

    kept: frozenset[str]
    extra_bytes: int
    outcome: Outcome


@dataclass(frozen=True, kw_only=True)
class Promotion:
    """What was found.

    Attributes:
        passed: Whether a network passed; if not, ``kept`` is what gave the smallest drop.
        kept: Units that stay in float.
        chosen: The candidates they come from.
        trials: Every evaluation, in order.
    """

    passed: bool
    kept: frozenset[str]
    chosen: tuple[Candidate, ...]
    trials: tuple[Trial, ...]

    @property
    def trial(self) -> Trial:
        """Give the evaluation of what was chosen."""
        return next(trial for trial in self.trials if trial.kept == self.kept)


def promoted(
    candidates: Sequence[Candidate],
    evaluate: Callable[[frozenset[str]], Outcome],
    *,
    extra_bytes: int,
    rank_beside: Callable[[frozenset[str]], Sequence[Candidate]] | None = None,
) -> Promotion:
    """Find the units to keep in float.

    Args:
        candidates: Of one network, from ``sensitivity``.
        evaluate: Tells what the network gives where some units stay in float.
        extra_bytes: Most that the weights may grow by.
        rank_beside: Ranks what else could stay in float beside some units; None for no second ranking.
    """
    search = _Search(evaluate)
    if search.passes([]):
        return search.found([])
    order = _order(candidates, [], extra_bytes)
    failed, count = search.doubled(order, 0)
    for _ in range(_MOST_RANKINGS if rank_beside else 0):
        base = search.best(order)
        if count <= len(order) or not base:
            break
        assert rank_beside is not None
        order = _order(rank_beside(_units(base)), base, extra_bytes)
        failed, count = search.doubled(order, len(base))
    if count > len(order):
        return search.found(search.best(order), passed=False)
    while count - failed > 1:
        middle = (failed + count) // 2
        if search.passes(order[:middle]):
            count = middle
        else:
            failed = middle
    chosen = list(order[:count])
    for candidate in sorted(chosen[:-1], key=lambda each: -each.extra_bytes):
        fewer = [each for each in chosen if each is not candidate]
        if search.passes(fewer):
            chosen = fewer
    return search.found(chosen)


class _Search:
    """Evaluates sets of candidates, none twice."""

    def __init__(self, evaluate: Callable[[frozenset[str]], Outcome]) -> None:
        self._evaluate = evaluate
        self._trials: dict[frozenset[str], Trial] = {}

    def passes(self, chosen: Sequence[Candidate]) -> bool:
        units = _units(chosen)
        if units not in self._trials:
            size = _size(chosen)
            self._trials[units] = Trial(kept=units, extra_bytes=size, outcome=self._evaluate(units))
        return self._trials[units].outcome.passed

    def doubled(self, order: Sequence[Candidate], known: int) -> tuple[int, int]:
        """Take more of an order, twice as many each time, beyond the known ones.

        Returns:
            The largest count that failed and the smallest that passed; one more than there are where none did.
        """
        failed, step = known, 1
        while failed < len(order):
            count = min(known + step, len(order))
            if self.passes(order[:count]):
                return failed, count
            failed, step = count, 2 * step
        return failed, len(order) + 1

    def found(self, chosen: Sequence[Candidate], *, passed: bool = True) -> Promotion:
        trials = tuple(self._trials.values())
        return Promotion(passed=passed, kept=_units(chosen), chosen=tuple(chosen), trials=trials)

    def best(self, order: Sequence[Candidate]) -> list[Candidate]:
        """Give as much of an order as gave the smallest drop when it was tried, of equal ones the smallest."""
        tried = [list(order[:n]) for n in range(len(order) + 1) if _units(order[:n]) in self._trials]

        def rank(chosen: Sequence[Candidate]) -> tuple[float, float, int]:
            outcome = self._trials[_units(chosen)].outcome
            return outcome.drop or 0.0, outcome.drift_p95_px, len(chosen)

        return min(tried, key=rank)


def _order(candidates: Sequence[Candidate], base: Sequence[Candidate], extra_bytes: int) -> list[Candidate]:
    """Rank units and tensors by noise per byte, after a base; what brings no new unit or no longer fits is left out."""
    worth = [c for c in candidates if c.kind != "block" and c.worth >= _LEAST_WORTH]
    worth.sort(key=lambda c: (-c.worth / (c.extra_bytes + _BYTES_OF_CONVERTING), c.name))
    order = list(base)
    for candidate in worth:
        if candidate.units <= _units(order) or _size([*order, candidate]) > extra_bytes:
            continue
        order.append(candidate)
    return order


def _units(chosen: Sequence[Candidate]) -> frozenset[str]:
    return frozenset().union(*(candidate.units for candidate in chosen))


def _size(chosen: Sequence[Candidate]) -> int:
    """Add up what single units grow by; those that two candidates share count once."""
    grown: dict[str, int] = {}
    for candidate in chosen:
        grown.update(candidate.growth)
    return sum(grown.values())
