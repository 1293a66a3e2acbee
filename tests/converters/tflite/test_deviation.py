"""A file is held to its plan tensor by tensor, and a number that was changed shows in its own layer."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from converters.tflite.deviation import deviation
from converters.tflite.flatbuffer import main_graph, operators, read_model, to_bytes
from lspdmobile.artifact import Artifact
from lspdmobile.choices import Precision
from lspdmobile.deviation import Deviation
from lspdmobile.errors import ConversionError
from lspdmobile.parity.gate import Gate

if TYPE_CHECKING:
    from tests.converters.tflite.conftest import World

STEM = 0
"""None of the values it reads is always zero."""
INNER = 3
LIMIT = Gate().max_steps(Precision.W8A8)


@pytest.fixture
def look(world: "World") -> Callable[..., Deviation]:
    """Compare a file with the plan of a precision."""

    def look(path: Path, precision: Precision = Precision.W8A8, **options: bool) -> Deviation:
        return deviation(path, network=world.network, plan=world.plan(precision), pictures=world.pictures, **options)

    return look


@pytest.fixture
def changed(emitted: dict[Precision, Artifact], tmp_path: Path) -> Callable[..., Path]:
    """Change the n-th convolution of the w8a8 file: ``change(model, operator)``."""

    def write(change: Callable[[Any, Any], None], layer: int = STEM) -> Path:
        model = read_model(emitted[Precision.W8A8].path)
        change(model, [op for name, op, _ in operators(model) if name == "CONV_2D"][layer])
        path = tmp_path / "changed.tflite"
        path.write_bytes(to_bytes(model))
        return path

    return write


@pytest.mark.parametrize("precision", [Precision.W8, Precision.W8A8, Precision.W8A16])
@pytest.mark.parametrize("built_in", [False, True])
def test_an_emitted_file_says_what_its_plan_says(
    precision: Precision, built_in: bool, emitted: dict[Precision, Artifact], look: Callable[..., Deviation]
) -> None:
    found = look(emitted[precision].path, precision, built_in=built_in)
    assert (found.faults, found.pictures) == ((), 4)
    assert found.steps == 0
    assert found.heatmaps < 1e-5
    assert (found.tensor == "") == (precision is Precision.W8)
    assert all(tensor.largest <= 1 for tensor in found.tensors)


def test_nchw_borders_make_no_difference(nchw: Artifact, look: Callable[..., Deviation]) -> None:
    found = look(nchw.path)
    assert found.faults == ()
    assert found.steps == 0
    assert found.heatmaps < 1e-5


def test_over_depth_rounding_adds_up(emitted: dict[Precision, Artifact], look: Callable[..., Deviation]) -> None:
    path = emitted[Precision.W8A8].path
    forced, free = look(path), look(path, forced=False)
    assert [tensor.name for tensor in forced.tensors] == [tensor.name for tensor in free.tensors]
    assert max(t.rms for t in forced.tensors) < max(t.rms for t in free.tensors)
    assert free.tensors[0].equal > free.tensors[-1].equal


def test_one_flipped_weight_is_seen_in_its_own_layer(
    changed: Callable[..., Path], look: Callable[..., Deviation]
) -> None:
    def flip(model: Any, operator: Any) -> None:
        buffer = model.buffers[main_graph(model).tensors[operator.inputs[1]].buffer]
        weights = np.array(buffer.data, np.uint8).view(np.int8)
        largest = int(np.abs(weights.astype(int)).argmax())
        weights[largest] = -weights[largest]
        buffer.data = weights.view(np.uint8)

    found = look(changed(flip))
    worst, second = sorted((t.worst_channel for t in found.tensors), reverse=True)[:2]
    assert found.faults == ()
    assert found.steps == worst > LIMIT > second


def test_one_changed_bias_is_seen_in_its_own_layer(
    changed: Callable[..., Path], look: Callable[..., Deviation]
) -> None:
    moved: list[float] = []

    def move(model: Any, operator: Any) -> None:
        graph = main_graph(model)
        bias, result = graph.tensors[operator.inputs[2]], graph.tensors[operator.outputs[0]]
        values = np.array(model.buffers[bias.buffer].data, np.uint8).view(np.int32)
        channel, step = int(values.argmax()), float(result.quantization.scale[0])
        added = int(2 * step / bias.quantization.scale[channel])
        values[channel] += added
        moved.append(added * float(bias.quantization.scale[channel]) / step)
        model.buffers[bias.buffer].data = values.view(np.uint8)

    found = look(changed(move))
    assert found.steps > LIMIT
    assert next(t for t in found.tensors if t.name == found.tensor).largest <= moved[0] + 1
    assert sorted(t.worst_channel for t in found.tensors)[-2] < LIMIT


def test_one_wrong_weight_scale_is_seen(changed: Callable[..., Path], look: Callable[..., Deviation]) -> None:
    def double(model: Any, operator: Any) -> None:
        grid = main_graph(model).tensors[operator.inputs[1]].quantization
        grid.scale = [2 * float(grid.scale[0]), *map(float, grid.scale[1:])]

    assert look(changed(double)).steps > LIMIT


def test_a_wrong_activation_scale_is_a_fault_that_names_the_tensor(
    changed: Callable[..., Path], look: Callable[..., Deviation]
) -> None:
    def widen(model: Any, operator: Any) -> None:
        grid = main_graph(model).tensors[operator.outputs[0]].quantization
        grid.scale = [1.1 * float(grid.scale[0])]

    (fault,) = look(changed(widen, INNER)).faults
    assert " in the file, scale " in fault


def test_the_gate_allows_int16_as_much_of_its_range() -> None:
    assert Gate().max_steps(Precision.W8A16) == 256 * Gate().max_steps(Precision.W8A8)


def test_a_file_the_runtime_refuses_is_an_error(changed: Callable[..., Path], look: Callable[..., Deviation]) -> None:
    def widen(model: Any, operator: Any) -> None:
        grid = main_graph(model).tensors[operator.outputs[0]].quantization
        grid.scale = [1.1 * float(grid.scale[0])]

    with pytest.raises(ConversionError, match="LiteRT cannot run the file"):
        look(changed(widen, STEM))  # a padding reads it, which has to have the same grid
