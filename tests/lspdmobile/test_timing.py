import math
import random

import pytest

from lspdmobile.timing import Timing, in_turns, median_interval


class Clock:
    """A clock that only calls move."""

    def __init__(self) -> None:
        self.now = 0.0
        self.calls: list[str] = []

    def worker(self, name: str, seconds: list[float]) -> object:
        """Give a call that takes the seconds listed, one after the other."""
        left = iter(seconds)

        def work() -> None:
            self.calls.append(name)
            self.now += next(left)

        return work

    def __call__(self) -> float:
        """Tell the time."""
        return self.now


def test_contenders_take_turns_and_the_warm_up_does_not_count() -> None:
    clock = Clock()
    first, second = clock.worker("first", [9, 0.001, 0.002]), clock.worker("second", [9, 0.003, 0.008])

    found = in_turns({"first": first, "second": second}, rounds=2, warm_up=1, clock=clock)  # type: ignore[dict-item]

    assert clock.calls == ["first", "second"] * 3
    assert found["first"].ms == pytest.approx((1, 2))
    assert found["second"].ratios(found["first"]) == pytest.approx((3, 4))


def test_progress_counts_rounds_with_the_warm_up() -> None:
    seen: list[tuple[int, int]] = []

    in_turns({"a": lambda: None}, rounds=2, warm_up=1, progress=lambda done, total: seen.append((done, total)))

    assert seen == [(1, 3), (2, 3), (3, 3)]


def test_spread_of_one_round_is_that_round() -> None:
    assert Timing(ms=(4.0,)).middle_half == (4.0, 4.0)


def test_median_and_middle_half() -> None:
    timing = Timing(ms=(5.0, 1.0, 2.0, 4.0, 3.0))

    assert (timing.median, timing.middle_half) == (3.0, (2.0, 4.0))


def test_few_values_say_nothing_about_the_median() -> None:
    assert median_interval((1.0, 2.0, 3.0, 4.0, 5.0)) == (-math.inf, math.inf)


def test_six_values_are_the_fewest() -> None:
    """All six on one side of the median happens in 2 of 64 cases, 3.1 %."""
    assert median_interval((3.0, 1.0, 6.0, 2.0, 5.0, 4.0)) == (1.0, 6.0)


@pytest.mark.parametrize("count", [6, 20, 51])
def test_intervals_hold_the_median_as_often_as_they_say(count: int) -> None:
    draw = random.Random(0)
    trials, median = 2000, math.log(2)
    held = 0
    for _ in range(trials):
        low, high = median_interval(tuple(draw.expovariate(1) for _ in range(count)))
        held += low <= median <= high

    assert held / trials > 0.95 - 3 * math.sqrt(0.95 * 0.05 / trials)
    assert held / trials < 0.99, "the interval is wider than it has to be"
