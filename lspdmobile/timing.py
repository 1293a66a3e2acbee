"""Times taken in turns, and what a median of few of them may be."""

import math
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeVar

__all__ = ["Timing", "in_turns", "median_interval"]

K = TypeVar("K")


@dataclass(frozen=True, kw_only=True)
class Timing:
    """Milliseconds of one contender, a figure a round, in the order of the rounds."""

    ms: tuple[float, ...]

    @property
    def median(self) -> float:
        """The median."""
        return statistics.median(self.ms)

    @property
    def middle_half(self) -> tuple[float, float]:
        """First and third quartile; the median twice where there is one round."""
        if len(self.ms) == 1:
            return self.ms[0], self.ms[0]
        low, _, high = statistics.quantiles(self.ms, n=4, method="inclusive")
        return low, high

    def ratios(self, baseline: "Timing") -> tuple[float, ...]:
        """Divide round by round by a contender that took turns with this one."""
        return tuple(own / other for own, other in zip(self.ms, baseline.ms, strict=True))


def in_turns(
    contenders: Mapping[K, Callable[[], object]],
    *,
    rounds: int,
    warm_up: int = 5,
    clock: Callable[[], float] = time.perf_counter,
    progress: Callable[[int, int], None] | None = None,
) -> dict[K, Timing]:
    """Time contenders one after the other, round by round, so a slow moment of the machine meets all of them.

    Args:
        contenders: What to call.
        rounds: Counted calls of each.
        warm_up: Rounds before them that do not count.
        clock: In seconds; ``time.process_time`` counts this process' CPU time.
        progress: Called with rounds done and their number.
    """
    found: dict[K, list[float]] = {name: [] for name in contenders}
    for turn in range(warm_up + rounds):
        for name, contender in contenders.items():
            started = clock()
            contender()
            if turn >= warm_up:
                found[name].append(1000 * (clock() - started))
        if progress:
            progress(turn + 1, warm_up + rounds)
    return {name: Timing(ms=tuple(times)) for name, times in found.items()}


def median_interval(values: tuple[float, ...], confidence: float = 0.95) -> tuple[float, float]:
    """Give an interval that holds the median of what the values are drawn from, whatever its distribution.

    The ends are order statistics: of n values, the number below the median is binomial with one half (David and
    Nagaraja, Order Statistics, section 7.1). Too few values for any
    two of them to be as sure give minus and plus infinity.
    """
    ordered, count = sorted(values), len(values)
    tail, below = (1 - confidence) / 2, 0.0
    for left_out in range(count // 2 + 1):
        below += math.comb(count, left_out) / 2**count
        if below > tail:
            return (ordered[left_out - 1], ordered[count - left_out]) if left_out else (-math.inf, math.inf)
    return ordered[0], ordered[-1]
