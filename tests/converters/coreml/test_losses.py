"""What float16 loses in a package, and the files that keep it in float32."""

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from converters import coreml, executorch, tflite
from converters.coreml.mil.package import read_program
from lspdmobile.artifact import Converter, EmitRequest
from lspdmobile.choices import Precision
from lspdmobile.errors import BadInputError, ConversionError

Floats = NDArray[np.float32]
RequestFor = Callable[..., EmitRequest]


class Loud(nn.Module):
    """Its middle is too loud for float16; what comes before and after is not."""

    def __init__(self, loudness: float) -> None:
        super().__init__()
        self.before = nn.Conv2d(3, 8, 3, padding=1)
        self.loud = nn.Conv2d(8, 8, 3, padding=1)
        self.quiet = nn.Conv2d(8, 8, 3, padding=1)
        self.after = nn.Conv2d(8, 5, 1)
        with torch.no_grad():
            self.loud.weight.mul_(loudness)
            self.quiet.weight.div_(loudness)

    def forward(self, pictures: Tensor) -> Tensor:
        """Map ``[N, 3, H, W]`` to ``[N, 5, H, W]``."""
        y = F.relu(self.loud(F.relu(self.before(pictures))))
        heatmaps: Tensor = self.after(F.relu(self.quiet(y)))
        return heatmaps


@pytest.fixture(scope="module")
def loud() -> nn.Module:
    torch.manual_seed(2)
    return Loud(1e5).eval()


def types_of(path: Path) -> dict[str, str]:
    """Give the float type of the first result of every operation that computes, by kind and place among its kind."""
    found: dict[str, str] = {}
    for operation in read_program(path).operations:
        if operation.kind in ("conv", "relu"):
            count = sum(name.startswith(operation.kind) for name in found)
            found[f"{operation.kind} {count}"] = operation.outputs[0].type.dtype.name
    return found


@pytest.mark.parametrize("precision", [Precision.FP16, Precision.W8])
def test_what_overflows_is_named_and_kept_in_float32(
    precision: Precision, loud: nn.Module, inputs: Floats, request_for: RequestFor, tmp_path: Path
) -> None:
    with torch.inference_mode():
        expected = loud(torch.from_numpy(inputs)).numpy()
    path = coreml.emit(request_for(precision, tmp_path / "loud.mlpackage", network=loud)).path
    broken = coreml.open_executor(path).heatmaps(inputs)
    assert not np.allclose(broken, expected, rtol=0.1, atol=0.1)
    losses = coreml.precision_losses(path, inputs)
    assert losses[0].made_by == "conv 'conv2d_1_cast_fp16'"
    assert "overflow float16" in losses[0].why
    keep = frozenset[str]().union(*(loss.keep_fp32 for loss in losses))
    assert keep == {"conv2d_1", "relu_1", "conv2d_2"}

    mended = coreml.emit(request_for(precision, tmp_path / "mended.mlpackage", network=loud, keep_fp32=keep)).path
    assert coreml.precision_losses(mended, inputs) == ()
    types = types_of(mended)
    assert [types[f"conv {i}"] for i in range(4)] == ["float16", "float32", "float32", "float16"]
    assert [types[f"relu {i}"] for i in range(3)] == ["float16", "float32", "float16"]
    error = np.abs(coreml.open_executor(mended).heatmaps(inputs) - expected).max() / np.abs(expected).max()
    assert error < (5e-3 if precision is Precision.FP16 else 3e-2)


def test_a_healthy_package_loses_nothing(packages: Mapping[Precision, Path], inputs: Floats) -> None:
    assert coreml.precision_losses(packages[Precision.FP16], inputs) == ()
    assert coreml.precision_losses(packages[Precision.FP32], inputs) == ()


def test_a_float32_package_is_scanned_as_if_it_were_float16(
    loud: nn.Module, inputs: Floats, request_for: RequestFor, tmp_path: Path
) -> None:
    path = coreml.emit(request_for(Precision.FP32, tmp_path / "loud.mlpackage", network=loud)).path
    assert coreml.precision_losses(path, inputs)[0].made_by == "conv 'conv2d_1'"


def test_weights_beyond_float16_are_told_of(inputs: Floats, request_for: RequestFor, tmp_path: Path) -> None:
    """Core ML Tools leaves such a layer in float32 by itself, but not its result."""
    torch.manual_seed(2)
    louder = Loud(1e6).eval()
    artifact = coreml.emit(request_for(Precision.FP16, tmp_path / "louder.mlpackage", network=louder))
    assert artifact.notes == ("weights beyond float16's range stay in float32: conv2d_1",)
    assert types_of(artifact.path)["conv 1"] == "float32"
    losses = coreml.precision_losses(artifact.path, inputs)
    keep = frozenset[str]().union(*(loss.keep_fp32 for loss in losses))
    mended = coreml.emit(request_for(Precision.FP16, tmp_path / "mended.mlpackage", network=louder, keep_fp32=keep))
    assert coreml.precision_losses(mended.path, inputs) == ()


def test_an_operation_that_is_not_there_cannot_be_kept(request_for: RequestFor, tmp_path: Path) -> None:
    path = tmp_path / "x.mlpackage"
    with pytest.raises(ConversionError, match="nowhere did not stay in float32"):
        coreml.emit(request_for(Precision.FP16, path, keep_fp32=frozenset({"nowhere"})))
    assert not path.exists()


@pytest.mark.parametrize("precision", [Precision.FP32, Precision.W8A8])
def test_only_float16_files_keep_operations(precision: Precision, request_for: RequestFor, tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match="in fp16, w8, w4 and palettes only"):
        coreml.emit(request_for(precision, tmp_path / "x.mlpackage", keep_fp32=frozenset({"conv2d"})))


@pytest.mark.parametrize("other", [tflite, executorch])
def test_other_formats_compute_in_float32(other: Converter, inputs: Floats, tmp_path: Path) -> None:
    assert other.precision_losses(tmp_path / "any", inputs) == ()
