"""Streaming histograms against counting by hand and against each other."""

import math
from random import Random

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from quantization.histogram import BINS, Histogram

SMALLEST = 2.0**-60
"""Values further below the bins' width underflow in float32."""
VALUE = st.one_of(
    st.just(0.0), st.floats(SMALLEST, 1e6, width=32), st.floats(-1e6, -SMALLEST, width=32), st.floats(-4, 4, width=16)
)
PARTS = st.lists(st.lists(VALUE, min_size=1, max_size=30), min_size=1, max_size=6)


def histogram(values: list[float] | NDArray[np.float32]) -> Histogram:
    """Count values at once."""
    array = np.asarray(values, np.float32)
    return Histogram.of(torch.from_numpy(array), float(array.min()), float(array.max()))


def streamed(parts: list[list[float]]) -> Histogram:
    """Count values part by part."""
    found = histogram(parts[0])
    for part in parts[1:]:
        array = np.asarray(part, np.float32)
        found = found.with_values(torch.from_numpy(array), float(array.min()), float(array.max()))
    return found


def same(one: Histogram, other: Histogram) -> bool:
    """Whether two histograms have equal bins, counts and ends."""
    return (one.exponent, one.first, one.counts.tolist(), one.low, one.high) == (
        other.exponent,
        other.first,
        other.counts.tolist(),
        other.low,
        other.high,
    )


def test_bins_are_a_power_of_two_wide_and_start_at_multiples_of_it() -> None:
    # 3.0 in bins of 1/512 is bin 1536; bins of 1/1024 would need 3073 of them.
    found = histogram([0.0, 1 / 512, 1.0, 2.999, 3.0])
    assert (found.width, found.first, len(found.counts)) == (1 / 512, 0, 1537)
    assert np.flatnonzero(found.counts).tolist() == [0, 1, 512, 1535, 1536]


def test_negative_values_fall_into_the_bin_below() -> None:
    # -1 to 1 in bins of 1/512: 512 bins below 0, and 513 from 0 on, since 1 itself starts a bin.
    found = histogram([-1.0, -1e-6, 0.0, 1e-6, 1.0])
    assert (found.width, found.first, len(found.counts)) == (1 / 512, -512, 1025)
    assert {i - 512: found.counts[i] for i in np.flatnonzero(found.counts)} == {-512: 1, -1: 1, 0: 2, 512: 1}


def test_a_value_outside_doubles_the_width_and_joins_the_bins() -> None:
    before = histogram([0.0, 1 / 1024, 2 / 1024, 1.5])
    after = before.with_values(torch.tensor([2.5]), 2.5, 2.5)
    assert (before.width, after.width) == (1 / 1024, 1 / 512)
    assert before.counts[:3].tolist() == [1, 1, 1]
    assert after.counts[:2].tolist() == [2, 1]
    assert after.total == 5


@pytest.mark.parametrize("values", [[2.0, 5.0], [-5.0, -2.0], [0.0]])
def test_zero_is_always_an_edge_within_the_bins(values: list[float]) -> None:
    found = histogram(values)
    assert 0.0 in found.edges.tolist()
    assert found.first <= 0 < found.first + len(found.counts)
    assert found.total == len(values)


@given(PARTS)
def test_streaming_equals_counting_at_once(parts: list[list[float]]) -> None:
    assert same(streamed(parts), histogram([value for part in parts for value in part]))


@given(PARTS, st.randoms(use_true_random=False))
def test_the_order_does_not_matter(parts: list[list[float]], random: Random) -> None:
    shuffled = list(parts)
    random.shuffle(shuffled)
    assert same(streamed(parts), streamed(shuffled))


@given(PARTS, PARTS)
def test_two_halves_merged_are_the_whole(some: list[list[float]], others: list[list[float]]) -> None:
    assert same(streamed(some).merged(streamed(others)), streamed(some + others))


@given(st.lists(VALUE, min_size=1, max_size=60))
def test_every_value_lies_in_its_bin(values: list[float]) -> None:
    found = histogram(values)
    array = np.asarray(values, np.float32).astype(np.float64)
    wanted, _ = np.histogram(array, bins=np.append(found.edges[:-1], math.inf))
    assert found.counts.tolist() == wanted.tolist()


@given(st.lists(VALUE, min_size=1, max_size=30))
def test_the_bins_are_as_narrow_as_their_number_allows(values: list[float]) -> None:
    found = histogram(values)
    assert len(found.counts) <= BINS
    if max(abs(value) for value in values) > 0:
        half = found.width / 2
        last = math.floor(max(found.high, 0.0) / half)
        assert last - math.floor(min(found.low, 0.0) / half) + 1 > BINS
