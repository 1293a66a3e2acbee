"""Tensor metrics against their formulas."""

import math

import numpy as np
import pytest

from lspdmobile.parity.metrics import TENSOR_METRICS, TensorMetric, max_abs, relative_error, snr_db


def _a() -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    return np.random.default_rng(0).normal(size=(2, 3, 4, 4)).astype(np.float32)


def test_snr_of_a_tenth_of_the_signal_is_twenty_decibels() -> None:
    a = _a()
    assert snr_db(a, (a * np.float32(0.9)).astype(np.float32)) == pytest.approx(20.0, abs=1e-4)


def test_max_abs_and_relative_error_find_one_planted_value() -> None:
    a = _a()
    b = a.copy()
    b[1, 2, 3, 0] += 0.25
    assert max_abs(a, b) == pytest.approx(0.25, rel=1e-6)
    assert relative_error(a, b) == pytest.approx(0.25 / np.abs(a).max(), rel=1e-6)


def test_identical_tensors_have_infinite_snr_and_no_error() -> None:
    a = _a()
    assert (snr_db(a, a), max_abs(a, a), relative_error(a, a)) == (math.inf, 0.0, 0.0)


def test_a_zero_reference_is_told_apart_from_a_zero_difference() -> None:
    zero, one = np.zeros((1, 1, 2, 2), np.float32), np.ones((1, 1, 2, 2), np.float32)
    assert (relative_error(zero, zero), relative_error(zero, one)) == (0.0, math.inf)
    assert (snr_db(zero, zero), snr_db(zero, one)) == (math.inf, -math.inf)


@pytest.mark.parametrize("metric", TensorMetric)
@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_value_that_is_not_finite_makes_every_metric_nan(metric: TensorMetric, bad: float) -> None:
    a = _a()
    b = a.copy()
    b[0, 0, 0, 0] = bad
    assert math.isnan(TENSOR_METRICS[metric](a, b))
    assert math.isnan(TENSOR_METRICS[metric](np.zeros_like(a), b))


@pytest.mark.parametrize("metric", TensorMetric)
def test_shapes_that_differ_or_are_empty_are_refused(metric: TensorMetric) -> None:
    a = _a()
    with pytest.raises(ValueError, match="one shape"):
        TENSOR_METRICS[metric](a, a[:1])
    with pytest.raises(ValueError, match="empty"):
        TENSOR_METRICS[metric](a[:0], a[:0])


def test_errors_below_float32_resolution_of_the_sum_are_not_lost() -> None:
    a = np.full((1, 1, 1000, 1000), 1.0, np.float32)
    b = a.copy()
    b[0, 0, 0, 0] = np.nextafter(np.float32(1), np.float32(2))
    step = float(b[0, 0, 0, 0]) - 1.0
    assert snr_db(a, b) == pytest.approx(10 * math.log10(1e6 / step**2), rel=1e-9)
