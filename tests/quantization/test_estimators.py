"""Ranges against hand-worked numbers and against trying everything on small tensors."""

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from quantization.affine import activation_grid, dequantize, quantize
from quantization.estimators import LEVELS, entropy_range, holding_zero, mse_range, percentile_range
from quantization.histogram import Histogram
from quantization.plan import TensorRange

Floats = NDArray[np.float32]
SEARCHED: list[Callable[[Histogram], tuple[float, float]]] = [mse_range, entropy_range]
TENSORS = st.builds(
    lambda seed, size, low, shift: _tensor(seed, size, low=low, shift=shift),
    st.integers(0, 10_000),
    st.sampled_from([1, 2, 7, 100, 3000]),
    st.sampled_from(["any", "relu", "minus relu"]),
    st.sampled_from([0.0, 0.5, 5.0, -5.0]),
)


def _tensor(seed: int, size: int, *, low: str, shift: float) -> Floats:
    values = np.random.default_rng(seed).standard_t(3, size).astype(np.float32) + np.float32(shift)
    bounds: dict[str, tuple[float | None, float | None]] = {
        "any": (None, None),
        "relu": (0.0, None),
        "minus relu": (None, 0.0),
    }
    cut: Floats = np.clip(values, *bounds[low])
    return cut


def histogram(values: Floats) -> Histogram:
    return Histogram.of(torch.from_numpy(values), float(values.min()), float(values.max()))


def squared_error(values: Floats, low: float, high: float) -> float:
    """Round the values themselves to the grid that every emitter uses."""
    grid = activation_grid(TensorRange(low=low, high=high))
    return float(np.square(dequantize(quantize(values, grid), grid).astype(np.float64) - values).mean())


def test_a_percentile_of_one_sided_values_cuts_the_top_only() -> None:
    # Bins are half a unit wide; 1 % of 1, 2 ... 1000 are the ten from 991 on, and 990 lies below the edge 990.5.
    found = percentile_range(histogram(np.arange(1, 1001, dtype=np.float32)), 99.0)
    assert found == (0.0, 990.5)


def test_a_percentile_of_values_on_both_sides_cuts_half_at_either_end() -> None:
    # Bins are half a unit wide; 1 % of -500 ... 499 is five values at either end, and 494 lies below the edge 494.5.
    found = percentile_range(histogram(np.arange(-500, 500, dtype=np.float32)), 99.0)
    assert found == (-495.0, 494.5)


def test_the_hundredth_percentile_is_min_and_max() -> None:
    values = np.asarray([-1.25, 0.3, 7.77], np.float32)
    assert percentile_range(histogram(values), 100.0) == (float(values[0]), float(values[2]))


@given(TENSORS, st.sampled_from([90.0, 99.0, 99.9, 99.99]))
def test_no_more_is_clipped_than_was_said_and_a_bin_more_would_be(values: Floats, percentile: float) -> None:
    found = histogram(values)
    low, high = percentile_range(found, percentile)
    allowed = (1 - percentile / 100) * len(values)
    assert ((values < low) | (values > high)).sum() <= allowed * (1 + 1e-9)
    side = allowed / 2 if values.min() < 0 < values.max() else allowed
    if high > 0:
        assert (values >= high - found.width).sum() > side * (1 - 1e-9)
    if low < 0:
        assert (values < low + found.width).sum() > side * (1 - 1e-9)


def test_one_outlier_among_many_small_values_is_clipped_by_mse_as_far_as_it_pays() -> None:
    # n values spread over 0..1 and one at A: a range to h costs n h^2 / (12 * 255^2) by rounding and (A - h)^2 by
    # clipping, the sum of which is smallest at h = A / (1 + n / (12 * 255^2)).
    n, outlier = 780_300, 8.0
    values = np.append(np.linspace(0, 1, n, dtype=np.float32), np.float32(outlier))
    low, high = mse_range(histogram(values))
    assert low == 0
    assert high == pytest.approx(outlier / (1 + n / (12 * LEVELS**2)), rel=0.03)


