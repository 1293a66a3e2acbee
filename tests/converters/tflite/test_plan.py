import copy
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from converters.tflite.flatbuffer import main_graph, operators, read_model, tensor_name
from converters.tflite.matching import to_layout
from converters.tflite.plan import TensorRanges, recipe_for, tensor_ranges
from converters.tflite.readback import wanted_scale
from lspdmobile.artifact import Artifact
from lspdmobile.choices import Layout, Precision
from lspdmobile.errors import BadInputError
from quantization.affine import activation_grid
from quantization.plan import QuantizationPlan, TensorRange

if TYPE_CHECKING:
    from tests.converters.tflite.conftest import World


@pytest.fixture(scope="module")
def plan(world: "World") -> QuantizationPlan:
    return world.plan(Precision.W8A8)


@pytest.fixture(scope="module")
def float_file(emitted: dict[Precision, Artifact]) -> bytes:
    return emitted[Precision.FP32].path.read_bytes()


@pytest.fixture(scope="module")
def matched(world: "World", plan: QuantizationPlan, float_file: bytes) -> TensorRanges:
    return tensor_ranges(float_file, read_model(float_file), world.network, plan, Layout.NHWC)


def test_every_tensor_of_the_float_file_finds_its_node(matched: TensorRanges, plan: QuantizationPlan) -> None:
    assert matched.measured == ()
    assert len(matched.by_name) == 30  # 29 operators and the input
    assert set(matched.by_name.values()) <= set(plan.ranges.values())


def test_a_fused_relu_takes_the_range_behind_the_relu(
    matched: TensorRanges, plan: QuantizationPlan, float_file: bytes
) -> None:
    stem = next(result for name, _, result in _operators(float_file) if name == "CONV_2D")
    assert matched.by_name[stem] == plan.ranges["relu"]
    assert plan.ranges["relu"].low == 0 > plan.ranges["conv2d"].low


def test_padding_and_resizing_keep_the_range_of_their_input(matched: TensorRanges, float_file: bytes) -> None:
    kept = [(source, result) for name, source, result in _operators(float_file) if name in ("PAD", "RESIZE_BILINEAR")]
    assert len(kept) == 5
    for source, result in kept:
        assert matched.by_name[result] == matched.by_name[source]


def test_the_network_s_result_takes_the_last_range(matched: TensorRanges, plan: QuantizationPlan) -> None:
    assert matched.by_name["heatmaps"] == list(plan.ranges.values())[-1]
    assert matched.by_name["input"] == next(iter(plan.ranges.values()))


def test_a_network_with_other_weights_matches_nothing_but_its_input(
    world: "World", plan: QuantizationPlan, float_file: bytes
) -> None:
    other = copy.deepcopy(world.network)
    for parameter in other.parameters():
        parameter.data = parameter.data * 1.5 + 0.01
    found = tensor_ranges(float_file, read_model(float_file), other, plan, Layout.NHWC, calibration=world.pictures)
    assert len(found.measured) == 28  # all but the input and its padding
    with pytest.raises(BadInputError, match=r"28 tensors .* give the calibration pictures"):
        tensor_ranges(float_file, read_model(float_file), other, plan, Layout.NHWC)


def test_the_wanted_scale_is_that_of_the_plan_s_own_arithmetic() -> None:
    for low, high in [(-1.0, 3.0), (0.5, 2.0), (-4.0, -1.0)]:
        observed = TensorRange(low=low, high=high)
        assert wanted_scale(observed, Precision.W8A8) == pytest.approx(activation_grid(observed).scale)
        assert wanted_scale(observed, Precision.W8A16) == pytest.approx(max(abs(low), abs(high)) / 32767)


def test_pictures_are_laid_out_contiguous() -> None:
    pictures = np.arange(2 * 3 * 4 * 5, dtype=np.float32).reshape(2, 3, 4, 5)
    nhwc = to_layout(pictures, Layout.NHWC)
    assert nhwc.shape == (2, 4, 5, 3)
    assert nhwc.flags["C_CONTIGUOUS"]
    assert nhwc[1, 2, 3, 0] == pictures[1, 0, 2, 3]
    np.testing.assert_array_equal(to_layout(pictures, Layout.NCHW), pictures)


def test_fp32_has_no_recipe() -> None:
    with pytest.raises(ValueError, match="needs no recipe"):
        recipe_for(Precision.FP32)


def _operators(float_file: bytes) -> list[tuple[str, str, str]]:
    """Name, first input and first output of every operator."""
    model = read_model(float_file)
    tensors: list[Any] = main_graph(model).tensors
    return [
        (name, tensor_name(tensors[o.inputs[0]]), tensor_name(tensors[o.outputs[0]])) for name, o, _ in operators(model)
    ]
