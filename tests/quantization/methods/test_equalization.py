"""Factors between layers: exact, and worth something; a wrong rule is caught."""

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from lspdmobile.choices import Precision
from lspdmobile.errors import GateFailedError
from quantization.calibrate import calibrate
from quantization.graph import exported_module, quantized_module
from quantization.methods import channels
from quantization.methods.channels import channel_classes
from quantization.methods.equalization import equalize, scaled

SIZE = (12, 12)


def noise_of(network: nn.Module, wanted_by: nn.Module, pictures: NDArray[np.float32]) -> float:
    """Noise to signal of the quantized network's heatmaps."""
    plan = calibrate(network, pictures, precision=Precision.W8A8)
    rounded = quantized_module(network, plan, SIZE)
    with torch.no_grad():
        pairs = [(wanted_by(each), rounded(each)) for each in torch.from_numpy(pictures).split(1)]
    return sum(float((a - b).square().sum()) for a, b in pairs) / sum(float(a.square().sum()) for a, _ in pairs)


def with_outlier(network: nn.Module) -> nn.Module:
    """Make one channel 400 times as strong, and its readers' columns as many times weaker."""
    program = exported_module(network, SIZE)
    classes = channel_classes(program)
    factors = np.ones(len(classes.fixed))
    factors[classes.of["relu_1"][2]] = 1 / 400
    return scaled(network, classes, factors)


def test_factors_divide_rows_and_multiply_columns() -> None:
    chain = nn.Sequential(nn.Conv2d(3, 2, 1), nn.ReLU(), nn.Conv2d(2, 1, 1)).eval()
    classes = channel_classes(exported_module(chain, SIZE))
    factors = np.ones(len(classes.fixed))
    factors[classes.of["relu"]] = [4.0, 0.5]
    found, given = scaled(chain, classes, factors).state_dict(), chain.state_dict()
    assert torch.equal(found["0.weight"], given["0.weight"] / torch.tensor([4.0, 0.5]).reshape(2, 1, 1, 1))
    assert torch.equal(found["0.bias"], given["0.bias"] / torch.tensor([4.0, 0.5]))
    assert torch.equal(found["2.weight"], given["2.weight"] * torch.tensor([4.0, 0.5]).reshape(1, 2, 1, 1))
    assert torch.equal(found["2.bias"], given["2.bias"])


def test_grouped_layers_take_the_factors_of_their_group() -> None:
    chain = nn.Sequential(nn.Conv2d(3, 4, 1), nn.Conv2d(4, 4, 1, groups=2), nn.Conv2d(4, 1, 1)).eval()
    classes = channel_classes(exported_module(chain, SIZE))
    factors = np.ones(len(classes.fixed))
    factors[classes.of["conv2d"]] = [2.0, 4.0, 8.0, 16.0]
    ratio = scaled(chain, classes, factors).state_dict()["1.weight"] / chain.state_dict()["1.weight"]
    assert ratio[:, :, 0, 0].tolist() == [[2.0, 4.0], [2.0, 4.0], [8.0, 16.0], [8.0, 16.0]]


def test_an_equalised_network_computes_the_same_with_the_same_nodes(
    network: nn.Module, pictures: NDArray[np.float32]
) -> None:
    done = equalize(network, pictures, precision=Precision.W8A8)
    assert done.exactness.fp64 <= 1e-12
    names = [[node.name for node in exported_module(each, SIZE).graph.nodes] for each in (network, done.network)]
    assert names[0] == names[1]
    assert done.noise[1] < done.noise[0]
    assert set(done.layers) <= {"conv2d", "conv2d_1", "conv2d_2", "conv2d_3"}


def test_a_planted_outlier_costs_accuracy_and_equalisation_takes_it_back(
    network: nn.Module, pictures: NDArray[np.float32]
) -> None:
    planted = with_outlier(network)
    before, spoiled = (noise_of(each, network, pictures) for each in (network, planted))
    done = equalize(planted, pictures, precision=Precision.W8A8)
    assert spoiled > 20 * before
    assert noise_of(done.network, network, pictures) < 1.5 * before
    moved = {layer: ends for layer, ends in done.layers.items() if layer == "conv2d_1"}
    assert moved["conv2d_1"][1] / moved["conv2d_1"][0] > 10


def test_weights_alone_are_equalised_where_activations_stay_float(
    network: nn.Module, pictures: NDArray[np.float32]
) -> None:
    done = equalize(with_outlier(network), pictures, precision=Precision.W8)
    assert done.noise[1] < done.noise[0]


def test_the_same_seed_gives_the_same_network(network: nn.Module, pictures: NDArray[np.float32]) -> None:
    one, other = (equalize(network, pictures, precision=Precision.W8A8, seed=4).network for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True))


class Squashed(nn.Module):
    """A sigmoid between two layers, which passes no factor through; its inputs are far apart in size."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Conv2d(3, 4, 1), nn.Conv2d(4, 2, 1)
        with torch.no_grad():
            self.first.weight[0] *= 30

    def forward(self, pictures: Tensor) -> Tensor:
        """Map ``[1, 3, H, W]`` to ``[1, 2, H, W]``."""
        y: Tensor = self.last(F.relu6(torch.sigmoid(self.first(pictures))))
        return y


@pytest.mark.parametrize("rule", ["sigmoid", "hardtanh"])
def test_a_wrong_rule_does_not_get_past_the_certificate(
    rule: str, pictures: NDArray[np.float32], monkeypatch: pytest.MonkeyPatch
) -> None:
    squashed = Squashed().eval()
    assert equalize(squashed, pictures, precision=Precision.W8A8).layers == {}
    monkeypatch.setattr(channels, "_PASSES", channels._PASSES | {"sigmoid", "relu6", rule})
    with pytest.raises(GateFailedError, match="must not ship"):
        equalize(squashed, pictures, precision=Precision.W8A8)


def test_factors_on_the_wrong_side_do_not_get_past_the_certificate(
    network: nn.Module, pictures: NDArray[np.float32], monkeypatch: pytest.MonkeyPatch
) -> None:
    from quantization.methods import equalization

    monkeypatch.setattr(equalization, "_by_column", lambda _, weight, __: torch.ones_like(weight))
    with pytest.raises(GateFailedError, match="float64"):
        equalize(network, pictures, precision=Precision.W8A8)
