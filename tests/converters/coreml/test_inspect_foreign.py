"""Packages that Core ML Tools writes and no emitter of ours does: read, although most are not executed here."""

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from converters import coreml
from lspdmobile.artifact import ArtifactFacts
from lspdmobile.errors import BadInputError, ConversionError

SHAPE = (1, 3, 8, 8)


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 16, 1), nn.ReLU(), nn.Conv2d(16, 32, 1)).eval()


@pytest.fixture(scope="module")
def plain(core_ml_tools: Any) -> Any:
    """A model of two convolutions in float16, 16 times 3 and 32 times 16 weights."""
    return converted(core_ml_tools, core_ml_tools.TensorType("x", SHAPE))


def converted(tools: Any, source: Any, **options: Any) -> Any:
    traced = torch.jit.trace(network(), torch.zeros(SHAPE))
    target = tools.target.iOS18
    return tools.convert(traced, inputs=[source], minimum_deployment_target=target, skip_model_load=True, **options)


def read(model: Any, path: Path) -> ArtifactFacts:
    model.save(str(path))
    facts = coreml.inspect(path)
    total = sum((Counter(held) for held in facts.weight_bytes_by_layer.values()), Counter[str]())
    assert total == Counter(facts.weight_bytes_by_dtype)
    return facts


