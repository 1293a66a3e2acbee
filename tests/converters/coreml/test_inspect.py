import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from torch import nn

from converters import coreml
from lspdmobile.choices import Precision
from lspdmobile.errors import BadInputError
from lspdmobile.fusion.cost import macs_of

Packages = Mapping[Precision, Path]


def test_weight_bytes_are_counted_by_stored_dtype(packages: Packages, tiny_pose: nn.Module) -> None:
    weights = sum(p.numel() for p in tiny_pose.parameters() if p.dim() > 1)
    channels = sum(p.numel() for p in tiny_pose.parameters() if p.dim() == 1)
    found = {precision: dict(coreml.inspect(path).weight_bytes_by_dtype) for precision, path in packages.items()}
    assert found[Precision.FP32] == {"float32": 4 * (weights + channels)}
    assert found[Precision.FP16] == {"float16": 2 * (weights + channels)}
    for precision in (Precision.W8, Precision.W8A8):
        zero_points = found[precision]["int8"] - weights
        assert 0 <= zero_points <= channels
        assert found[precision]["float16"] == 2 * (channels + channels)  # biases, and as many scales


def test_bytes_by_operation_are_each_convolutions_own(packages: Packages, tiny_pose: nn.Module) -> None:
    facts = {precision: coreml.inspect(path) for precision, path in packages.items()}
    for found in facts.values():
        total = sum((Counter(held) for held in found.weight_bytes_by_layer.values()), Counter[str]())
        assert total == Counter(found.weight_bytes_by_dtype)
        assert all(name.startswith("conv ") for name in found.weight_bytes_by_layer), "constexpr operations have none"
    convolutions = [module for module in tiny_pose.modules() if isinstance(module, nn.Conv2d)]
    sizes = [sum(held.values()) for held in facts[Precision.FP32].weight_bytes_by_layer.values()]
    assert sizes == [4 * sum(p.numel() for p in each.parameters()) for each in convolutions]


def test_operations_are_counted_without_constants(packages: Packages) -> None:
    assert dict(coreml.inspect(packages[Precision.FP32]).ops) == {
        "conv": 6,
        "relu": 4,
        "add": 2,
        "elu": 1,
        "upsample_bilinear": 1,
    }
    ops = coreml.inspect(packages[Precision.W8A8]).ops
    assert ops["constexpr_affine_dequantize"] == 6
    assert ops["quantize"] >= 6
    assert "const" not in ops


def test_metadata_is_given_back(packages: Packages) -> None:
    facts = coreml.inspect(packages[Precision.FP16])
    metadata = facts.metadata
    assert facts.inputs[0].description == "a person"
    assert facts.outputs[0].description == "five heatmaps"
    assert (metadata["version"], metadata["short_description"]) == ("1a2b", "Finds five joints")
    assert metadata["author"] == "someone"
    assert metadata["license"] == "Apache-2.0"
    assert metadata["skeleton"] == "five points"
    assert "com.github.apple.coremltools.conversion_date" not in metadata


def test_no_partition_is_claimed_and_two_targets_are_foretold(packages: Packages) -> None:
    for path in packages.values():
        facts = coreml.inspect(path)
        assert facts.delegation is None
        assert [(each.target, each.basis) for each in facts.forecasts] == [
            ("coreml-ane", "rules"),
            ("coreml-gpu", "rules"),
        ]


def test_float32_leaves_the_neural_engine_and_the_casts_at_the_borders_too(packages: Packages) -> None:
    ane = {precision: coreml.inspect(path).forecasts[0] for precision, path in packages.items()}
    assert ane[Precision.FP32].delegated == 0
    for precision in (Precision.FP16, Precision.W8, Precision.W8A8):
        assert [(each.kind, each.rule) for each in ane[precision].left] == [("cast", "float32"), ("cast", "float32")]
        assert ane[precision].macs_fraction == 1.0
        assert [each.rule for each in ane[precision].doubtful] == ["dilation"]
    assert all(coreml.inspect(path).forecasts[1].fraction == 1 for path in packages.values())


def test_multiply_accumulates_are_those_of_the_network(packages: Packages, tiny_pose: nn.Module) -> None:
    macs = macs_of(tiny_pose, (64, 48))
    for path in packages.values():
        facts = coreml.inspect(path)
        assert sum(operator.macs for operator in facts.operators) == macs
        assert facts.layout == "nchw"


