"""A plan in a PT2E graph, compared with what PT2E's own calibration gives and with hand-made arithmetic."""

import operator
from dataclasses import replace

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F
from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e

from lspdmobile.choices import Precision
from lspdmobile.errors import BadInputError
from quantization.affine import activation_grid, dequantize, quantize, weight_scales
from quantization.annotating import quantizer_for
from quantization.calibrate import calibrate
from quantization.graph import (
    activation_grids,
    exported_module,
    quantized_module,
    weight_scales_by_node,
)
from quantization.plan import QuantizationPlan

SIZE = (16, 16)


class Small(nn.Module):
    """Every operator a fused student has: dense and depthwise convolution, ReLU, add, resize; and a shared tensor."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1, stride=2)
        self.down = nn.Conv2d(8, 8, 3, padding=1, stride=2)
        self.depthwise = nn.Conv2d(8, 8, 5, padding=2, groups=8)
        self.head = nn.Conv2d(8, 4, 1)

    def forward(self, pictures: Tensor) -> Tensor:
        """Map ``[1, 3, H, W]`` to ``[1, 4, H/2, W/2]``."""
        x = F.relu(self.stem(pictures))
        y = F.relu(self.depthwise(self.down(x)))
        up = F.interpolate(y, scale_factor=2.0, mode="bilinear", align_corners=False)
        heatmaps: Tensor = self.head(F.relu(x + up))
        return heatmaps


@pytest.fixture
def network() -> Small:
    return Small().eval()


@pytest.fixture
def pictures() -> NDArray[np.float32]:
    return np.random.default_rng(0).normal(size=(3, 3, *SIZE)).astype(np.float32)


@pytest.fixture
def plan(network: Small, pictures: NDArray[np.float32]) -> QuantizationPlan:
    return calibrate(network, pictures, precision=Precision.W8A8)


def run(module: nn.Module, pictures: NDArray[np.float32]) -> NDArray[np.float32]:
    with torch.no_grad():
        return np.concatenate([module(torch.from_numpy(picture[None])).numpy() for picture in pictures])


def test_loaded_ranges_give_what_calibration_over_the_same_pictures_gives(
    network: Small, plan: QuantizationPlan, pictures: NDArray[np.float32]
) -> None:
    prepared = prepare_pt2e(exported_module(network, SIZE), quantizer_for())
    run(prepared, pictures)
    calibrated = convert_pt2e(prepared)
    loaded = quantized_module(network, plan, SIZE)
    assert activation_grids(loaded) == activation_grids(calibrated)
    wanted = weight_scales_by_node(calibrated)
    assert wanted.keys() == weight_scales_by_node(loaded).keys()
    assert all(torch.equal(scales, wanted[name]) for name, scales in weight_scales_by_node(loaded).items())
    assert np.array_equal(run(loaded, pictures), run(calibrated, pictures))


def test_every_activation_grid_is_that_of_its_range(network: Small, plan: QuantizationPlan) -> None:
    grids = activation_grids(quantized_module(network, plan, SIZE))
    assert set(grids) == {"pictures", "relu", "conv2d_1", "relu_1", "upsample_bilinear2d", "relu_2", "conv2d_3"}
    for name, grid in grids.items():
        wanted = activation_grid(plan.ranges[name])
        assert grid.scale == pytest.approx(wanted.scale, rel=1e-6)
        assert grid.zero_point == wanted.zero_point


def test_every_weight_scale_is_that_of_its_channel(network: Small, plan: QuantizationPlan) -> None:
    scales = weight_scales_by_node(quantized_module(network, plan, SIZE))
    layers = {"conv2d": network.stem, "conv2d_1": network.down, "conv2d_2": network.depthwise, "conv2d_3": network.head}
    assert scales.keys() == layers.keys()
    for name, layer in layers.items():
        assert scales[name].numpy() == pytest.approx(weight_scales(layer.weight.detach().numpy()), rel=1e-6)


def test_a_narrower_range_gives_a_finer_grid(network: Small, plan: QuantizationPlan) -> None:
    before = plan.ranges["conv2d_3"]
    narrow = replace(before, low=before.low / 2, high=before.high / 2)
    halved = replace(plan, ranges={**plan.ranges, "conv2d_3": narrow})
    grids = [activation_grids(quantized_module(network, each, SIZE))["conv2d_3"] for each in (plan, halved)]
    assert grids[1].scale == pytest.approx(grids[0].scale / 2, rel=1e-6)


def test_one_layer_computes_what_the_arithmetic_says(pictures: NDArray[np.float32]) -> None:
    layer = nn.Conv2d(3, 2, 1).eval()
    plan = calibrate(layer, pictures, precision=Precision.W8A8)
    source, result = (activation_grid(each) for each in plan.ranges.values())
    weight = layer.weight.detach().numpy()
    scales = weight_scales(weight)[:, None, None, None]
    rounded = np.clip(np.rint(weight / scales), -127, 127) * scales
    x = dequantize(quantize(pictures, source), source).astype(np.float64)
    assert layer.bias is not None
    y = np.einsum("oi,nihw->nohw", rounded[:, :, 0, 0], x) + layer.bias.detach().numpy()[:, None, None]
    wanted = dequantize(quantize(y, result), result)
    found = run(quantized_module(layer, plan, SIZE), pictures)
    # Sums of float32 and float64 may fall on different sides of a rounding border: one step at most, and rarely.
    assert np.abs(found - wanted).max() <= result.scale * 1.01
    assert (np.abs(found - wanted) > result.scale / 2).mean() < 0.01


@pytest.mark.parametrize(("fold", "dtype"), [(True, torch.int8), (False, torch.float32)])
def test_weights_are_stored_as_int8_unless_told_otherwise(
    network: Small, plan: QuantizationPlan, fold: bool, dtype: torch.dtype
) -> None:
    module = quantized_module(network, plan, SIZE, fold_quantize=fold)
    used = [node.target for node in module.graph.nodes if node.op == "get_attr"]
    tensors = [operator.attrgetter(name)(module) for name in used]
    assert {tensor.dtype for tensor in tensors if tensor.ndim == 4} == {dtype}


def test_norms_that_are_not_folded_are_refused(pictures: NDArray[np.float32]) -> None:
    # PT2E would fold the norm and then apply the range of the convolution before it.
    network = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4)).eval()
    plan = calibrate(network, pictures, precision=Precision.W8A8)
    with pytest.raises(BadInputError, match="fuse the network"):
        quantized_module(network, plan, SIZE)


def test_a_range_of_another_network_is_refused(network: Small, plan: QuantizationPlan) -> None:
    ranges = {name: each for name, each in plan.ranges.items() if name not in {"relu_1", "conv2d_3"}}
    with pytest.raises(BadInputError, match=r"no range for relu_1, conv2d_3"):
        quantized_module(network, replace(plan, ranges=ranges), SIZE)


def test_only_w8a8_plans_are_applied(network: Small) -> None:
    with pytest.raises(BadInputError, match="use a w8a8 plan"):
        quantized_module(network, QuantizationPlan(precision=Precision.FP32), SIZE)


def test_tiny_weights_keep_their_own_scale(network: Small, pictures: NDArray[np.float32]) -> None:
    with torch.no_grad():
        network.head.weight.mul_(1e-3)
        network.head.bias.mul_(1e-3) if network.head.bias is not None else None
    plan = calibrate(network, pictures, precision=Precision.W8A8)
    found, wanted = run(quantized_module(network, plan, SIZE), pictures), run(network, pictures)
    assert np.linalg.norm(found - wanted) < 0.05 * np.linalg.norm(wanted)


def test_a_pruned_channel_with_a_large_bias_keeps_its_bias_within_int32(pictures: NDArray[np.float32]) -> None:
    layer = nn.Conv2d(3, 2, 1).eval()
    assert layer.bias is not None
    with torch.no_grad():
        layer.weight[1] = 0
        layer.bias[1] = 500.0
    plan = calibrate(layer, pictures, precision=Precision.W8A8)
    module = quantized_module(layer, plan, SIZE)
    scales = weight_scales_by_node(module)["conv2d"].numpy()
    source = next(iter(activation_grids(module).values()))
    assert 500.0 / (source.scale * scales[1]) == pytest.approx(2.0**30, rel=1e-3)
    assert scales[0] == pytest.approx(weight_scales(layer.weight.detach().numpy())[0], rel=1e-6)


def test_the_network_itself_is_left_alone(
    network: Small, plan: QuantizationPlan, pictures: NDArray[np.float32]
) -> None:
    before = run(network, pictures)
    quantized_module(network, plan, SIZE)
    assert np.array_equal(run(network, pictures), before)
    assert all(parameter.dtype is torch.float32 for parameter in network.parameters())


def test_a_clamp_is_a_part_of_the_layer_before_it(pictures: NDArray[np.float32]) -> None:
    """What ReLU6 cuts off takes no part in any grid."""
    torch.manual_seed(0)
    loud = nn.Conv2d(3, 8, 3)
    with torch.no_grad():
        loud.weight.mul_(1000)
    network = nn.Sequential(loud, nn.ReLU6(), nn.Conv2d(8, 4, 1)).eval()
    plan = calibrate(network, pictures, precision=Precision.W8A8)
    assert plan.ranges["conv2d"].high > 600
    module = quantized_module(network, plan, SIZE)
    grids = activation_grids(module)
    assert "conv2d" not in grids
    assert grids["hardtanh"].scale == pytest.approx(6 / 255, rel=1e-6)
    wanted, found = run(network, pictures), run(module, pictures)
    assert np.square(found - wanted).sum() < 1e-2 * np.square(wanted).sum()
