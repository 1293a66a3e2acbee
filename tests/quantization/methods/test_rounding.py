"""Adaptive rounding: a layer whose best rounding is known, the grid, and the gain on a network."""

import itertools

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from lspdmobile.choices import Precision
from quantization.affine import weight_scales
from quantization.calibrate import calibrate
from quantization.methods.layers import kind_of
from quantization.methods.rounding import round_weights
from quantization.methods.rounding_search import RoundingSettings, WeightGrid, samples_of, searched, stretched_sigmoid
from quantization.plan import QuantizationPlan

SIZE = (12, 12)
W8 = QuantizationPlan(precision=Precision.W8)
QUICK = RoundingSettings(steps=200, batch=128, samples=1024)


def integers_of(weight: NDArray[np.float32], *, bits: int = 8) -> NDArray[np.float64]:
    """What an emitter makes of a weight."""
    scales = weight_scales(weight, bits=bits).reshape(-1, *[1] * (weight.ndim - 1))
    return np.rint(weight / scales)


def test_a_grid_keeps_each_channels_largest_weight_and_floors_the_others() -> None:
    weight = torch.tensor([[127.0, 3.6, -3.6], [-12.7, 0.53, 12.7], [0.0, 0.0, 0.0]])
    grid = WeightGrid.of(weight, torch.tensor([1.0, 0.1, 1.0]), 127)
    assert grid.free.tolist() == [[False, True, True], [False, True, True], [False, False, False]]
    assert grid.floor.tolist() == [[127, 3, -4], [-127, 5, 127], [0, 0, 0]]
    assert grid.integers(grid.nearest()).tolist() == [[127, 4, -4], [-127, 5, 127], [0, 0, 0]]
    assert grid.integers(torch.ones(3, 3)).tolist() == [[127, 4, -3], [-127, 6, 127], [0, 0, 0]]
    assert grid.shares[0].tolist() == pytest.approx([0.0, 0.6, 0.4], abs=1e-5)


def test_a_channel_whose_scale_is_not_its_own_keeps_its_weights() -> None:
    # A large bias widens the scale of a channel of small weights; its integers are for the emitters to find.
    weight = torch.tensor([[1.0, 0.3], [1.0, 0.3]])
    grid = WeightGrid.of(weight, torch.tensor([1 / 127, 0.5]), 127)
    assert torch.equal(grid.weights(torch.ones(2, 2))[1], weight[1])
    assert not torch.equal(grid.weights(torch.ones(2, 2))[0], weight[0])


def test_the_stretched_sigmoid_reaches_both_ends() -> None:
    found = stretched_sigmoid(torch.tensor([-10.0, 0.0, 10.0]))
    assert found.tolist() == [0.0, 0.5, 1.0]


def test_the_search_finds_the_best_of_all_roundings() -> None:
    # Inputs that always agree: what counts is the sum of the errors, -1.2 rounded to nearest, so one of them goes up.
    layer = nn.Conv2d(4, 1, 1).eval()
    with torch.no_grad():
        layer.weight[0, :, 0, 0] = torch.tensor([127.0, 10.4, 20.35, 30.45])
        layer.bias.zero_() if layer.bias is not None else None
    generator = torch.Generator().manual_seed(0)
    inputs = [torch.randn(1, 1, *SIZE, generator=generator).expand(1, 4, *SIZE).contiguous() for _ in range(8)]
    node = next(n for n in torch.export.export(layer, (inputs[0],)).module().graph.nodes if kind_of(n) == "conv2d")
    with torch.no_grad():
        gives = [layer(each) for each in inputs]
    grid = WeightGrid.of(layer.weight.detach(), torch.ones(1), 127)
    samples = samples_of(node, (1, 1), layer.bias, inputs, gives, relu=False, settings=QUICK, generator=generator)
    lifts = searched(samples, grid, QUICK, generator)
    every = (torch.tensor([0.0, *each]).reshape(1, 4, 1, 1) for each in itertools.product((0.0, 1.0), repeat=3))
    best = min(samples.judged(grid.weights(each)) for each in every)
    assert samples.judged(grid.weights(lifts)) == pytest.approx(best, rel=1e-3)
    assert best < 0.2 * samples.judged(grid.weights(grid.nearest()))
    assert lifts.sum() == 1


@pytest.mark.parametrize(
    "layer",
    [
        nn.Conv2d(6, 4, 3, padding=1, stride=2),
        nn.Conv2d(6, 6, 5, padding=4, dilation=2, groups=6),
        nn.Conv2d(6, 4, 3, padding="same", groups=2),
        nn.Conv2d(6, 4, (1, 3), padding="valid", bias=False),
        nn.Conv2d(6, 4, 3, padding=(0, 2), stride=(1, 2)),
    ],
)
def test_sampled_positions_give_what_the_layer_gives(layer: nn.Conv2d) -> None:
    source = torch.randn(1, 6, *SIZE)
    with torch.no_grad():
        output = layer(source)
    node = next(n for n in torch.export.export(layer, (source,)).module().graph.nodes if kind_of(n) == "conv2d")
    samples = samples_of(
        node,
        layer.weight.shape[2:],
        layer.bias,
        [source] * 2,
        [output] * 2,
        relu=False,
        settings=QUICK,
        generator=torch.Generator().manual_seed(0),
    )
    assert samples.inputs.shape[1] == 2 * output.shape[2] * output.shape[3]
    assert samples.judged(layer.weight.detach()) < 1e-12


