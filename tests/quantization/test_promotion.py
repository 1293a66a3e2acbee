"""The search for what stays in float, against rules whose answer is known."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from quantization.promotion import Outcome, promoted
from quantization.sensitivity import Candidate

PLENTY = 10**9


def candidate(name: str, share: float, *, size: int = 1000, kind: str = "unit", units: str = "") -> Candidate:
    return Candidate(
        name=name,
        kind=kind,
        growth=dict.fromkeys(units or name, size),
        alone_db=30.0,
        left_out_db=30.0,
        share=share,
        gain=share,
        cause="planted",
    )


def needing(*names: str) -> Callable[[frozenset[str]], Outcome]:
    """Judge: passes where all of these stay in float; each that does takes a point off the drop."""

    def evaluate(kept: frozenset[str]) -> Outcome:
        missing = len(set(names) - kept)
        return Outcome(passed=not missing, drop=float(missing), drift_p95_px=1.0 + missing)

    return evaluate


MANY = [candidate(chr(97 + i), 0.5 / (1 + i)) for i in range(20)]


def test_a_network_that_passes_is_left_alone() -> None:
    found = promoted(MANY, needing(), extra_bytes=PLENTY)
    assert (found.passed, found.kept, len(found.trials)) == (True, frozenset(), 1)


@pytest.mark.parametrize("wanted", ["a", "c", "ab", "ag", "bt"])
def test_only_what_is_needed_stays_in_float(wanted: str) -> None:
    found = promoted(MANY, needing(*wanted), extra_bytes=PLENTY)
    assert found.passed
    assert found.kept == set(wanted), "what did not help was given back"
    assert found.trials[-1].outcome.passed or found.trials[-1].kept != found.kept
    first = [c.name for c in MANY].index(max(wanted)) + 1
    assert len(found.trials) <= 2 * first.bit_length() + first + 2


def test_few_evaluations_where_the_ranking_is_right() -> None:
    found = promoted(MANY, needing("a"), extra_bytes=PLENTY)
    assert len(found.trials) == 2


def test_bytes_count_as_much_as_noise() -> None:
    heavy, light = candidate("h", 0.5, size=10**6), candidate("l", 0.3)
    found = promoted([heavy, light], needing("l"), extra_bytes=PLENTY)
    assert found.kept == {"l"}
    assert len(found.trials) == 2


def test_what_does_not_fit_is_never_tried() -> None:
    heavy, light = candidate("h", 0.9, size=10**6), candidate("l", 0.3)
    found = promoted([heavy, light], needing("h"), extra_bytes=5000)
    assert not found.passed
    assert found.kept == frozenset(), "nothing helped"
    assert all("h" not in trial.kept for trial in found.trials)


def test_where_nothing_passes_the_best_is_given() -> None:
    found = promoted(MANY[:4], needing("a", "b", "z"), extra_bytes=PLENTY)
    assert not found.passed
    assert found.kept == {"a", "b"}


def test_units_that_two_candidates_share_are_counted_once() -> None:
    both = [candidate("x", 0.5, units="ab"), candidate("y", 0.4, units="bc")]
    found = promoted(both, needing(*"abc"), extra_bytes=PLENTY)
    assert {t.kept: t.extra_bytes for t in found.trials}[frozenset("abc")] == 3000
    assert promoted(both, needing(*"abc"), extra_bytes=3000).passed
    assert (found.trial.kept, found.trial.extra_bytes) == (frozenset("abc"), 3000)


def test_what_the_worst_fault_hid_is_found_beside_it() -> None:
    loud, useless, hidden = candidate("l", 0.9), candidate("u", 0.05), candidate("h", 0.001)
    asked: list[frozenset[str]] = []

    def beside(kept: frozenset[str]) -> list[Candidate]:
        asked.append(kept)
        return [replace(hidden, share=0.8, gain=0.8)]

    first = [loud, useless, hidden]
    assert not promoted(first, needing("l", "h"), extra_bytes=PLENTY).passed
    found = promoted(first, needing("l", "h"), extra_bytes=PLENTY, rank_beside=beside)
    assert (found.passed, found.kept) == (True, frozenset("lh"))
    assert asked == [frozenset("l")], "the useless one is not built upon"
    assert promoted(first, needing("l", "h"), extra_bytes=1999, rank_beside=beside).kept == {"l"}


def test_a_second_ranking_that_finds_nothing_ends_the_search() -> None:
    found = promoted(MANY[:2], needing("a", "z"), extra_bytes=PLENTY, rank_beside=lambda _: [])
    assert (found.passed, found.kept) == (False, frozenset("a"))
    nothing = promoted(MANY[:2], needing("z"), extra_bytes=PLENTY, rank_beside=lambda _: MANY)
    assert (nothing.passed, nothing.kept) == (False, frozenset()), "nothing helped: no second ranking"
    endless = promoted(
        MANY[:1], needing(*"abcdefghijz"), extra_bytes=PLENTY, rank_beside=lambda kept: MANY[len(kept) : len(kept) + 1]
    )
    assert not endless.passed
    assert endless.kept == frozenset("abcde"), "four more rankings"


def test_blocks_and_what_costs_nothing_to_keep_integer_are_left_out() -> None:
    others = [candidate("b", 0.9, kind="block"), candidate("q", 0.001)]
    found = promoted([*others, candidate("a", 0.2)], needing("z"), extra_bytes=PLENTY)
    assert all(trial.kept <= {"a"} for trial in found.trials)


def test_a_unit_whose_neighbours_round_the_same_tensor_is_worth_nothing() -> None:
    alone = replace(candidate("u", 0.9), gain=0.0)
    around = candidate("t", 0.9, kind="tensor", units="uv")
    found = promoted([alone, around], needing("u", "v"), extra_bytes=PLENTY)
    assert [trial.kept for trial in found.trials] == [frozenset(), frozenset("uv")]
