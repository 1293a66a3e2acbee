"""Ranges by gradient: the gradients, an outlier that a shorter range forgets, and that only ranges change."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import nn

from lspdmobile.choices import Precision
from lspdmobile.errors import BadInputError
from quantization.affine import activation_grid, dequantize, quantize
from quantization.calibrate import calibrate
from quantization.graph import activation_grids, quantized_module
from quantization.methods.range_tuning import TuningSettings, fake_quantized, tune_ranges
from quantization.plan import QuantizationPlan, TensorRange

SIZE = (12, 12)
QUICK = TuningSettings(steps=40, batch=2, learning_rate=2e-2, judged_every=10)


def ends(low: float, high: float) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.tensor(low, requires_grad=True), torch.tensor(high, requires_grad=True)


def test_values_are_those_of_the_grid() -> None:
    # No value lies half way between two steps, where the last bit of the arithmetic decides.
    values = np.linspace(-2, 3, 997, dtype=np.float32)
    grid = activation_grid(TensorRange(low=-1.0, high=2.0))
    found = fake_quantized(torch.from_numpy(values), torch.tensor(-1.0), torch.tensor(2.0)).numpy()
    np.testing.assert_allclose(found, dequantize(quantize(values, grid), grid), rtol=0, atol=1e-6)


def test_gradients_inside_and_beyond_a_range() -> None:
    # Range 0 to 255, so steps of 1. 2.3 becomes 2: raising the scale by d moves it by (2 - 2.3) d, and high by 1/255
    # of that. 300 and 400 sit on the high end and move with it.
    x = torch.tensor([2.3, 300.0, 400.0], requires_grad=True)
    low, high = ends(0.0, 255.0)
    fake_quantized(x, low, high).sum().backward()
    assert x.grad is not None
    assert x.grad.tolist() == [1, 0, 0]
    assert high.grad is not None
    assert float(high.grad) == pytest.approx(2 + (2 - 2.3) / 255, abs=1e-6)
    assert low.grad is not None
    assert float(low.grad) == pytest.approx(0.3 / 255, abs=1e-6)


def noise(network: nn.Module, plan: QuantizationPlan, pictures: NDArray[np.float32]) -> float:
    module = quantized_module(network, plan, SIZE)
    with torch.no_grad():
        pairs = [(network(each), module(each)) for each in torch.from_numpy(pictures).split(1)]
    return sum(float((a - b).square().sum()) for a, b in pairs) / sum(float(a.square().sum()) for a, _ in pairs)


@pytest.fixture
def plan(network: nn.Module, many_pictures: NDArray[np.float32]) -> QuantizationPlan:
    """A plan in which two tensors' ranges are ten times too wide."""
    exact = calibrate(network, many_pictures, precision=Precision.W8A8)
    wide = {name: TensorRange(low=0.0, high=10 * exact.ranges[name].high) for name in ("relu_2", "relu_3")}
    return replace(exact, ranges={**exact.ranges, **wide})


def test_ranges_that_are_far_too_wide_get_shorter(
    network: nn.Module,
    plan: QuantizationPlan,
    many_pictures: NDArray[np.float32],
    fresh_pictures: NDArray[np.float32],
) -> None:
    done = tune_ranges(network, plan, many_pictures, settings=QUICK)
    assert done.after < 0.8 * done.before
    assert done.plan.ranges["relu_2"].high < 0.8 * plan.ranges["relu_2"].high
    assert noise(network, done.plan, fresh_pictures) < 0.8 * noise(network, plan, fresh_pictures)
    assert {each.tensor for each in done.tensors} <= set(plan.ranges)


def test_the_loss_that_is_told_is_that_of_the_plans_own_graph(
    network: nn.Module, plan: QuantizationPlan, pictures: NDArray[np.float32]
) -> None:
    done = tune_ranges(network, plan, pictures, settings=QUICK)
    assert done.before == pytest.approx(noise(network, plan, pictures[-2:]), rel=1e-3)
    assert done.after == pytest.approx(noise(network, done.plan, pictures[-2:]), rel=1e-3)


