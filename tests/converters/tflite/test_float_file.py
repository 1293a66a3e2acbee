from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from torch import nn

from converters import tflite
from converters.tflite.flatbuffer import operators, read_model
from lspdmobile.artifact import Artifact
from lspdmobile.choices import Precision
from lspdmobile.errors import ConversionError

if TYPE_CHECKING:
    from tests.converters.tflite.conftest import World


def test_changed_weights_are_converted_anew(world: "World") -> None:
    network = nn.Conv2d(3, 4, 1)
    assert network.bias is not None
    first = tflite.open_executor(world.emit_network(network, "first.tflite").path).heatmaps(world.pictures)
    network.bias.data += 1
    second = tflite.open_executor(world.emit_network(network, "second.tflite").path).heatmaps(world.pictures)
    np.testing.assert_allclose(second, first + 1, atol=1e-5)


def test_elu_becomes_the_native_operator(world: "World") -> None:
    torch.manual_seed(3)
    network = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.ELU(), nn.Conv2d(4, 5, 1, bias=False), nn.ELU()).eval()
    artifact = world.emit_network(network, "elu.tflite")
    facts = tflite.inspect(artifact.path)
    assert dict(facts.ops) == {"CONV_2D": 2, "ELU": 2}
    assert facts.delegation is not None
    assert facts.delegation.fraction == 1
    heatmaps = tflite.open_executor(artifact.path).heatmaps(world.pictures)
    assert world.error(heatmaps, world.run(network)) <= 1e-5
    assert isinstance(network[1], nn.ELU)  # the caller's network is left alone


def test_elu_of_another_alpha_is_not_mistaken_for_the_native_one(
    world: "World", half_elu: tuple[nn.Module, Artifact]
) -> None:
    network, artifact = half_elu
    assert "ELU" not in tflite.inspect(artifact.path).ops
    heatmaps = tflite.open_executor(artifact.path).heatmaps(world.pictures)
    assert world.error(heatmaps, world.run(network)) <= 1e-5


def test_a_network_with_elu_and_sine_is_refused(world: "World") -> None:
    class Waves(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.act = nn.ELU()

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.sin(self.act(x))

    with pytest.raises(ConversionError, match="1 ELU modules became 2 SIN"):
        world.emit_network(Waves(), "waves.tflite")


def test_tensors_have_names_of_their_own_where_a_module_is_called_as_the_second_use_of_another(world: "World") -> None:
    class Namesakes(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.mix, self.mix_1, self.mix_2 = (nn.Conv2d(3, 3, 1) for _ in range(3))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            for layer in (self.mix_1, self.mix, self.mix, self.mix, self.mix_2):
                x = layer(x)
            return x

    graph = read_model(world.emit_network(Namesakes().eval(), "namesakes.tflite").path).subgraphs[0]
    names = [tensor.name for tensor in graph.tensors]
    assert {b"mix", b"mix_1"} <= set(names)
    assert len(set(names)) == len(names)


def test_resize_and_layout_lower_to_native_operators(emitted: dict[Precision, Artifact]) -> None:
    model = read_model(emitted[Precision.FP32].path)
    names = [name for name, _, _ in operators(model)]
    assert "TRANSPOSE" not in names
    (resize,) = [operator for name, operator, _ in operators(model) if name == "RESIZE_BILINEAR"]
    assert resize.builtinOptions.halfPixelCenters
    assert not resize.builtinOptions.alignCorners


def test_nchw_differs_by_two_transposes_only(
    world: "World", emitted: dict[Precision, Artifact], nchw: Artifact
) -> None:
    nhwc_ops, nchw_ops = (dict(tflite.inspect(a.path).ops) for a in (emitted[Precision.W8A8], nchw))
    assert nchw_ops.pop("TRANSPOSE") == 2
    assert nchw_ops == nhwc_ops
    first, second = (tflite.open_executor(a.path).heatmaps(world.pictures) for a in (emitted[Precision.W8A8], nchw))
    np.testing.assert_array_equal(first, second)