def test_grids_and_leftovers_of_integer_packages(packages: Packages, tiny_pose: nn.Module) -> None:
    layers = [module for module in tiny_pose.modules() if isinstance(module, nn.Conv2d)]
    facts = coreml.inspect(packages[Precision.W8A8])
    kernels = [grid for grid in facts.grids if grid.constant]
    assert sorted(len(grid.scales) for grid in kernels) == sorted(layer.out_channels for layer in layers)
    assert sum(not grid.constant for grid in facts.grids) == facts.ops["quantize"]
    assert facts.leftovers is not None
    assert facts.leftovers.float_weight_bytes == 0
    assert [each for each in facts.leftovers.operators if each.macs] == []
    for precision in (Precision.FP16, Precision.W8):
        assert coreml.inspect(packages[precision]).leftovers is None
    assert coreml.inspect(packages[Precision.FP16]).grids == ()


def test_each_rule_of_the_neural_engine_finds_its_operation(save_program: Callable[..., Path]) -> None:
    def body(mb: Any, x: Any) -> Any:
        gathered = mb.gather(x=x, indices=np.array([0, 2], np.int32), axis=1)
        padded = mb.pad(x=gathered, pad=[0, 0, 0, 0, 1, 1, 1, 1], mode="reflect")
        wide = mb.conv(x=padded, weight=np.ones((2, 2, 1, 15), np.float16), pad_type="same")
        return mb.conv(x=wide, weight=np.ones((2, 2, 3, 3), np.float16), dilations=[2, 2], pad_type="same")

    ane, gpu = coreml.inspect(save_program(body, x=(1, 3, 16, 16), dtype="fp16")).forecasts
    assert [each.rule for each in ane.left] == ["gather", "padding by copies"]
    assert [each.rule for each in ane.doubtful] == ["kernels wider than 13", "dilation"]
    assert gpu.left == ()


def test_a_package_of_the_plain_library_is_read_whole(core_ml_tools: Any, tmp_path: Path) -> None:
    import torch

    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 4, 1)).eval()
    traced = torch.jit.trace(network, torch.zeros(1, 3, 16, 16))
    flexible = core_ml_tools.RangeDim(16, 32, default=16)
    source = core_ml_tools.TensorType(name="picture", shape=(1, 3, flexible, flexible))
    path = tmp_path / "plain.mlpackage"
    core_ml_tools.convert(traced, inputs=[source], convert_to="mlprogram").save(str(path))
    facts = coreml.inspect(path)
    assert facts.inputs[0].shape == (1, 3, -1, -1)
    assert {each.rule for each in facts.forecasts[0].left} == {"float32", "flexible shapes"}
    assert facts.forecasts[0].delegated == 0
    assert facts.forecasts[1].fraction == 1


def test_a_weight_stored_twice_is_found(save_program: Callable[..., Path]) -> None:
    weights = np.random.default_rng(0).normal(size=(8, 8)).astype(np.float32)

    def body(mb: Any, x: Any) -> Any:
        return mb.linear(x=mb.linear(x=x, weight=weights), weight=weights.copy())

    facts = coreml.inspect(save_program(body, x=(2, 8)))
    wasted = sum(each.wasted_bytes for each in facts.duplicates)
    stored = facts.weight_bytes_by_dtype["float32"]
    assert wasted == stored - (weights.nbytes + 8 * 4)


def test_programs_of_others_are_read_too(save_program: Callable[..., Path]) -> None:
    path = save_program(
        lambda mb, x: mb.linear(x=mb.gelu(x=x, mode="EXACT"), weight=np.ones((6, 7), np.float32)), x=(3, 7)
    )
    facts = coreml.inspect(path)
    assert facts.inputs[0].shape == (3, 7)
    assert facts.weight_bytes_by_dtype["float32"] == 4 * 7 * 6 + 4 * 6  # Core ML Tools writes the zero bias out
    assert dict(facts.ops) == {"gelu": 1, "linear": 1}


def test_what_is_no_package_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match=r"not a \.mlpackage"):
        coreml.inspect(tmp_path / "nothing.mlpackage")


def test_looking_inside_needs_neither_torch_nor_core_ml_tools(packages: Packages) -> None:
    code = (
        "import sys; from pathlib import Path; from converters.coreml import inspect; inspect(Path(sys.argv[1]));"
        "print([name for name in ('torch', 'coremltools') if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(packages[Precision.W8A8])],
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(__file__).parents[3],
    )
    assert done.stdout.strip() == "[]"