def test_only_ranges_change_and_the_estimator_says_so(
    network: nn.Module, plan: QuantizationPlan, pictures: NDArray[np.float32]
) -> None:
    done = tune_ranges(network, plan, pictures, settings=QUICK).plan
    assert done.ranges.keys() == plan.ranges.keys()
    assert done.to_dict()["range_estimators"] == {
        name: "tuned on heatmaps" for name, each in done.ranges.items() if each != plan.ranges[name]
    }
    assert done.ranges != plan.ranges
    assert replace(done, ranges=plan.ranges) == plan
    assert QuantizationPlan.from_dict(done.to_dict()) == done


def test_interpolated_tensors_share_the_range_of_their_source(
    network: nn.Module, plan: QuantizationPlan, pictures: NDArray[np.float32]
) -> None:
    done = tune_ranges(network, plan, pictures, settings=QUICK).plan
    grids = activation_grids(quantized_module(network, done, SIZE))
    assert grids["upsample_bilinear2d"] == grids["relu_3"]
    assert grids != activation_grids(quantized_module(network, plan, SIZE))


class Gated(nn.Module):
    """A convolution weighed by two sigmoids side by side; the three tensors have the sigmoid's grid."""

    def __init__(self) -> None:
        super().__init__()
        self.values, self.weights, self.head = nn.Conv2d(3, 4, 3, 1, 1), nn.Conv2d(3, 2, 1), nn.Conv2d(4, 2, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map ``[1, 3, 12, 12]`` to ``[1, 2, 12, 12]``."""
        weights = self.weights(x)
        gate = torch.cat((weights.sigmoid(), (-weights).sigmoid()), 1)
        heatmaps: torch.Tensor = self.head(self.values(x) * gate)
        return heatmaps


def test_fixed_ranges_stay_and_others_are_tuned(many_pictures: NDArray[np.float32]) -> None:
    torch.manual_seed(0)
    network = Gated().eval()
    exact = calibrate(network, many_pictures, precision=Precision.W8A8)
    wide = TensorRange(low=10 * exact.ranges["mul"].low, high=10 * exact.ranges["mul"].high)
    plan = replace(exact, ranges={**exact.ranges, "mul": wide})
    done = tune_ranges(network, plan, many_pictures, settings=QUICK)
    assert done.after < 0.8 * done.before
    assert done.after == pytest.approx(noise(network, done.plan, many_pictures[-len(many_pictures) // 4 :]), rel=0.01)
    grids = activation_grids(quantized_module(network, done.plan, SIZE))
    assert grids["cat"] == grids["sigmoid"] == activation_grid(TensorRange(low=0.0, high=255 / 256))
    assert not {"cat", "sigmoid", "sigmoid_1"} & {each.tensor for each in done.tensors}


def test_ranges_that_cannot_be_bettered_stay(network: nn.Module, pictures: NDArray[np.float32]) -> None:
    plan = calibrate(network, pictures, precision=Precision.W8A8)
    done = tune_ranges(network, plan, pictures, settings=replace(QUICK, steps=10, learning_rate=3.0))
    assert (done.plan, done.tensors, done.after) == (plan, (), done.before)


def test_the_same_seed_gives_the_same_ranges(network: nn.Module, pictures: NDArray[np.float32]) -> None:
    plan = calibrate(network, pictures, precision=Precision.W8A8)
    one, other = (tune_ranges(network, plan, pictures, settings=QUICK, seed=2).plan for _ in range(2))
    assert one == other


def test_other_plans_and_single_pictures_are_refused(network: nn.Module, pictures: NDArray[np.float32]) -> None:
    plan = calibrate(network, pictures, precision=Precision.W8A8)
    with pytest.raises(BadInputError, match="w8a16 plan"):
        tune_ranges(network, replace(plan, precision=Precision.W8A16), pictures)
    with pytest.raises(ValueError, match="at least two pictures"):
        tune_ranges(network, plan, pictures[:1])