def test_evenly_spread_values_are_not_clipped() -> None:
    values = np.linspace(-1, 1, 20_001, dtype=np.float32)
    for estimate in SEARCHED:
        low, high = estimate(histogram(values))
        assert low == pytest.approx(-1, abs=0.02)
        assert high == pytest.approx(1, abs=0.02)


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("kind", ["any", "relu"])
def test_mse_finds_what_trying_every_range_on_the_values_finds(seed: int, kind: str) -> None:
    values = _tensor(seed, 1500, low=kind, shift=0.3)
    low, high = holding_zero(float(values.min()), float(values.max()))
    lows = np.linspace(low, 0, 40, endpoint=False) if low < 0 else [0.0]
    tried = min(squared_error(values, a, b) for a in lows for b in np.linspace(high, 0, 80, endpoint=False))
    found = squared_error(values, *mse_range(histogram(values)))
    # The bins are as wide as a quarter of a step or less; they and the search may cost a few percent of the error.
    assert found <= 1.05 * min(tried, squared_error(values, low, high))


def kl(values: Floats, found: Histogram, low: float, high: float) -> float:
    """Compute the divergence of a range bin by bin, in plain loops, as the docstring of entropy_range says it."""
    bins = [
        (min(max(centre, found.low), found.high), int(count))
        for i, (centre, count) in enumerate(zip(found.centres, found.counts, strict=True))
        if count and i != -found.first
    ]
    scale = (high - low) / LEVELS
    lowest = max(round(low / scale), -LEVELS)
    inside = [(c, n) for c, n in bins if low <= c <= high]
    if not inside:
        return math.inf
    truth = [float(n) for _, n in inside]
    truth[0] += sum(n for c, n in bins if c < low)
    truth[-1] += sum(n for c, n in bins if c > high)
    levels = [min(max(round(c / scale), lowest), lowest + LEVELS) for c, _ in inside]
    kept = sum(n for _, n in inside)
    total = 0.0
    for level, p in zip(levels, truth, strict=True):
        members = [n for (_, n), other in zip(inside, levels, strict=True) if other == level]
        q = sum(members) / len(members) / kept
        total += p / sum(truth) * math.log(p / sum(truth) / q)
    assert len(values) == found.total
    return total


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("kind", ["any", "relu"])
def test_entropy_finds_nearly_what_trying_every_range_finds(seed: int, kind: str) -> None:
    values = _tensor(seed, 400, low=kind, shift=0.3)
    found = histogram(values)
    low, high = holding_zero(found.low, found.high)
    lows = np.linspace(low, 0, 8, endpoint=False) if low < 0 else [0.0]
    tried = min(kl(values, found, a, b) for a in lows for b in np.linspace(high, 0, 16, endpoint=False))
    chosen = kl(values, found, *entropy_range(found))
    assert chosen <= 1.1 * tried + 1e-9
    assert chosen <= kl(values, found, low, high) + 1e-9


def test_entropy_weighs_a_far_outlier_less_than_min_max() -> None:
    values = np.append(np.random.default_rng(0).exponential(1.0, 50_000), 60.0).astype(np.float32)
    low, high = entropy_range(histogram(values))
    assert low == 0
    assert 5 < high < 30


@given(TENSORS)
def test_every_range_holds_zero_and_lies_within_the_values_own(values: Floats) -> None:
    found = histogram(values)
    widest = holding_zero(found.low, found.high)
    for low, high in (percentile_range(found, 99.0), mse_range(found), entropy_range(found)):
        assert widest[0] <= low <= 0 <= high <= widest[1]


@given(TENSORS)
def test_behind_a_relu_the_low_end_is_exactly_zero(values: Floats) -> None:
    found = histogram(np.maximum(values, 0))
    assert {percentile_range(found, 99.0)[0], mse_range(found)[0], entropy_range(found)[0]} == {0.0}


@given(TENSORS, st.integers(0, 100))
def test_the_order_of_the_values_does_not_matter(values: Floats, seed: int) -> None:
    shuffled = np.random.default_rng(seed).permutation(values)
    for estimate in SEARCHED:
        assert estimate(histogram(values)) == estimate(histogram(shuffled))


@pytest.mark.parametrize("estimate", SEARCHED)
@pytest.mark.parametrize("exponent", [-20, 3, 15])
def test_ranges_scale_with_the_values(estimate: Callable[[Histogram], tuple[float, float]], exponent: int) -> None:
    values = _tensor(5, 2000, low="any", shift=0.0)
    scaled = estimate(histogram(values * np.float32(2.0**exponent)))
    assert scaled == tuple(end * 2.0**exponent for end in estimate(histogram(values)))


@pytest.mark.parametrize("estimate", SEARCHED)
def test_an_all_zero_tensor_has_an_empty_range(estimate: Callable[[Histogram], tuple[float, float]]) -> None:
    assert estimate(histogram(np.zeros(10, np.float32))) == (0.0, 0.0)
