"""The entry to all methods."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import nn

from lspdmobile.choices import Estimator, Precision
from lspdmobile.errors import BadInputError
from quantization.calibrate import calibrate
from quantization.graph import exported_module, quantized_module
from quantization.integer_layers import integer_layers, largest_multiplier
from quantization.methods import DEFAULT_METHODS, Method, equalization, prepare, preparing
from quantization.methods.bias_correction import Corrected
from quantization.methods.layers import renewed
from quantization.plan import Estimation, QuantizationPlan, TensorRange

SIZE = (12, 12)


def noise(found: nn.Module, plan: QuantizationPlan, pictures: NDArray[np.float32], wanted: nn.Module) -> float:
    module = quantized_module(found, plan, (pictures.shape[2], pictures.shape[3]))
    with torch.no_grad():
        return float(sum((module(x) - wanted(x)).square().sum() for x in torch.from_numpy(pictures).split(1)))


def test_all_methods_together_mend_a_loud_channel_and_keep_the_nodes(loud: nn.Module) -> None:
    pictures = np.random.default_rng(10).standard_normal((24, 3, 16, 16)).astype(np.float32)
    before = {name: value.clone() for name, value in loud.state_dict().items()}
    plan = calibrate(loud, pictures, precision=Precision.W8A8)
    found = prepare(loud, plan, pictures, methods=list(Method))
    assert noise(found.network, found.plan, pictures, loud) < 0.4 * noise(loud, plan, pictures, loud)
    names = [[node.name for node in exported_module(each, (16, 16)).graph.nodes] for each in (loud, found.network)]
    assert names[0] == names[1]
    assert found.plan.ranges.keys() == plan.ranges.keys()
    assert all(torch.equal(value, before[name]) for name, value in loud.state_dict().items())
    assert [each["method"] for each in found.records] == [method.value for method in Method]
    assert json.loads(json.dumps(found.records)) == list(found.records)


def test_methods_apply_in_their_own_order(network: nn.Module, pictures: NDArray[np.float32]) -> None:
    told: list[str] = []
    plan = QuantizationPlan(precision=Precision.W8)
    methods = (Method.RANGE_TUNING, Method.BIAS_CORRECTION, Method.EQUALIZATION)
    found = prepare(network, plan, pictures, methods=methods, progress=lambda name, *_: told.append(name))
    assert [each["method"] for each in found.records] == ["equalization", "bias-correction", "range-tuning"]
    assert list(dict.fromkeys(told)) == ["equalization", "bias-correction"]
    assert found.records[-1]["skipped"] == "w8 has no 8-bit activations"
    assert found.plan == plan


def test_an_equalisation_that_is_not_exact_is_undone_and_said(
    loud: nn.Module, few_pictures: NDArray[np.float32], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(equalization, "_by_column", lambda _, weight, __: torch.ones_like(weight))
    plan = calibrate(loud, few_pictures, precision=Precision.W8A8)
    found = prepare(loud, plan, few_pictures, methods=[Method.EQUALIZATION])
    assert (found.network, found.plan) == (loud, plan)
    assert not found.records[0]["kept"]
    assert "float64" in found.records[0]["fault"]


def test_an_equalised_network_is_calibrated_as_one_says(loud: nn.Module, few_pictures: NDArray[np.float32]) -> None:
    plan = calibrate(loud, few_pictures, precision=Precision.W8A8)
    seen: list[nn.Module] = []

    def recalibrate(changed: nn.Module) -> QuantizationPlan:
        seen.append(changed)
        return calibrate(changed, few_pictures[:3], precision=Precision.W8A8)

    found = prepare(loud, plan, few_pictures, methods=[Method.EQUALIZATION], recalibrate=recalibrate)
    assert seen == [found.network]
    assert found.plan == calibrate(found.network, few_pictures[:3], precision=Precision.W8A8)


def test_a_method_that_does_harm_is_undone(
    network: nn.Module, pictures: NDArray[np.float32], monkeypatch: pytest.MonkeyPatch
) -> None:
    def spoiled(given: nn.Module, *_: object, **__: object) -> Corrected:
        bias = given.state_dict()["head.bias"]
        return Corrected(network=renewed(given, {"head.bias": bias + 0.1}), layers=())

    plan = calibrate(network, pictures, precision=Precision.W8A8)
    monkeypatch.setattr(preparing, "correct_biases", spoiled)
    found = prepare(network, plan, pictures, methods=[Method.BIAS_CORRECTION])
    before, after = found.records[0]["noise"]
    assert after > 10 * before
    assert not found.records[0]["kept"]
    assert (found.network, found.plan) == (network, plan)


def test_int16_activations_get_new_ranges_and_no_tuning(network: nn.Module, pictures: NDArray[np.float32]) -> None:
    plan = calibrate(network, pictures, precision=Precision.W8A16)
    found = prepare(network, plan, pictures)
    assert found.plan.precision is Precision.W8A16
    assert found.plan.ranges.keys() == plan.ranges.keys()
    assert found.plan.ranges["relu_1"] != plan.ranges["relu_1"]
    assert found.records[-1]["skipped"] == "w8a16 has no 8-bit activations"


@pytest.mark.parametrize("precision", [Precision.FP32, Precision.FP16])
def test_float_precisions_come_back_as_they_are(
    network: nn.Module, pictures: NDArray[np.float32], precision: Precision
) -> None:
    plan = QuantizationPlan(precision=precision)
    found = prepare(network, plan, pictures)
    assert (found.network, found.plan) == (network, plan)
    assert {each["skipped"] for each in found.records} == {f"methods are for integer weights, not {precision}"}
    assert len(found.records) == len(DEFAULT_METHODS)


def test_no_method_changes_nothing(network: nn.Module, pictures: NDArray[np.float32]) -> None:
    plan = calibrate(network, pictures, precision=Precision.W8A8)
    found = prepare(network, plan, pictures, methods=())
    assert (found.network, found.plan, found.records) == (network, plan, ())


def test_one_picture_is_too_few(network: nn.Module, pictures: NDArray[np.float32]) -> None:
    with pytest.raises(BadInputError, match="at least 2 calibration pictures"):
        prepare(network, QuantizationPlan(precision=Precision.W8), pictures[:1])


def test_pictures_that_are_read_as_they_go_are_taken_evenly(
    pictures: NDArray[np.float32], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(preparing, "_MOST_PICTURES", 3)
    assert np.array_equal(preparing._some(list(pictures)), pictures[[0, 4, 7]])


def test_a_new_plan_keeps_the_estimation_and_what_stays_in_float(
    network: nn.Module, pictures: NDArray[np.float32]
) -> None:
    estimation = Estimation(estimator=Estimator.PERCENTILE, percentile=99.0)
    plan = calibrate(network, pictures, precision=Precision.W8A8, estimation=estimation)
    plan = replace(plan, kept_float=frozenset({"conv2d_2"}))
    found = prepare(network, plan, list(pictures), methods=list(Method))
    assert (found.plan.estimation, found.plan.kept_float) == (estimation, plan.kept_float)
    assert [each["layer"] for each in found.records[1]["layers"]] == ["conv2d", "conv2d_1", "conv2d_3", "conv2d_4"]


def test_factors_shrink_until_kernels_can_multiply(
    loud: nn.Module, few_pictures: NDArray[np.float32], monkeypatch: pytest.MonkeyPatch
) -> None:
    def ends() -> float:
        plan = calibrate(loud, few_pictures, precision=Precision.W8A8)
        done = prepare(loud, plan, few_pictures, methods=[Method.EQUALIZATION])
        return max(float(np.abs(np.log2(layer["factors"])).max()) for layer in done.records[0]["layers"])

    free = ends()
    assert free > 2.1
    monkeypatch.setattr(preparing, "_LARGEST_MULTIPLIER", 0.0)  # nothing is small enough
    assert ends() == pytest.approx(2.0, abs=0.01)


def test_the_largest_multiplier_is_of_the_layer_with_the_finest_result(network: nn.Module) -> None:
    pictures = np.random.default_rng(0).standard_normal((4, 3, 12, 12)).astype(np.float32)
    plan = calibrate(network, pictures, precision=Precision.W8A8)
    usual = largest_multiplier(quantized_module(network, plan, (12, 12)))
    finer = replace(plan, ranges={**plan.ranges, "conv2d_2": TensorRange(low=-1e-4, high=1e-4)})
    module = quantized_module(network, finer, (12, 12))
    assert largest_multiplier(module) > 100 * usual
    layer = integer_layers(module)["conv2d_2"]
    assert layer.output is not None
    expected = layer.input.scale * layer.scales.max() / layer.output.scale
    assert largest_multiplier(module) == pytest.approx(float(expected))
