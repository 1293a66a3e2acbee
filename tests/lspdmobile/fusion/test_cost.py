from pathlib import Path

import pytest
import torch
from torch import nn
from torch.export import ExportedProgram
from torch.nn import functional as F

from lspdmobile.errors import BadInputError
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


def test_every_layer_has_its_own_row_and_the_rows_add_up() -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Sequential(nn.Conv2d(4, 4, 1, groups=2)))
    cost = cost_of(network, (6, 8))
    rows = {layer.name: (layer.params, layer.macs, dict(layer.operators)) for layer in cost.layers}
    assert rows == {
        "0": (4 * 27 + 4, 4 * 6 * 4 * 27, {"convolution": 1}),
        "1": (8, 0, {"native_batch_norm": 1}),
        "2.0": (4 * 2 + 4, 4 * 6 * 4 * 2, {"1x1 convolution": 1}),
    }
    assert sum(layer.params for layer in cost.layers) == cost.params
    assert sum(layer.macs for layer in cost.layers) == cost.macs


def test_operators_of_a_kind_are_counted_together() -> None:
    network = nn.Sequential(
        nn.Conv2d(4, 4, 3, groups=4),
        nn.Conv2d(4, 4, 1, groups=4),
        nn.Conv2d(4, 8, 1),
        nn.Conv2d(8, 8, 3, groups=2),
        nn.ConvTranspose2d(8, 2, 2, stride=2),
        nn.Flatten(),
        nn.Linear(2 * 4 * 4, 5),
    )
    cost = cost_of(network, (6, 6), in_channels=4)
    assert {o.name: (o.calls, o.macs) for o in cost.operators} == {
        "depthwise convolution": (2, 4 * 16 * 9 + 4 * 16),
        "1x1 convolution": (1, 8 * 16 * 4),
        "convolution": (1, 8 * 4 * 4 * 9),
        "transposed convolution": (1, 8 * 4 * 2 * 4),
        "matrix product": (1, 32 * 5),
    }
    assert sum(o.macs for o in cost.operators) == cost.macs


def test_what_a_forward_does_itself_is_entered_under_its_own_module() -> None:
    class Inside(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.scale = nn.Parameter(torch.ones(3, 3, 1, 1))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return F.conv2d(x, self.scale)

    class Outside(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inside = Inside()

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            twice: torch.Tensor = self.inside(x) + self.inside(x)
            return twice

    cost = cost_of(Outside(), (2, 2))
    rows = {layer.name: (layer.params, layer.macs, dict(layer.operators)) for layer in cost.layers}
    assert rows == {"inside": (9, 2 * 9 * 4, {"1x1 convolution": 2}), "": (0, 0, {"add": 1})}
    assert cost_of(exported(Outside(), (2, 2))) == cost


def test_parameters_nothing_reads_have_a_row_too() -> None:
    network = nn.Sequential(nn.Identity())
    network.register_parameter("unused", nn.Parameter(torch.zeros(5)))
    cost = cost_of(network, (2, 2))
    assert [(layer.name, layer.params, layer.macs) for layer in cost.layers] == [("", 5, 0)]


def test_gimacs_are_macs_over_1024_cubed() -> None:
    cost = cost_of(nn.Conv2d(1024, 1024, 1, bias=False), (32, 32), in_channels=1024)
    assert (cost.macs, cost.gimacs) == (1024**3, 1.0)


def exported(network: nn.Module, size: tuple[int, int], channels: int = 3) -> ExportedProgram:
    with torch.no_grad():
        return torch.export.export(network.eval(), (torch.zeros(1, channels, *size),))


def test_a_program_gives_the_tables_of_its_module(tiny_student: nn.Module) -> None:
    assert cost_of(exported(tiny_student, (64, 64))) == cost_of(tiny_student, (64, 64))


def test_a_program_read_back_from_its_file_counts_alike(tiny_student: nn.Module, tmp_path: Path) -> None:
    program = exported(tiny_student, (64, 64))
    torch.export.save(program, tmp_path / "network.pt2")
    assert cost_of(torch.export.load(tmp_path / "network.pt2")) == cost_of(program)


def test_a_program_of_dynamic_shapes_is_refused() -> None:
    size = torch.export.Dim.AUTO
    program = torch.export.export(nn.Conv2d(3, 4, 3), (torch.zeros(1, 3, 8, 8),), dynamic_shapes=[{3: size}])
    with pytest.raises(BadInputError, match="dynamic shapes"):
        cost_of(program)


def test_a_module_needs_an_input_size_and_a_program_has_its_own() -> None:
    with pytest.raises(ValueError, match="input size"):
        cost_of(nn.Conv2d(3, 4, 1))
    with pytest.raises(ValueError, match="input size"):
        cost_of(exported(nn.Conv2d(3, 4, 1), (8, 8)), (8, 8))


def test_attention_of_a_program_counts_as_the_two_products_it_is() -> None:
    class Attention(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            tokens = x.flatten(2).mT[:, None]
            return F.scaled_dot_product_attention(tokens, tokens, tokens)

    channels, tokens = 16, 4 * 6
    wanted = 2 * tokens * tokens * channels
    assert cost_of(Attention(), (4, 6), in_channels=channels).macs == wanted
    assert cost_of(exported(Attention(), (4, 6), channels)).macs == wanted
