"""Every number of an integer layer is read back from the ``.pte``; one that was changed is named with its layer."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from numpy.typing import NDArray

from converters.executorch.deviation import read_back
from converters.executorch.layers import check_layers
from converters.executorch.program import read_with_constants, xnnpack_graphs
from lspdmobile.artifact import Artifact
from lspdmobile.choices import Precision
from lspdmobile.errors import ConversionError
from quantization.graph import quantized_module
from quantization.integer_layers import IntegerLayer, integer_layers

if TYPE_CHECKING:
    from tests.converters.executorch.conftest import World

Patch = Callable[[NDArray[np.generic], NDArray[np.generic]], Path]
LAYER = "conv2d_3"


@pytest.fixture(scope="module")
def layers(world: "World") -> Mapping[str, IntegerLayer]:
    """What the plan says of every layer."""
    return integer_layers(quantized_module(world.network, world.plan, world.pictures.shape[2:]))


def check(path: Path, layers: Mapping[str, IntegerLayer]) -> None:
    program, constants = read_with_constants(path)
    check_layers(path, tuple(xnnpack_graphs(program, path, constants)), layers)


@pytest.fixture
def patched(emitted: dict[Precision, Artifact], tmp_path: Path) -> Patch:
    """Give a function that writes the file with other bytes in place of some that it holds exactly once."""
    content, path = emitted[Precision.W8A8].path.read_bytes(), tmp_path / "patched.pte"

    def patch(before: NDArray[np.generic], after: NDArray[np.generic]) -> Path:
        assert content.count(before.tobytes()) == 1
        path.write_bytes(content.replace(before.tobytes(), after.tobytes()))
        return path

    return patch


def stored(layer: IntegerLayer) -> NDArray[np.int8]:
    """Give a convolution's weights in the file's order."""
    return np.ascontiguousarray(layer.weights.transpose(0, 2, 3, 1))


def test_an_emitted_file_holds_every_layer_of_the_plan(
    emitted: dict[Precision, Artifact], layers: Mapping[str, IntegerLayer]
) -> None:
    check(emitted[Precision.W8A8].path, layers)
    assert len(layers) == 19


def test_branches_may_lie_in_another_order_than_the_programs(
    emitted: dict[Precision, Artifact], layers: Mapping[str, IntegerLayer]
) -> None:
    """As where an operator between two branches is not delegated."""
    path = emitted[Precision.W8A8].path
    program, constants = read_with_constants(path)
    turned = tuple(
        replace(graph, nodes=tuple(reversed(graph.nodes))) for graph in xnnpack_graphs(program, path, constants)
    )

    check_layers(path, turned, layers)

    other = replace(layers[LAYER], bias=layers[LAYER].bias + 1)
    with pytest.raises(ConversionError, match=rf"{LAYER} has a bias of"):
        check_layers(path, turned, {**layers, LAYER: other})


def test_verify_reads_a_sound_file_back_without_a_fault(emitted: dict[Precision, Artifact], world: "World") -> None:
    path = emitted[Precision.W8A8].path
    assert read_back(path, network=world.network, plan=world.plan, pictures=world.pictures).faults == ()


def test_verify_reads_one_changed_weight_back(
    patched: Patch, layers: Mapping[str, IntegerLayer], world: "World"
) -> None:
    weights = stored(layers[LAYER])
    other = weights.copy()
    other.flat[5] += 1 if other.flat[5] < 0 else -1
    path = patched(weights, other)
    found = read_back(path, network=world.network, plan=world.plan, pictures=world.pictures)
    assert found.faults == (f"{LAYER} has 1 of {weights.size} weights that differ",)
    assert found.layers == len(layers)


def test_one_weight_scale_is_named_with_its_channel(patched: Patch, layers: Mapping[str, IntegerLayer]) -> None:
    scales = layers[LAYER].scales
    path = patched(scales, np.concatenate([scales[:2], [1.01 * scales[2]], scales[3:]]).astype(np.float32))
    with pytest.raises(ConversionError, match=rf"{LAYER} has a weight scale of .*, in channel 2"):
        check(path, layers)


def test_one_weight_is_named(patched: Patch, layers: Mapping[str, IntegerLayer]) -> None:
    weights = stored(layers[LAYER])
    other = weights.copy()
    other.flat[5] += 1 if other.flat[5] < 0 else -1
    with pytest.raises(ConversionError, match=rf"{LAYER} has 1 of {weights.size} weights that differ$"):
        check(patched(weights, other), layers)


def test_one_bias_is_named(patched: Patch, layers: Mapping[str, IntegerLayer]) -> None:
    layer = layers[LAYER]
    steps = (layer.scales * np.float32(layer.input.scale)).astype(np.float32)
    bias = np.rint(layer.bias / steps).astype(np.int32)
    other = bias.copy()
    other[1] += 1000
    with pytest.raises(ConversionError, match=rf"{LAYER} has a bias of .*, in channel 1"):
        check(patched(bias, other), layers)


def test_layers_of_each_others_grids_are_named(
    emitted: dict[Precision, Artifact], layers: Mapping[str, IntegerLayer]
) -> None:
    swapped = {**layers, LAYER: replace(layers[LAYER], input=layers["conv2d_1"].input)}
    with pytest.raises(ConversionError, match=rf"{LAYER} has an input of scale"):
        check(emitted[Precision.W8A8].path, swapped)


def test_a_layer_too_few_is_an_error(emitted: dict[Precision, Artifact], layers: Mapping[str, IntegerLayer]) -> None:
    fewer = {name: layer for name, layer in layers.items() if name != LAYER}
    with pytest.raises(ConversionError, match="holds 19 integer layers where the plan has 18"):
        check(emitted[Precision.W8A8].path, fewer)
