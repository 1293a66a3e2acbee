import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest
from torch import nn

from converters import coreml
from lspdmobile.choices import Precision
from lspdmobile.errors import BadInputError

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
    metadata = coreml.inspect(packages[Precision.FP16]).metadata
    assert metadata["author"] == "someone"
    assert metadata["license"] == "Apache-2.0"
    assert metadata["skeleton"] == "five points"
    assert "com.github.apple.coremltools.conversion_date" not in metadata


def test_nothing_is_claimed_about_delegation(packages: Packages) -> None:
    assert coreml.inspect(packages[Precision.W8A8]).delegation is None


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
