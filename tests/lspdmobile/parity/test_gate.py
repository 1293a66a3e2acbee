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


def _drop(points: float, *, ci95: tuple[float, float] | None = None, float_value: float = 0.6) -> MetricDrop:
    return MetricDrop(
        name="pck@0.2",
        float_value=float_value,
        artifact_value=float_value - points / 100,
        drop=points,
        ci95=ci95 or (points, points),
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


@pytest.mark.parametrize(("points", "verdict"), [(0.99, "pass"), (1.0, "pass"), (1.01, "fail"), (-5.0, "pass")])
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


def test_an_interval_across_the_budget_passes_with_a_warning(heatmaps: Maps, contract: PreprocessContract) -> None:
    verdict, reasons = judge(_quiet(heatmaps, contract), _drop(0.5, ci95=(-0.4, 1.6)), Precision.W8A8, Format.TFLITE)
    assert verdict is Verdict.PASS
    assert "the interval crosses the budget" in reasons[0]


def test_all_failures_are_told_at_once(heatmaps: Maps, contract: PreprocessContract) -> None:
    parity = compare(heatmaps, _mirror(heatmaps), contract=contract)
    verdict, reasons = judge(parity, _drop(30.0), Precision.FP32, Format.COREML)
    assert verdict is Verdict.FAIL
    assert len(reasons) == 3


def test_the_drift_limit_follows_the_gate(heatmaps: Maps, contract: PreprocessContract) -> None:
    parity = compare(heatmaps, _half_a_cell(heatmaps), contract=contract)
    assert judge(parity, None, Precision.W8, Format.COREML, gate=Gate(max_drift_p95_cells=0.6))[0] is Verdict.PASS


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
