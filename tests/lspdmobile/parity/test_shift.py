"""The shift that all joints share, beside noise that hides it from every percentile of the drift."""

import math

import numpy as np
import pytest

from lspdmobile.choices import Format, Precision, Verdict
from lspdmobile.parity.compare import Drift, Parity
from lspdmobile.parity.gate import Gate, judge
from lspdmobile.parity.shift import Shift

STRIDE = 4
NOISE_PX = 0.6


def _steps(pictures: int, shift: tuple[float, float], *, seed: int = 0, noise: float = NOISE_PX) -> np.ndarray:
    return np.random.default_rng(seed).normal(shift, noise, (pictures, 14, 2))


def _judged(shift: Shift, precision: Precision = Precision.W8A8) -> tuple[Verdict, tuple[str, ...]]:
    nothing = np.zeros(1, np.float32)
    drift = Drift(
        mean=0.8, p95=1.5, max=3.0, worst_image=0, agreement=1.0, agreement_pck={}, per_image=nothing, per_joint=nothing
    )
    parity = Parity(
        images=shift.pictures,
        heatmap_snr_db=28.0,
        heatmap_max_abs=0.1,
        heatmap_relative_error=1e-6 if precision is Precision.FP32 else 0.1,
        drift_px=drift,
        cell_px=STRIDE,
        shift=shift,
    )
    return judge(parity, None, precision, Format.EXECUTORCH, gate=Gate())


def test_the_mean_is_found_to_a_fraction_of_the_noise() -> None:
    shift = Shift.of(_steps(64, (0.5, -0.25)), cell_px=STRIDE)
    expected = NOISE_PX / math.sqrt(64 * 14)
    assert (shift.x, shift.y) == pytest.approx((0.5, -0.25), abs=4 * expected)
    assert shift.error_x == pytest.approx(expected, rel=0.4)
    assert (shift.pictures, shift.joints) == (64, 64 * 14)


def test_joints_that_went_to_another_peak_do_not_count() -> None:
    steps = _steps(64, (0.0, 0.0))
    steps[:10, 0] = (40.0, 0.0)
    shift = Shift.of(steps, cell_px=STRIDE)
    assert shift.joints == 64 * 14 - 10
    assert abs(shift.x) < 0.1


@pytest.mark.parametrize("shift", [(0.5, 0.0), (0.0, -0.5), (0.35, 0.35)])
@pytest.mark.parametrize("precision", [Precision.FP32, Precision.W8A8])
def test_half_a_pixel_fails_though_the_drift_is_within_its_limit(
    shift: tuple[float, float], precision: Precision
) -> None:
    verdict, reasons = _judged(Shift.of(_steps(64, shift), cell_px=STRIDE), precision)
    assert verdict is Verdict.FAIL
    assert [reason for reason in reasons if reason.startswith("all joints together moved by")] == list(reasons)


@pytest.mark.parametrize("seed", range(20))
def test_noise_that_goes_every_way_passes(seed: int) -> None:
    assert _judged(Shift.of(_steps(64, (0.0, 0.0), seed=seed), cell_px=STRIDE))[0] is Verdict.PASS


def test_few_noisy_pictures_decide_nothing_unless_the_heatmaps_are_exact() -> None:
    shift = Shift.of(_steps(3, (0.1, 0.1), noise=1.5), cell_px=STRIDE)
    verdict, reasons = _judged(shift)
    assert verdict is Verdict.UNDECIDED
    assert "3 pictures cannot show it" in reasons[0]
    assert _judged(shift, Precision.FP32)[0] is Verdict.PASS


def test_one_picture_has_no_standard_error() -> None:
    shift = Shift.of(_steps(1, (0.0, 0.0)), cell_px=STRIDE)
    assert shift.half_widths(0.95) == (math.inf, math.inf)
    assert Shift.of(np.full((2, 3, 2), 99.0), cell_px=STRIDE).joints == 0
