"""Names of layers, and copies of networks with other weights."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from quantization.graph import exported_module
from quantization.methods.layers import argument, kind_of, layers_of, renewed

SIZE = (12, 12)


class Shared(nn.Module):
    """One layer used twice, one with a computed weight, one of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.twice = nn.Conv2d(3, 3, 1)
        self.doubled = nn.Conv2d(3, 4, 1)
        self.own = nn.Conv2d(4, 4, 3, padding=1, groups=4, bias=False)

    def forward(self, pictures: Tensor) -> Tensor:
        """Map ``[1, 3, H, W]`` to ``[1, 4, H, W]``."""
        x = self.twice(F.relu(self.twice(pictures)))
        y: Tensor = self.own(F.relu(F.conv2d(x, 2 * self.doubled.weight)))
        return y


def test_layers_are_listed_in_order_with_their_parameters(network: nn.Module) -> None:
    layers = layers_of(exported_module(network, SIZE))
    assert [layer.weight for layer in layers] == [f"{name}.weight" for name, _ in network.named_children()]
    assert [layer.name for layer in layers] == ["conv2d", "conv2d_1", "conv2d_2", "conv2d_3", "conv2d_4"]
    assert [layer.groups for layer in layers] == [1, 8, 1, 1, 1]
    assert [layer.relu for layer in layers] == ["relu", "relu_1", None, "relu_3", None]
    assert [layer.source for layer in layers] == ["pictures", "relu", "relu_1", "relu_2", "cat"]


def test_shared_weights_are_marked_and_computed_ones_left_out() -> None:
    layers = layers_of(exported_module(Shared().eval(), SIZE))
    assert [(layer.weight, layer.bias, layer.shared) for layer in layers] == [
        ("twice.weight", "twice.bias", True),
        ("twice.weight", "twice.bias", True),
        ("own.weight", None, False),
    ]


def test_arguments_that_were_not_given_have_their_defaults() -> None:
    program = exported_module(nn.Conv2d(3, 4, 1).eval(), SIZE)
    node = next(node for node in program.graph.nodes if kind_of(node) == "conv2d")
    assert (set(argument(node, "stride")), argument(node, "groups")) == ({1}, 1)
    with pytest.raises(ValueError, match="no argument"):
        argument(node, "colour")


def test_a_renewed_network_has_the_values_and_the_original_keeps_its_own(network: nn.Module) -> None:
    before = network.state_dict()["head.bias"].clone()
    changed = renewed(network, {"head.bias": before + 1})
    assert torch.equal(changed.state_dict()["head.bias"], before + 1)
    assert torch.equal(network.state_dict()["head.bias"], before)


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("nose.bias", torch.zeros(4), "no parameter"),
        ("head.bias", torch.zeros(5), "no parameter"),
        ("head.bias", torch.full((4,), torch.nan), "finite"),
    ],
)
def test_values_that_do_not_fit_are_refused(network: nn.Module, name: str, value: Tensor, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        renewed(network, {name: value})
