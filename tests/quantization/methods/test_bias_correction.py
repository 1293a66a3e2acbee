"""Mean errors go into biases: a shift worked out by hand, and means that agree afterwards."""

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from lspdmobile.choices import Precision
from quantization.affine import weight_scales
from quantization.calibrate import calibrate
from quantization.graph import exported_module, quantized_module
from quantization.methods.bias_correction import correct_biases
from quantization.methods.layers import renewed
from quantization.methods.lockstep import Lockstep
from quantization.methods.rounding import round_weights
from quantization.plan import QuantizationPlan

SIZE = (12, 12)


def means(module: nn.Module, pictures: NDArray[np.float32], *names: str) -> list[torch.Tensor]:
    """Mean of each channel of the named tensors, in the program's order."""
    assert isinstance(module, torch.fx.GraphModule)
    run = Lockstep(module, list(torch.from_numpy(pictures).split(1)))
    return [torch.cat(run.values(name)).double().mean((0, 2, 3)) for name in names]


def test_the_shift_is_the_weights_error_times_the_mean_input() -> None:
    # Weights 127, 0.4 and 0 have scale 1; 0.4 becomes 0. The second input is 5 everywhere: the output lacks 2.
    layer = nn.Conv2d(3, 1, 1).eval()
    assert layer.bias is not None
    with torch.no_grad():
        layer.weight[0, :, 0, 0] = torch.tensor([127.0, 0.4, 0.0])
        layer.bias.zero_()
    pictures = np.random.default_rng(0).standard_normal((3, 3, *SIZE)).astype(np.float32)
    pictures[:, 1] = 5.0
    done = correct_biases(layer, QuantizationPlan(precision=Precision.W8), pictures)
    assert float(done.network.state_dict()["bias"]) == pytest.approx(2.0, rel=1e-4)
    assert float(layer.bias.detach()) == 0
    assert done.layers[0].largest == pytest.approx(2.0 / (127 * pictures[:, 0].std()), rel=1e-3)


def test_means_agree_before_every_layers_activation(network: nn.Module, pictures: NDArray[np.float32]) -> None:
    plan = calibrate(network, pictures, precision=Precision.W8A8)
    done = correct_biases(network, plan, pictures)
    names = [f"conv2d{suffix}" for suffix in ("", "_1", "_2", "_3", "_4")]
    assert [each.layer for each in done.layers] == names
    wanted = means(exported_module(network, SIZE), pictures, *names)
    before, after = (
        [float((a - b).abs().max()) for a, b in zip(means(module, pictures, *names), wanted, strict=True)]
        for module in (quantized_module(each, plan, SIZE) for each in (network, done.network))
    )
    assert max(after) < 1e-5 < min(before)


def test_the_means_wanted_may_be_another_networks(network: nn.Module, pictures: NDArray[np.float32]) -> None:
    plan = calibrate(network, pictures, precision=Precision.W8A8)
    shifted = correct_biases(network, plan, pictures, reference=done_with_bias(network, 0.25)).network
    module = quantized_module(shifted, plan, SIZE)
    (wanted,), (found,) = (means(each, pictures, "conv2d") for each in (exported_module(network, SIZE), module))
    torch.testing.assert_close(found, wanted + 0.25, rtol=0, atol=1e-5)


def done_with_bias(network: nn.Module, shift: float) -> nn.Module:
    return renewed(network, {"stem.bias": network.state_dict()["stem.bias"] + shift})


def test_a_layer_without_a_bias_is_reported_and_left(pictures: NDArray[np.float32]) -> None:
    bare = nn.Sequential(nn.Conv2d(3, 4, 1, bias=False), nn.ReLU(), nn.Conv2d(4, 2, 1)).eval()
    plan = calibrate(bare, pictures, precision=Precision.W8A8)
    done = correct_biases(bare, plan, pictures)
    assert [each.corrected for each in done.layers] == [False, True]
    assert done.layers[0].largest > 0


def test_progress_is_told_layer_by_layer(network: nn.Module, pictures: NDArray[np.float32]) -> None:
    told: list[tuple[int, int]] = []
    plan = QuantizationPlan(precision=Precision.W8)
    correct_biases(network, plan, pictures, progress=lambda done, total: told.append((done, total)))
    assert told == [(done, 5) for done in range(1, 6)]


class Strips(nn.Module):
    """A convolution, and a linear layer along its flattened rows: its channels lie along the last axis."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.strips = nn.Conv2d(3, 4, 1), nn.Linear(SIZE[0] * SIZE[1], 5)

    def forward(self, x: Tensor) -> Tensor:
        """Map ``[N, 3, 12, 12]`` to ``[N, 4, 5]``."""
        y: Tensor = self.strips(F.relu(self.conv(x)).flatten(2))
        return y


@pytest.mark.parametrize("rounded", [False, True])
def test_a_linear_layer_is_corrected_along_its_own_axis(rounded: bool, pictures: NDArray[np.float32]) -> None:
    torch.manual_seed(0)
    strips = Strips().eval()
    plan = QuantizationPlan(precision=Precision.W8)
    done = round_weights(strips, plan, pictures).network if rounded else correct_biases(strips, plan, pictures).network
    nearest = renewed(strips, {name: on_grid(value) for name, value in strips.state_dict().items() if value.ndim > 1})
    held = renewed(done, {name: on_grid(value) for name, value in done.state_dict().items() if value.ndim > 1})
    with torch.no_grad():
        wanted, before, after = (each(torch.from_numpy(pictures)).mean((0, 1)) for each in (strips, nearest, held))
    assert float((after - wanted).abs().max()) < 1e-5 < float((before - wanted).abs().max())


def on_grid(weight: Tensor) -> Tensor:
    scales = torch.from_numpy(weight_scales(weight.numpy())).reshape(-1, *[1] * (weight.ndim - 1))
    return ((weight / scales).round() * scales).float()
