"""Running a graph node by node, and changing it on the way."""

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import nn

from quantization.graph import exported_module
from quantization.methods.lockstep import Lockstep

SIZE = (12, 12)


def inputs_of(pictures: NDArray[np.float32]) -> list[torch.Tensor]:
    return list(torch.from_numpy(pictures).split(1))


def test_every_picture_gets_what_the_network_gives(network: nn.Module, pictures: NDArray[np.float32]) -> None:
    found = Lockstep(exported_module(network, SIZE), inputs_of(pictures)).values("conv2d_4")
    with torch.no_grad():
        assert all(torch.equal(one, network(each)) for one, each in zip(found, inputs_of(pictures), strict=True))


def test_what_replaces_a_value_is_what_later_nodes_read(network: nn.Module, pictures: NDArray[np.float32]) -> None:
    steps = Lockstep(exported_module(network, SIZE), inputs_of(pictures))
    first = steps.values("conv2d")
    steps.replace("conv2d", [torch.full_like(each, -1.0) for each in first])
    assert all(each.abs().max() == 0 for each in steps.values("relu"))


def test_a_weight_that_changes_before_its_layer_runs_counts(network: nn.Module, pictures: NDArray[np.float32]) -> None:
    program = exported_module(network, SIZE)
    steps = Lockstep(program, inputs_of(pictures))
    steps.values("relu_1")
    with torch.no_grad():
        program.state_dict()["project.weight"].zero_()
    bias = program.state_dict()["project.bias"]
    for each in steps.values("conv2d_2"):
        torch.testing.assert_close(each, bias.reshape(1, -1, 1, 1).expand_as(each))


def test_values_that_were_let_go_are_not_given(network: nn.Module, pictures: NDArray[np.float32]) -> None:
    steps = Lockstep(exported_module(network, SIZE), inputs_of(pictures))
    steps.values("conv2d_4")
    with pytest.raises(ValueError, match="still needed"):
        steps.values("conv2d")