def test_palettes_sparse_weights_and_blocks_are_named(plain: Any, tmp_path: Path) -> None:
    import coremltools.optimize.coreml as optimize

    def compressed(how: Any, options: Any, name: str) -> ArtifactFacts:
        config = optimize.OptimizationConfig(global_config=options)
        return read(how(plain, config), tmp_path / f"{name}.mlpackage")

    options: Any = optimize.OpPalettizerConfig(mode="uniform", nbits=4, weight_threshold=10)
    facts = compressed(optimize.palettize_weights, options, "palette")
    assert {(each.how, each.stored, each.read_as) for each in facts.encodings} == {
        ("palette of 16", "uint4", "float16")
    }
    assert sorted(each.size_bytes for each in facts.encodings) == [48 // 2 + 32, 512 // 2 + 32]

    options = optimize.OpMagnitudePrunerConfig(target_sparsity=0.75, weight_threshold=10)
    facts = compressed(optimize.prune_weights, options, "sparse")
    assert {each.how for each in facts.encodings} == {"sparse, 75% left out"}
    assert facts.weight_bytes_by_dtype["uint1"] == (48 + 512) // 8

    options = optimize.OpLinearQuantizerConfig(
        mode="linear_symmetric", dtype="int4", granularity="per_block", block_size=8, weight_threshold=100
    )
    (grid,) = compressed(optimize.linear_quantize_weights, options, "blocks").grids
    assert (grid.dtype, grid.block, grid.axis, len(grid.scales)) == ("int4", (1, 8, 1, 1), None, 64)

    options = optimize.OpLinearQuantizerConfig(mode="linear_symmetric", weight_threshold=100)
    (grid,) = compressed(optimize.linear_quantize_weights, options, "channels").grids
    assert (grid.dtype, grid.block, grid.axis, len(grid.scales)) == ("int8", (), 0, 32)


def test_sizes_of_a_list_are_told_and_do_not_leave_the_neural_engine(core_ml_tools: Any, tmp_path: Path) -> None:
    sizes = core_ml_tools.EnumeratedShapes([SHAPE, (1, 3, 16, 16)], default=SHAPE)
    facts = read(converted(core_ml_tools, core_ml_tools.TensorType("x", sizes)), tmp_path / "listed.mlpackage")
    assert facts.inputs[0].shape == (1, 3, -1, -1)
    assert facts.inputs[0].sizes == "1x3x8x8 or 1x3x16x16"
    assert "flexible shapes" not in {each.rule for each in facts.forecasts[0].left}
    ranged = core_ml_tools.RangeDim(8, 16, default=8)
    model = converted(core_ml_tools, core_ml_tools.TensorType("x", (1, 3, ranged, 8)))
    facts = read(model, tmp_path / "ranged.mlpackage")
    assert facts.inputs[0].sizes == "1 x 3 x 8 to 16 x 8"
    assert "flexible shapes" in {each.rule for each in facts.forecasts[0].left}


def test_functions_are_all_told_and_what_they_share_is_counted_once(
    core_ml_tools: Any, plain: Any, tmp_path: Path
) -> None:
    source, path = tmp_path / "one.mlpackage", tmp_path / "two.mlpackage"
    alone = read(plain, source)
    functions = core_ml_tools.utils.MultiFunctionDescriptor()
    for name in ("first", "second"):
        functions.add_function(str(source), "main", name)
    functions.default_function_name = "second"
    core_ml_tools.utils.save_multifunction(functions, str(path))
    facts = coreml.inspect(path)
    assert [(part.name, part.main) for part in facts.parts] == [("second", True), ("first", False)]
    assert facts.weight_bytes_by_dtype == alone.weight_bytes_by_dtype
    assert facts.ops["conv"] == 2 * alone.ops["conv"]
    with pytest.raises(ConversionError, match="multi-function"):
        coreml.open_executor(path)


def test_images_and_classes_as_outputs_are_told(core_ml_tools: Any, tmp_path: Path) -> None:
    traced = torch.jit.trace(nn.Conv2d(3, 3, 1).eval(), torch.zeros(SHAPE))
    image = core_ml_tools.convert(
        traced,
        inputs=[core_ml_tools.ImageType("photo", SHAPE)],
        outputs=[core_ml_tools.ImageType("painting", color_layout=core_ml_tools.colorlayout.BGR)],
        minimum_deployment_target=core_ml_tools.target.iOS16,
        skip_model_load=True,
    )
    facts = read(image, tmp_path / "images.mlpackage")
    assert [each.dtype for each in (*facts.inputs, *facts.outputs)] == ["image_rgb", "image_bgr"]
    traced = torch.jit.trace(nn.Linear(4, 2).eval(), torch.zeros(1, 4))
    classes = core_ml_tools.convert(
        traced,
        inputs=[core_ml_tools.TensorType("x", (1, 4))],
        classifier_config=core_ml_tools.ClassifierConfig(["sitting", "standing"]),
        minimum_deployment_target=core_ml_tools.target.iOS16,
        skip_model_load=True,
    )
    facts = read(classes, tmp_path / "classes.mlpackage")
    assert [each.dtype for each in facts.outputs] == ["string", "dictionary"]
    assert facts.ops["classify"] == 1


class Counting(nn.Module):
    """Adds what it is given to a state."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("total", torch.zeros(1, 4))
        self.total: torch.Tensor

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map ``[1, 4]`` to the sum so far."""
        self.total.add_(x)
        return self.total * 1.0


def test_states_are_told(core_ml_tools: Any, tmp_path: Path) -> None:
    wrapped = core_ml_tools.TensorType(shape=(1, 4), dtype=np.float16)
    model = core_ml_tools.convert(
        torch.jit.trace(Counting().eval(), torch.zeros(1, 4)),
        inputs=[core_ml_tools.TensorType("x", (1, 4))],
        states=[core_ml_tools.StateType(wrapped_type=wrapped, name="total")],
        minimum_deployment_target=core_ml_tools.target.iOS18,
        skip_model_load=True,
    )
    facts = read(model, tmp_path / "state.mlpackage")
    assert [(each.name, each.shape, each.dtype) for each in facts.inputs] == [
        ("x", (1, 4), "float16"),
        ("total", (1, 4), "float16 state"),
    ]


def test_a_neural_network_of_the_first_kind_and_a_pipeline_are_told(core_ml_tools: Any, tmp_path: Path) -> None:
    from coremltools.models import datatypes
    from coremltools.models.neural_network import NeuralNetworkBuilder
    from coremltools.models.pipeline import Pipeline

    borders = [("x", datatypes.Array(4))], [("y", datatypes.Array(3))]
    builder = NeuralNetworkBuilder(*borders, disable_rank5_shape_mapping=True)
    weights = np.ones((3, 4), np.float32)
    builder.add_inner_product("dense", weights, np.ones(3, np.float32), 4, 3, True, "x", "y")
    spec = builder.spec
    saved = core_ml_tools.models.MLModel(spec, skip_model_load=True)
    facts = read(saved, tmp_path / "network.mlpackage")
    assert facts.ops == {"innerProduct": 1}
    assert facts.weight_bytes_by_dtype == {"float32": 4 * (12 + 3)}
    assert (facts.inputs[0].name, facts.inputs[0].shape, facts.outputs[0].name) == ("x", (4,), "y")
    assert "a neuralNetwork, not an ML Program" in facts.undelegated
    pipeline = Pipeline([("x", datatypes.Array(4))], ["y"])
    pipeline.add_model(spec)
    facts = read(core_ml_tools.models.MLModel(pipeline.spec, skip_model_load=True), tmp_path / "line.mlpackage")
    assert [(part.kind, part.operators) for part in facts.parts] == [("neuralNetwork", 1)]
    assert facts.weight_bytes_by_dtype == {"float32": 4 * (12 + 3)}


def test_a_package_without_its_weights_is_refused(plain: Any, tmp_path: Path) -> None:
    path = tmp_path / "bare.mlpackage"
    plain.save(str(path))
    next(path.rglob("weight.bin")).unlink()
    with pytest.raises(BadInputError, match="weights cannot be read"):
        coreml.inspect(path)
