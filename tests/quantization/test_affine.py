import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lspdmobile.choices import Precision
from quantization.affine import (
    SMALLEST_SCALE,
    AffineGrid,
    activation_grid,
    dequantize,
    largest_weight,
    quantize,
    smallest_weight_scale,
    weight_bits,
    weight_scales,
)
from quantization.plan import TensorRange

ENDS = st.floats(-1e6, 1e6, allow_subnormal=False)


def test_a_range_from_zero_uses_all_integers() -> None:
    # 255 steps of 0.1 from -128 up.
    grid = activation_grid(TensorRange(low=0.0, high=25.5))
    assert math.isclose(grid.scale, 0.1)
    assert grid.zero_point == -128
    assert math.isclose(grid.high, 25.5)


def test_a_symmetric_range_puts_zero_in_the_middle() -> None:
    # 2.55 / 255 = 0.01; 1.28 is 128 steps above the lowest integer, which is 0.
    grid = activation_grid(TensorRange(low=-1.28, high=1.27))
    assert math.isclose(grid.scale, 0.01)
    assert grid.zero_point == 0


@pytest.mark.parametrize(
    ("low", "high", "scale", "zero_point"), [(2.0, 5.1, 5.1 / 255, -128), (-5.1, -2.0, 5.1 / 255, 127)]
)
def test_a_range_on_one_side_of_zero_is_widened_to_hold_it(
    low: float, high: float, scale: float, zero_point: int
) -> None:
    grid = activation_grid(TensorRange(low=low, high=high))
    assert grid.scale == pytest.approx(scale)
    assert grid.zero_point == zero_point


def test_an_all_zero_tensor_has_the_smallest_scale() -> None:
    grid = activation_grid(TensorRange(low=0.0, high=0.0))
    assert (grid.scale, grid.zero_point) == (SMALLEST_SCALE, -128)


@pytest.mark.parametrize(("low", "high"), [(1.0, 0.0), (0.0, math.inf), (math.nan, 1.0)])
def test_what_is_no_range_is_refused(low: float, high: float) -> None:
    with pytest.raises(ValueError, match="not a range"):
        activation_grid(TensorRange(low=low, high=high))


def test_integers_round_half_to_even_and_stop_at_the_ends() -> None:
    grid = AffineGrid(scale=0.5, zero_point=10)
    values = np.array([0.0, 0.25, 0.75, -0.25, 1e9, -1e9], np.float32)
    assert quantize(values, grid).tolist() == [10, 10, 12, 10, 127, -128]
    assert dequantize(np.array([10, 12, -128], np.int8), grid).tolist() == [0.0, 1.0, -69.0]


@given(ENDS, ENDS, st.floats(0, 1))
def test_what_lies_in_the_range_moves_by_half_a_step_at_most_and_zero_not_at_all(
    first: float, second: float, share: float
) -> None:
    low, high = sorted((first, second))
    grid = activation_grid(TensorRange(low=low, high=high))
    values = np.array([low, low + share * (high - low), high, 0.0])
    back = dequantize(quantize(values, grid), grid).astype(np.float64)
    # The zero point is rounded too, so an end of the range may lie half a step outside of the grid.
    assert np.abs(back - values).max() <= grid.scale * 1.001 + 1e-6 * np.abs(values).max()
    assert back[3] == 0


def test_each_output_channel_has_its_own_symmetric_weight_scale() -> None:
    weight = np.zeros((3, 2, 1, 1), np.float32)
    weight[0, 1] = -12.7
    weight[1] = 1.27
    assert weight_scales(weight) == pytest.approx([0.1, 0.01, SMALLEST_SCALE], rel=1e-6)
    assert weight_scales(weight, bits=4) == pytest.approx([12.7 / 7, 1.27 / 7, SMALLEST_SCALE], rel=1e-6)


def test_four_bits_are_for_layers_that_read_several_channels() -> None:
    assert [weight_bits(Precision.W4, channels) for channels in (1, 2, 96)] == [8, 4, 4]
    assert {weight_bits(p, c) for p in (Precision.W8, Precision.W8A8, Precision.W8A16) for c in (1, 96)} == {8}
    assert [largest_weight(bits) for bits in (4, 8)] == [7, 127]
    with pytest.raises(ValueError, match="palette4 has no integer weights"):
        weight_bits(Precision.PALETTE4, 3)


def test_a_bias_at_its_floor_is_two_to_the_thirty() -> None:
    floor = smallest_weight_scale(np.array([-3.0, 0.0]), 0.01)
    assert 3.0 / (0.01 * floor[0]) == pytest.approx(2.0**30)
    assert floor[1] == 0
