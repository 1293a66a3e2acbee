"""The gate: planted faults fail, noise passes, and every limit is where it says."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from lspdmobile.choices import Format, Precision, Verdict
from lspdmobile.deviation import Deviation
from lspdmobile.errors import BadInputError
from lspdmobile.parity.compare import Parity, compare
from lspdmobile.parity.drop import MetricDrop
from lspdmobile.parity.gate import DropType, Gate, judge
from lspdmobile.preprocess import PreprocessContract

Maps = NDArray[np.float32]
Draw = Callable[[NDArray[np.float64]], Maps]


def _swap_a_pair(maps: Maps) -> Maps:
    return np.concatenate([maps[:, :6], maps[:, 11:12], maps[:, 7:11], maps[:, 6:7], maps[:, 12:]], axis=1)


def _mirror(maps: Maps) -> Maps:
    return np.ascontiguousarray(maps[..., ::-1])


def _half_a_cell(maps: Maps) -> Maps:
    return ((maps + np.roll(maps, 1, axis=3)) / 2).astype(np.float32)


def _zero_a_joint(maps: Maps) -> Maps:
    zeroed = maps.copy()
    zeroed[:, 4] = 0
    return zeroed


def _one_nan(maps: Maps) -> Maps:
    bad = maps.copy()
    bad[3, 3, 3, 3] = np.nan
    return bad


def _transpose(maps: Maps) -> Maps:
    swapped: Maps = maps.swapaxes(2, 3).copy()
    return swapped


FAULTS = [_swap_a_pair, _mirror, _half_a_cell, _zero_a_joint, _one_nan, _transpose]


@pytest.fixture
def heatmaps(centres: NDArray[np.float64], gaussians: Draw) -> Maps:
    """Gaussians on a noisy floor, as a network gives them."""
    floor = np.random.default_rng(9).normal(0, 0.01, (12, 14, 24, 24))
    return np.maximum(gaussians(centres) + floor, 0).astype(np.float32)


def _noisy(maps: Maps, share: float) -> Maps:
    """Add noise whose largest value is this share of the largest heatmap value."""
    noise = np.random.default_rng(1).uniform(-1, 1, maps.shape)
    scaled: Maps = (noise * share * maps.max() / np.abs(noise).max()).astype(np.float32)
    return maps + scaled


def _drop(
    points: float,
    *,
    pictures: int = 100_000,
    spread: float = 0.0,
    float_value: float = 0.6,
    moved: int = 100,
    joints: int | None = None,
) -> MetricDrop:
    """Make a drop that half of the pictures are above and half below, by ``spread`` points."""
    return MetricDrop(
        name="pck@0.2",
        float_value=float_value,
        artifact_value=float_value - points / 100,
        drop=points,
        joints=14 * pictures if joints is None else joints,
        moved=moved,
        per_picture=points + spread * np.where(np.arange(pictures) % 2, 1.0, -1.0),
    )


@pytest.mark.parametrize("precision", Precision)
@pytest.mark.parametrize("fault", FAULTS)
def test_every_planted_fault_fails_at_every_precision_without_labels(
    heatmaps: Maps, contract: PreprocessContract, fault: Callable[[Maps], Maps], precision: Precision
) -> None:
    parity = compare(heatmaps, fault(heatmaps), contract=contract)
    verdict, reasons = judge(parity, None, precision, Format.TFLITE)
    assert verdict is Verdict.FAIL
    assert reasons
    assert all(any(c.isdigit() for c in reason) for reason in reasons)


@pytest.mark.parametrize(
    ("precision", "noise"),
    [
        (Precision.FP32, 9e-6),
        (Precision.FP16, 4e-3),
        (Precision.W8, 0.02),
        (Precision.W8A8, 0.02),
        (Precision.W8A16, 0.02),
    ],
)
@pytest.mark.parametrize("artifact_format", Format)
def test_the_noise_of_a_precision_passes(
    heatmaps: Maps, contract: PreprocessContract, precision: Precision, noise: float, artifact_format: Format
) -> None:
    parity = compare(heatmaps, _noisy(heatmaps, noise), contract=contract)
    verdict, reasons = judge(parity, _drop(0.2), precision, artifact_format)
    assert verdict is Verdict.PASS, reasons


@pytest.mark.parametrize(
    ("precision", "artifact_format", "noise"),
    [
        (Precision.FP32, Format.COREML, 2e-5),
        (Precision.FP32, None, 2e-5),
        (Precision.FP16, Format.COREML, 7e-3),
        (Precision.FP16, Format.TFLITE, 1.2e-2),
        (Precision.FP16, Format.EXECUTORCH, 7e-3),
    ],
)
def test_a_float_artifact_that_is_not_float_fails_on_its_heatmaps_alone(
    heatmaps: Maps, contract: PreprocessContract, precision: Precision, artifact_format: Format | None, noise: float
) -> None:
    parity = compare(heatmaps, _noisy(heatmaps, noise), contract=contract)
    verdict, reasons = judge(parity, _drop(0.0), precision, artifact_format)
    assert verdict is Verdict.FAIL
    assert len(reasons) == 1
    assert reasons[0].startswith("heatmaps differ by")


def _quiet(heatmaps: Maps, contract: PreprocessContract) -> Parity:
    return compare(heatmaps, heatmaps, contract=contract)


@pytest.mark.parametrize(
    ("points", "verdict"), [(0.99, "pass"), (1.0, "not enough pictures"), (1.01, "fail"), (-5.0, "pass")]
)
def test_the_absolute_budget_counts_points(
    heatmaps: Maps, contract: PreprocessContract, points: float, verdict: str
) -> None:
    assert judge(_quiet(heatmaps, contract), _drop(points), Precision.W8A8, Format.TFLITE)[0] == verdict


@pytest.mark.parametrize(("points", "verdict"), [(0.49, "pass"), (0.51, "fail")])
def test_the_relative_budget_counts_percent_of_the_float_metric(
    heatmaps: Maps, contract: PreprocessContract, points: float, verdict: str
) -> None:
    gate = Gate(max_drop=1.0, drop_type=DropType.RELATIVE)
    drop = _drop(points, float_value=0.5)
    found, reasons = judge(_quiet(heatmaps, contract), drop, Precision.W8A8, Format.TFLITE, gate=gate)
    assert found == verdict
    assert f"{2 * points:.2f} percent" in reasons[0]


def test_a_float_metric_of_zero_has_no_relative_drop(heatmaps: Maps, contract: PreprocessContract) -> None:
    gate = Gate(drop_type=DropType.RELATIVE)
    drop = _drop(0.0, float_value=0.0)
    assert judge(_quiet(heatmaps, contract), drop, Precision.W8A8, Format.TFLITE, gate=gate)[0] is Verdict.PASS


def test_a_drop_metric_that_is_nan_fails(heatmaps: Maps, contract: PreprocessContract) -> None:
    assert judge(_quiet(heatmaps, contract), _drop(math.nan), Precision.W8A8, Format.TFLITE)[0] is Verdict.FAIL


def test_a_pass_without_labels_says_so(heatmaps: Maps, contract: PreprocessContract) -> None:
    verdict, reasons = judge(_quiet(heatmaps, contract), None, Precision.W8A8, Format.TFLITE)
    assert verdict is Verdict.PASS
    assert any(reason.startswith("no labels") for reason in reasons)


@pytest.mark.parametrize("precision", [Precision.W8A8, Precision.FP32])
def test_an_interval_across_the_budget_is_no_pass_and_says_what_would_decide(
    heatmaps: Maps, contract: PreprocessContract, precision: Precision
) -> None:
    drop = _drop(0.5, pictures=400, spread=6.0)
    verdict, reasons = judge(_quiet(heatmaps, contract), drop, precision, Format.TFLITE)
    assert verdict is Verdict.UNDECIDED
    assert len(reasons) == 1
    wanted = drop.pictures_needed(1.0, 0.95)
    assert wanted is not None
    assert reasons[0].endswith(f"400 pictures cannot show it, about {wanted} would")
    enough = _drop(0.5, pictures=wanted, spread=6.0)
    assert judge(_quiet(heatmaps, contract), enough, precision, Format.TFLITE)[0] is Verdict.PASS


@pytest.mark.parametrize(
    ("pictures", "verdict"), [(8, "not enough pictures"), (295, "not enough pictures"), (300, "pass")]
)
def test_pictures_of_which_none_changed_leave_room_for_300_points_by_their_number(
    heatmaps: Maps, contract: PreprocessContract, pictures: int, verdict: str
) -> None:
    drop = _drop(0.0, pictures=pictures, moved=0)
    assert judge(_quiet(heatmaps, contract), drop, Precision.W8A8, Format.TFLITE)[0] == verdict


def test_a_float_artifact_whose_joints_stay_needs_no_more_pictures(
    heatmaps: Maps, contract: PreprocessContract
) -> None:
    drop = _drop(0.0, pictures=8, moved=0)
    for precision in (Precision.FP32, Precision.FP16):
        verdict, reasons = judge(_quiet(heatmaps, contract), drop, precision, Format.TFLITE)
        assert verdict is Verdict.PASS
        assert "no joint of 112 moved" in reasons[0]


@pytest.mark.parametrize(("moved", "verdict"), [(1, "pass"), (9, "pass"), (10, "not enough pictures")])
def test_joints_of_a_float_artifact_that_moved_have_to_be_too_few_to_cost_the_budget(
    heatmaps: Maps, contract: PreprocessContract, moved: int, verdict: str
) -> None:
    """Of 1,792 joints 17.92 may be lost; a Poisson count of 9 may stand for 17.1, of 10 for 18.4."""
    drop = _drop(0.0, pictures=128, moved=moved)
    found, reasons = judge(_quiet(heatmaps, contract), drop, Precision.FP16, Format.COREML)
    assert found == verdict
    assert (f"{moved} of 1792" in reasons[0]) == (verdict == "pass")


def test_a_float_artifact_that_is_not_float_fails_whatever_its_joints(
    heatmaps: Maps, contract: PreprocessContract
) -> None:
    parity = compare(heatmaps, _noisy(heatmaps, 2e-5), contract=contract)
    verdict, reasons = judge(parity, _drop(0.0, pictures=8, moved=0), Precision.FP32, Format.TFLITE)
    assert verdict is Verdict.FAIL
    assert len(reasons) == 1


@pytest.mark.parametrize(
    ("spread", "told"), [(1.0, "which the interval excludes"), (9.0, "which is within the interval")]
)
def test_a_failure_says_whether_it_may_be_chance(
    heatmaps: Maps, contract: PreprocessContract, spread: float, told: str
) -> None:
    drop = _drop(1.5, pictures=128, spread=spread)
    verdict, reasons = judge(_quiet(heatmaps, contract), drop, Precision.W8A8, Format.TFLITE)
    assert verdict is Verdict.FAIL
    assert told in reasons[0]


def test_less_confidence_needs_fewer_pictures(heatmaps: Maps, contract: PreprocessContract) -> None:
    drop = _drop(0.0, pictures=270)
    for confidence, verdict in ((0.95, Verdict.UNDECIDED), (0.9, Verdict.PASS)):
        gate = Gate(confidence=confidence)
        found, reasons = judge(_quiet(heatmaps, contract), drop, Precision.W8A8, Format.TFLITE, gate=gate)
        assert found is verdict
        assert f"{100 * confidence:g}% interval" in reasons[0]


def test_a_drop_that_uses_the_budget_up_is_not_sent_for_more_pictures(
    heatmaps: Maps, contract: PreprocessContract
) -> None:
    verdict, reasons = judge(_quiet(heatmaps, contract), _drop(1.0), Precision.W8A8, Format.TFLITE)
    assert verdict is Verdict.UNDECIDED
    assert "more of them would not" in reasons[0]


@pytest.mark.parametrize("confidence", [0.0, 0.4, 1.0, 95.0, math.nan])
def test_a_confidence_that_cannot_be_one_is_refused(confidence: float) -> None:
    with pytest.raises(BadInputError, match="--confidence"):
        Gate(confidence=confidence)


def test_all_failures_are_told_at_once(heatmaps: Maps, contract: PreprocessContract) -> None:
    parity = compare(heatmaps, _mirror(heatmaps), contract=contract)
    verdict, reasons = judge(parity, _drop(30.0), Precision.FP32, Format.COREML)
    assert verdict is Verdict.FAIL
    assert len(reasons) == 3


def test_the_drift_limit_follows_the_gate(heatmaps: Maps, contract: PreprocessContract) -> None:
    parity = compare(heatmaps, _half_a_cell(heatmaps), contract=contract)
    assert (
        judge(parity, None, Precision.W8, Format.COREML, gate=Gate(max_drift_p95_cells=0.6, max_shift_px=8))[0]
        is Verdict.PASS
    )


@pytest.mark.parametrize("budget", [-0.1, math.nan, math.inf])
def test_a_budget_that_cannot_be_one_is_refused(budget: float) -> None:
    with pytest.raises(BadInputError, match="--max-drop"):
        Gate(max_drop=budget)


@pytest.mark.parametrize(
    ("change", "verdict"),
    [
        ({}, Verdict.PASS),
        ({"steps": 0.25, "heatmaps": 5e-3}, Verdict.PASS),
        ({"steps": 0.26}, Verdict.FAIL),
        ({"heatmaps": 5.1e-3}, Verdict.FAIL),
        ({"steps": math.nan}, Verdict.FAIL),
        ({"heatmaps": math.inf}, Verdict.FAIL),
        ({"faults": ("relu_4 is int8 in the plan, not in the file",)}, Verdict.FAIL),
    ],
)
def test_a_quantized_artifact_has_to_say_what_its_plan_says(
    change: dict[str, Any], verdict: Verdict, heatmaps: Maps, contract: PreprocessContract
) -> None:
    parity = compare(heatmaps, heatmaps, contract=contract)
    fields: dict[str, Any] = {"pictures": 8, "tensor": "relu_4", "steps": 0.0, "heatmaps": 0.0, **change}
    found, reasons = judge(parity, None, Precision.W8A8, Format.COREML, deviation=Deviation(**fields))
    assert found is verdict
    assert any("plan" in reason and "relu_4" in reason for reason in reasons)
