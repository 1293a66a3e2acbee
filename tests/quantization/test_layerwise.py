"""The plan layer by layer: worked by hand, and beside the plan's own quantized graph."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from lspdmobile.choices import Precision
from quantization.affine import AffineGrid
from quantization.calibrate import calibrate
from quantization.graph import activation_grids, quantized_module
from quantization.layerwise import Positions, layer_by_layer
from quantization.plan import QuantizationPlan
from quantization.simulate import simulation

SIZE = (8, 6)


class Small(nn.Module):
    """Two convolutions, a sum and a resize."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 6, 3, padding=1)
        self.second = nn.Conv2d(6, 6, 3, padding=1, groups=6)

    def forward(self, x: Tensor) -> Tensor:
        """Map ``[1, 3, H, W]`` to ``[1, 6, 2H, 2W]``."""
        y = torch.relu(self.first(x))
        return nn.functional.interpolate(y + self.second(y), scale_factor=2.0, mode="bilinear")


@pytest.fixture
def network() -> nn.Module:
    return Small().eval()


@pytest.fixture
def pictures() -> NDArray[np.float32]:
    return np.random.default_rng(0).normal(size=(3, 3, *SIZE)).astype(np.float32)


def test_it_is_the_plan_s_quantized_graph_where_the_same_tensors_are_integers(
    network: nn.Module, pictures: NDArray[np.float32]
) -> None:
    for name in ("first.bias", "second.bias"):
        nn.init.zeros_(network.get_parameter(name))  # the graph's are float, those of a file integers
    plan = calibrate(network, pictures, precision=Precision.W8A8)
    grids = activation_grids(quantized_module(network, plan, SIZE))
    graph, steps = simulation(network, plan, SIZE, stored=torch.float32), layer_by_layer(network, plan, SIZE, grids)
    for picture in torch.from_numpy(pictures).split(1):
        wanted, wanted_maps = graph.run(picture)
        found, maps = steps.run(picture)
        assert found.keys() == wanted.keys() == grids.keys()
        for name, tensor in wanted.items():
            reals = (found[name].integers - grids[name].zero_point) * grids[name].scale
            np.testing.assert_allclose(reals, tensor.values.numpy(), atol=1e-5)
        torch.testing.assert_close(maps, wanted_maps, rtol=1e-5, atol=1e-5)


def test_given_integers_take_the_place_of_computed_ones(network: nn.Module, pictures: NDArray[np.float32]) -> None:
    plan = calibrate(network, pictures, precision=Precision.W8A8)
    grid = AffineGrid(scale=0.5, zero_point=3)
    steps = layer_by_layer(network, plan, SIZE, {"relu": grid, "add": AffineGrid(scale=1.0, zero_point=0)})
    found, _ = steps.run(torch.from_numpy(pictures[:1]), {"relu": np.full((1, 6, *SIZE), 7)})
    bias, weight = network.get_parameter("second.bias"), network.get_parameter("second.weight")
    scales = weight.abs().amax((1, 2, 3), keepdim=True) / 127
    taps = ((weight / scales).round() * scales).sum((1, 2, 3))
    step = 0.5 * scales.flatten()
    rounded = (bias / step).round() * step
    wanted = 2.0 + 2.0 * taps + rounded  # away from the border; (7 - 3) * 0.5 = 2
    assert float((rounded - bias).abs().max()) > 1e-4
    np.testing.assert_allclose(found["add"].exact[0, :, 4, 3], wanted.detach().numpy(), rtol=1e-5)


def test_integers_of_w8a16_lie_on_the_int16_grid(network: nn.Module, pictures: NDArray[np.float32]) -> None:
    plan = calibrate(network, pictures, precision=Precision.W8A16)
    grid = AffineGrid(scale=1e-4, zero_point=0, quant_min=-32768, quant_max=32767)
    found, _ = layer_by_layer(network, plan, SIZE, {"x": grid}).run(torch.from_numpy(pictures[:1]))
    wanted = np.clip(np.rint(pictures[:1].astype(np.float64) / 1e-4), -32768, 32767)
    np.testing.assert_array_equal(found["x"].integers, wanted)


def test_a_transposed_convolution_is_rounded_by_output_channel(pictures: NDArray[np.float32]) -> None:
    network = nn.ConvTranspose2d(3, 4, 2, stride=2, bias=False).eval()
    plan = QuantizationPlan(precision=Precision.W8)
    _, found = layer_by_layer(network, plan, SIZE, {}).run(torch.from_numpy(pictures[:1]))
    scales = network.weight.abs().amax((0, 2, 3), keepdim=True) / 127
    rounded = nn.functional.conv_transpose2d(
        torch.from_numpy(pictures[:1]), (network.weight / scales).round() * scales, stride=2
    )
    torch.testing.assert_close(found, rounded.detach())
    assert not torch.equal(found, network(torch.from_numpy(pictures[:1])))


def test_a_value_in_the_middle_may_go_either_way_and_no_other() -> None:
    positions = Positions(exact=np.array([0.5, 1.5, 0.499, 0.4, 2.9]))
    np.testing.assert_array_equal(positions.integers, [0, 2, 0, 0, 3])
    np.testing.assert_array_equal(positions.allowing_ties(np.array([1, 1, 1, 1, 3])), [1, 1, 1, 0, 3])
    np.testing.assert_array_equal(positions.allowing_ties(np.array([2, 3, -1, 0, 4])), [0, 2, 0, 0, 3])


def test_a_tensor_the_network_does_not_have_is_refused(network: nn.Module, pictures: NDArray[np.float32]) -> None:
    plan = calibrate(network, pictures, precision=Precision.W8A8)
    with pytest.raises(ValueError, match="the network has no relu_9"):
        layer_by_layer(network, plan, SIZE, {"relu_9": AffineGrid(scale=1.0, zero_point=0)})
    with pytest.raises(ValueError, match="fp16 plan quantizes no weights"):
        layer_by_layer(network, replace(plan, precision=Precision.FP16), SIZE, {})
