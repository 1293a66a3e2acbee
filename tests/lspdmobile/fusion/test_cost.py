import pytest
import torch
from torch import nn
from torch.nn import functional as F

from lspdmobile.fusion.cost import cost_of, macs_of, params_of


@pytest.mark.parametrize(("kernel", "stride", "dilation", "groups"), [(1, 1, 1, 1), (3, 2, 1, 2), (5, 1, 2, 4)])
def test_convolution_macs_are_outputs_times_taps_times_inputs_per_group(
    kernel: int, stride: int, dilation: int, groups: int
) -> None:
    rows, columns = 12, 20
    conv = nn.Conv2d(
        4, 8, kernel, stride=stride, padding=dilation * (kernel - 1) // 2, dilation=dilation, groups=groups
    )
    outputs = 8 * (rows // stride) * (columns // stride)
    assert macs_of(conv, (rows, columns), in_channels=4) == outputs * kernel**2 * (4 // groups)


def test_transposed_convolution_macs_go_by_the_input() -> None:
    conv = nn.ConvTranspose2d(4, 6, 2, stride=2, bias=False)
    assert macs_of(conv, (5, 7), in_channels=4) == 4 * 5 * 7 * 6 * 2 * 2


def test_linear_layers_with_and_without_bias_count_alike() -> None:
    for bias in (True, False):
        network = nn.Sequential(nn.Flatten(), nn.Linear(3 * 4 * 4, 10, bias=bias))
        assert macs_of(network, (4, 4)) == 3 * 4 * 4 * 10


def test_functional_convolutions_are_counted_and_other_operators_listed() -> None:
    class Functional(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return F.relu(F.conv2d(x, torch.ones(2, 3, 3, 3, device=x.device)) + 1.0)

    cost = cost_of(Functional(), (6, 6))
    assert cost.macs == 2 * 4 * 4 * 27
    assert cost.uncounted_ops.keys() >= {"add", "relu"}
    assert "convolution" not in cost.uncounted_ops


def test_params_count_each_tensor_once_and_no_running_statistics() -> None:
    conv = nn.Conv2d(3, 4, 3)
    network = nn.Sequential(conv, nn.BatchNorm2d(4), conv)
    assert params_of(network) == (4 * 3 * 9 + 4) + (4 + 4)


def test_counting_leaves_the_network_where_it_is(tiny_student: nn.Module) -> None:
    macs_of(tiny_student.train(), (64, 64))
    assert tiny_student.training
    assert next(tiny_student.parameters()).device.type == "cpu"
