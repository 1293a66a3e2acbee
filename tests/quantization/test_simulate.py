"""A plan's own network: against PT2E's graph, and against integers and scales worked out by hand."""

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from lspdmobile.choices import Precision
from quantization.affine import weight_scales
from quantization.calibrate import calibrate
from quantization.graph import activation_grids, quantized_module
from quantization.plan import QuantizationPlan
from quantization.simulate import simulation

SIZE = (16, 16)


class Small(nn.Module):
    """Two convolutions, the second without a bias; the last channel of the first has no weight."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 8, 3, padding=1)
        self.second = nn.Conv2d(8, 4, 1, bias=False)
        with torch.no_grad():
            self.first.weight[-1] = 0

    def forward(self, pictures: Tensor) -> Tensor:
        """Map ``[N, 3, H, W]`` to ``[N, 4, H, W]``."""
        y: Tensor = self.second(F.relu(self.first(pictures)))
        return y


@pytest.fixture
def network() -> Small:
    """The network in eval mode, seeded."""
    torch.manual_seed(2)
    return Small().eval()


@pytest.fixture
def pictures() -> NDArray[np.float32]:
    """Three pictures."""
    return np.random.default_rng(4).standard_normal((3, 3, *SIZE)).astype(np.float32)


def test_a_w8a8_plan_with_float32_constants_is_pt2es_graph(network: Small, pictures: NDArray[np.float32]) -> None:
    plan = calibrate(network, pictures, precision=Precision.W8A8)
    module = quantized_module(network, plan, SIZE)
    integers, heatmaps = simulation(network, plan, SIZE, stored=torch.float32).run(torch.from_numpy(pictures[:1]))
    with torch.inference_mode():
        assert torch.equal(heatmaps, module(torch.from_numpy(pictures[:1])))
    grids = activation_grids(module)
    assert {name: tensor.step for name, tensor in integers.items()} == {name: g.scale for name, g in grids.items()}
    for name, tensor in integers.items():
        steps = tensor.values / tensor.step
        torch.testing.assert_close(steps, steps.round(), rtol=0, atol=1e-4)
        assert tensor.values.min() >= grids[name].low - 1e-6


def test_float16_constants_move_values_by_a_fraction_of_a_step(network: Small, pictures: NDArray[np.float32]) -> None:
    plan = calibrate(network, pictures, precision=Precision.W8A8)
    picture = torch.from_numpy(pictures[:1])
    exact, _ = simulation(network, plan, SIZE, stored=torch.float32).run(picture)
    stored, _ = simulation(network, plan, SIZE, stored=torch.float16).run(picture)
    assert exact.keys() == stored.keys()
    for name, tensor in stored.items():
        assert tensor.step == float(np.float16(exact[name].step))
        assert (tensor.values - exact[name].values).abs().mean() < 0.2 * tensor.step


@pytest.mark.parametrize(("precision", "bits", "largest"), [(Precision.W8, 8, 127), (Precision.W4, 4, 7)])
def test_weights_are_integers_times_a_scale_for_each_channel(
    precision: Precision, bits: int, largest: int, network: Small, pictures: NDArray[np.float32]
) -> None:
    rounded = Small().eval()
    rounded.load_state_dict(network.state_dict())
    with torch.no_grad():
        for layer in (rounded.first, rounded.second):
            weight = layer.weight.numpy().astype(np.float64)
            scales = weight_scales(weight, bits=bits)[:, None, None, None]
            layer.weight.copy_(torch.from_numpy(scales * np.clip(np.rint(weight / scales), -largest, largest)))
        wanted = rounded(torch.from_numpy(pictures[:1]))
    plan = QuantizationPlan(precision=precision)
    integers, heatmaps = simulation(network, plan, SIZE, stored=torch.float32).run(torch.from_numpy(pictures[:1]))
    assert integers == {}
    torch.testing.assert_close(heatmaps, wanted, rtol=1e-5, atol=1e-6)


def test_precisions_that_quantize_nothing_have_no_simulation(network: Small) -> None:
    with pytest.raises(ValueError, match="no simulation"):
        simulation(network, QuantizationPlan(precision=Precision.FP16), SIZE, stored=torch.float16)
