"""The forecast of noise: numbers worked out by hand, and what a real rounding gives."""

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import nn

from lspdmobile.choices import Precision
from quantization.calibrate import calibrate
from quantization.graph import exported_module, quantized_module
from quantization.methods.channels import channel_classes
from quantization.methods.noise_model import NoiseModel, measured
from quantization.methods.simulated import simulated
from quantization.plan import QuantizationPlan

SIZE = (12, 12)


def model_of(
    network: nn.Module, pictures: NDArray[np.float32], steps: int | None, precision: Precision = Precision.W8A8
) -> NoiseModel:
    program = exported_module(network, (pictures.shape[2], pictures.shape[3]))
    classes = channel_classes(program)
    seen = measured(program, classes, pictures, seed=0)
    return NoiseModel(program, classes, seen, precision=precision, activation_steps=steps)


def chain() -> nn.Sequential:
    """Two 1x1 layers: ``a = (4 p, p)``, then ``h = a[0] / 4 + a[1]``."""
    first, last = nn.Conv2d(3, 2, 1, bias=False), nn.Conv2d(2, 1, 1, bias=False)
    with torch.no_grad():
        first.weight.zero_()
        first.weight[0, 0], first.weight[1, 0] = 4.0, 1.0
        last.weight[0, :, 0, 0] = torch.tensor([0.25, 1.0])
    return nn.Sequential(first, last).eval()


def spike() -> NDArray[np.float32]:
    """A picture of a single pixel whose first channel is 1."""
    picture = np.zeros((1, 3, 1, 1), np.float32)
    picture[0, 0] = 1.0
    return picture


def test_noise_of_a_chain_is_what_one_works_out_by_hand() -> None:
    # h = 2, so its square is 4. r^2 scales everything alike and is divided out below.
    # Activations: picture: step 1/255, slope of h is 4/4 + 1 = 2; a: step 4/255, slopes 1/4 and 1; h: step 2/255.
    model = model_of(chain(), spike(), 255)
    r_squared = float(torch.randn((1, 1, 1, 1), generator=torch.Generator().manual_seed(0)).square())
    activations = (1 * 4 + 16 * (1 / 16 + 1) + 4 * 1) / 255**2
    # Weights: rows of the first layer have steps 4/127 and 1/127, the slopes of their first column are 1/4 and 1 (the
    # others read 0); the second layer's row has step 1/127 and slopes 4 and 1.
    weights = (16 / 16 + 1 + (16 + 1)) / 127**2
    ones = np.ones(len(model._fixed))
    assert model.noise_of(ones) == pytest.approx(r_squared * (activations + weights) / 12 / 4, rel=1e-6)


def test_the_quietest_factor_of_the_chain_evens_its_channels_out() -> None:
    # Dividing a[0] by 4 leaves two equal activations and two equal weights: no other factor has less of either noise.
    model = model_of(chain(), spike(), 255)
    free = np.flatnonzero(~model._fixed)
    factors = model.quietest(largest=16)
    assert factors[free[0]] / factors[free[1]] == pytest.approx(4.0, rel=0.1)
    assert (factors[model._fixed] == 1).all()


@pytest.mark.parametrize("precision", [Precision.W8A8, Precision.W8, Precision.W4])
def test_the_forecast_is_within_three_decibels_of_the_rounded_network(
    network: nn.Module, pictures: NDArray[np.float32], precision: Precision
) -> None:
    plan = calibrate(network, pictures, precision=precision)
    inputs = torch.from_numpy(pictures)
    rounded = simulated(network, plan, SIZE).module
    with torch.no_grad():
        wanted = torch.cat([network(each[None]) for each in inputs])
        found = torch.cat([rounded(each[None]) for each in inputs])
    noise = float((found - wanted).square().sum() / wanted.square().sum())
    model = model_of(network, pictures, 255 if precision is Precision.W8A8 else None, precision)
    forecast = model.noise_of(np.ones(len(model._fixed)))
    assert abs(10 * np.log10(forecast / noise)) < 3


def test_float_activations_make_no_noise(network: nn.Module, pictures: NDArray[np.float32]) -> None:
    noises = [model_of(network, pictures, steps) for steps in (255, 65534, None)]
    eight, sixteen, none = (model.noise_of(np.ones(len(model._fixed))) for model in noises)
    assert eight > 2 * none
    assert sixteen == pytest.approx(none, rel=1e-2)


def test_simulation_is_the_plans_own_graph(network: nn.Module, pictures: NDArray[np.float32]) -> None:
    plan = calibrate(network, pictures, precision=Precision.W8A8)
    picture = torch.from_numpy(pictures[:1])
    with torch.no_grad():
        assert torch.equal(
            simulated(network, plan, SIZE).module(picture), quantized_module(network, plan, SIZE)(picture)
        )


def test_a_float_plan_is_not_simulated(network: nn.Module) -> None:
    with pytest.raises(ValueError, match="quantizes no weights"):
        simulated(network, QuantizationPlan(precision=Precision.FP16), SIZE)