@pytest.mark.parametrize("relu", [False, True])
def test_the_slope_is_that_of_the_error(relu: bool) -> None:
    layer, source = nn.Conv2d(6, 4, 3, groups=2), torch.randn(1, 6, *SIZE)
    node = next(n for n in torch.export.export(layer, (source,)).module().graph.nodes if kind_of(n) == "conv2d")
    samples = samples_of(
        node,
        (3, 3),
        layer.bias,
        [source] * 2,
        [torch.randn(1, 4, 10, 10)] * 2,
        relu=relu,
        settings=QUICK,
        generator=torch.Generator().manual_seed(0),
    )
    rows = torch.arange(50)
    weight = layer.weight.detach().clone().requires_grad_()
    samples.error(weight, rows).backward()
    found = samples.slope(samples.by_group(weight.detach()), rows)
    assert weight.grad is not None
    torch.testing.assert_close(samples.as_weight(found, weight), weight.grad)


def test_emitters_find_the_integers_again(network: nn.Module, pictures: NDArray[np.float32]) -> None:
    done = round_weights(network, W8, pictures, settings=QUICK)
    given, found = network.state_dict(), done.network.state_dict()
    changed = 0
    assert given.keys() == found.keys()
    for name in (name for name in given if name.endswith(".weight")):
        before, after = given[name].numpy(), found[name].numpy()
        assert np.array_equal(weight_scales(before), weight_scales(after))
        integers = integers_of(after)
        assert np.abs(after / weight_scales(before).reshape(-1, 1, 1, 1) - integers).max() < 1e-4
        assert np.abs(integers - before / weight_scales(before).reshape(-1, 1, 1, 1)).max() < 1 + 1e-4
        changed += int((integers != integers_of(before)).sum())
    assert changed > 0
    assert any(each.changed > 0 for each in done.layers)


@pytest.mark.parametrize(("plan", "bits"), [(W8, 8), (QuantizationPlan(precision=Precision.W4), 4)], ids=["w8", "w4"])
def test_rounding_brings_the_rounded_network_closer(
    plan: QuantizationPlan,
    bits: int,
    network: nn.Module,
    pictures: NDArray[np.float32],
    fresh_pictures: NDArray[np.float32],
) -> None:
    def noise(candidate: nn.Module) -> float:
        rounded = rounded_to_nearest(candidate, bits)
        fresh = torch.from_numpy(fresh_pictures)
        with torch.no_grad():
            return float(sum((rounded(each[None]) - network(each[None])).square().sum() for each in fresh))

    done = round_weights(network, plan, pictures, settings=QUICK)
    assert noise(done.network) < 0.7 * noise(network)


def rounded_to_nearest(network: nn.Module, bits: int) -> nn.Module:
    """Put the weights on their grids, those of one input channel on that of int8."""
    from quantization.methods.layers import renewed

    values: dict[str, Tensor] = {}
    for name, value in network.state_dict().items():
        if value.ndim == 4:
            held = 8 if value.shape[1] == 1 else bits
            scales = weight_scales(value.numpy(), bits=held).reshape(-1, 1, 1, 1)
            values[name] = torch.from_numpy((integers_of(value.numpy(), bits=held) * scales).astype(np.float32))
    return renewed(network, values)


def test_one_rounding_serves_every_precision(network: nn.Module, pictures: NDArray[np.float32]) -> None:
    plans = [W8, calibrate(network, pictures, precision=Precision.W8A8)]
    one, other = (round_weights(network, plan, pictures, settings=QUICK, seed=1).network for plan in plans)
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True))


def test_a_layer_that_comes_no_closer_keeps_nearest_rounding(pictures: NDArray[np.float32]) -> None:
    exact = nn.Conv2d(3, 2, 1).eval()
    with torch.no_grad():
        exact.weight[:, :, 0, 0] = torch.tensor([[127.0, 3.0, -5.0], [-127.0, 0.0, 64.0]])
    done = round_weights(exact, W8, pictures, settings=QUICK)
    assert (done.layers[0].changed, done.layers[0].reason) == (0, "no closer on pictures left out")
    assert torch.equal(done.network.state_dict()["weight"], exact.weight)


def test_a_shared_weight_is_left_alone(pictures: NDArray[np.float32]) -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Conv2d(3, 3, 1)

        def forward(self, x: Tensor) -> Tensor:
            y: Tensor = self.layer(F.relu(self.layer(x)))
            return y

    twice = Twice().eval()
    done = round_weights(twice, W8, pictures, settings=QUICK)
    assert [each.reason for each in done.layers] == ["its weight is shared with another layer"] * 2
    assert torch.equal(done.network.state_dict()["layer.weight"], twice.layer.weight)


def test_one_picture_cannot_search_and_judge(network: nn.Module, pictures: NDArray[np.float32]) -> None:
    with pytest.raises(ValueError, match="at least two pictures"):
        round_weights(network, W8, pictures[:1])
