"""Which channels may be scaled: each rule of the module's list, on a network that has just that."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from quantization.graph import exported_module
from quantization.methods.channels import ChannelClasses, channel_classes

SIZE = (12, 12)
Middle = Callable[[Tensor, Tensor], Tensor]


class Between(nn.Module):
    """Two layers of one picture, something between, and a layer that reads it."""

    def __init__(self, middle: Middle, channels: int = 4) -> None:
        super().__init__()
        self.one, self.other = nn.Conv2d(3, 4, 1), nn.Conv2d(3, 4, 1)
        self.reader = nn.Conv2d(channels, 2, 1)
        self.middle = middle

    def forward(self, pictures: Tensor) -> Tensor:
        """Map ``[1, 3, H, W]`` to ``[1, 2, h, w]``."""
        y: Tensor = self.reader(self.middle(self.one(pictures), self.other(pictures)))
        return y


def classes_of(middle: Middle, channels: int = 4) -> ChannelClasses:
    return channel_classes(exported_module(Between(middle, channels).eval(), SIZE))


def fixed(classes: ChannelClasses, name: str) -> list[bool]:
    found: list[bool] = classes.fixed[classes.of[name]].tolist()
    return found


PASSING: dict[str, Middle] = {
    "relu": lambda a, _: F.relu(a),
    "leaky relu": lambda a, _: F.leaky_relu(a, 0.1),
    "max pooling": lambda a, _: F.max_pool2d(a, 2),
    "average pooling": lambda a, _: F.avg_pool2d(a, 2),
    "bilinear": lambda a, _: F.interpolate(a, scale_factor=2.0, mode="bilinear"),
    "nearest": lambda a, _: F.interpolate(a, scale_factor=2.0, mode="nearest"),
    "zero padding": lambda a, _: F.pad(a, (1, 1, 1, 1)),
}
STOPPING: dict[str, Middle] = {
    "relu6": lambda a, _: F.relu6(a),
    "sigmoid": lambda a, _: torch.sigmoid(a),
    "elu": lambda a, _: F.elu(a),
    "silu": lambda a, _: F.silu(a),
    "padding with ones": lambda a, _: F.pad(a, (1, 1, 1, 1), value=1.0),
    "a constant added": lambda a, _: a + 1.0,
    "a broadcast sum": lambda a, b: a + b.mean(1, keepdim=True),
    "a softmax": lambda a, _: torch.softmax(a, 1),
    "a square": lambda a, _: a * a,
    "channels shuffled": lambda a, _: a.flip(1),
}


@pytest.mark.parametrize("name", PASSING)
def test_what_passes_factors_ties_each_channel_to_itself(name: str) -> None:
    classes = classes_of(PASSING[name])
    reader = next(layer for layer in classes.layers if layer.weight == "reader.weight")
    assert np.array_equal(classes.of["conv2d"], classes.of[reader.source])
    assert fixed(classes, "conv2d") == [False] * 4
    assert len(set(classes.of["conv2d"])) == 4


@pytest.mark.parametrize("name", STOPPING)
def test_what_does_not_pass_factors_keeps_them_at_one(name: str) -> None:
    assert all(fixed(classes_of(STOPPING[name]), "conv2d"))


def test_an_addition_ties_both_operands() -> None:
    classes = classes_of(lambda a, b: F.relu(a + b))
    assert np.array_equal(classes.of["conv2d"], classes.of["conv2d_1"])
    assert not any(fixed(classes, "conv2d"))


def test_a_concatenation_ties_parts_to_their_places() -> None:
    classes = classes_of(lambda a, b: torch.cat([a, b], 1), channels=8)
    assert np.array_equal(classes.of["cat"], np.concatenate([classes.of["conv2d"], classes.of["conv2d_1"]]))
    assert len(set(classes.of["cat"])) == 8


def test_a_concatenation_of_rows_is_left_alone() -> None:
    assert all(fixed(classes_of(lambda a, b: torch.cat([a, b], 2)), "conv2d"))


def test_a_gate_keeps_its_size_and_what_it_gates_does_not() -> None:
    classes = classes_of(lambda a, b: a * torch.sigmoid(F.adaptive_avg_pool2d(b, 1)))
    assert not any(fixed(classes, "conv2d"))
    assert all(fixed(classes, "conv2d_1"))


def test_a_depthwise_layer_frees_its_output_from_its_input(network: nn.Module) -> None:
    classes = channel_classes(exported_module(network, SIZE))
    assert not set(classes.of["relu"]) & set(classes.of["relu_1"])
    assert not any(fixed(classes, "relu_1"))


def test_picture_and_heatmaps_are_fixed(network: nn.Module) -> None:
    classes = channel_classes(exported_module(network, SIZE))
    assert all(fixed(classes, "pictures"))
    assert all(fixed(classes, "conv2d_4"))


def test_around_a_shared_weight_everything_is_fixed() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.layer, self.last = nn.Conv2d(3, 3, 1), nn.Conv2d(3, 3, 1), nn.Conv2d(3, 2, 1)

        def forward(self, pictures: Tensor) -> Tensor:
            y: Tensor = self.last(self.layer(F.relu(self.layer(self.first(pictures)))))
            return y

    classes = channel_classes(exported_module(Twice().eval(), SIZE))
    assert classes.fixed.all()
