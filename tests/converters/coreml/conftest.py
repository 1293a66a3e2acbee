"""Saved packages to test on: small MIL programs built by hand, and a tiny pose network in every precision."""

import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from converters import coreml
from lspdmobile.artifact import EmitRequest
from lspdmobile.choices import Layout, Precision
from quantization.calibrate import calibrate

SIZE = (64, 48)

SaveProgram = Callable[..., Path]
Edit = Callable[[Path, Callable[[Any], None]], None]


METADATA = {
    "author": "someone",
    "license": "Apache-2.0",
    "version": "1a2b",
    "short_description": "Finds five joints",
    "input_description": "a person",
    "heatmaps_description": "five heatmaps",
    "skeleton": "five points",
}


@pytest.fixture
def save_program(tmp_path: Path, core_ml_tools: Any) -> SaveProgram:
    """Give a function that builds and saves an ML Program exactly as written, without Core ML Tools' optimisations.

    ``save_program(body, x=(1, 2, 3), target="iOS17")``: ``body(mb, x)`` gives the output variable, or several.
    """

    def save(
        body: Callable[..., Any], *, target: str = "iOS17", dtype: str = "fp32", **shapes: tuple[int, ...]
    ) -> Path:
        from coremltools.converters.mil.mil import Builder as mb  # noqa: N813  (its name in every MIL text)
        from coremltools.converters.mil.mil import Function, Program, types

        ct = core_ml_tools
        version = getattr(ct.target, target)
        element = {"fp32": types.fp32, "fp16": types.fp16}[dtype]
        program = Program()
        placeholders = {name: mb.placeholder(shape=shape, dtype=element, name=name) for name, shape in shapes.items()}
        with Function(placeholders, opset_version=version) as function:
            outputs = body(mb, *function.inputs.values())
            function.set_outputs(list(outputs) if isinstance(outputs, list | tuple) else [outputs])
        program.add_function("main", function)
        model = ct.convert(
            program,
            source="milinternal",
            convert_to="mlprogram",
            minimum_deployment_target=version,
            compute_precision=ct.precision.FLOAT32,
            pass_pipeline=ct.PassPipeline.EMPTY,
            skip_model_load=True,
        )
        path = tmp_path / f"program{len(list(tmp_path.iterdir()))}.mlpackage"
        model.save(str(path))
        return path

    return save


@pytest.fixture
def edit() -> Edit:
    """Give a function that changes a saved package's specification in place: ``edit(path, change)``."""

    def edit(path: Path, change: Callable[[Any], None]) -> None:
        from coremltools.proto import Model_pb2

        file = path / "Data" / "com.apple.CoreML" / "model.mlmodel"
        model = Model_pb2.Model.FromString(file.read_bytes())
        change(model)
        file.write_bytes(model.SerializeToString())

    return edit


class TinyPose(nn.Module):
    """What the shipping networks hold once fused: strided, dilated and depthwise convolutions, ELU, sums, resizing."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, stride=2, padding=1)
        self.down = nn.Conv2d(8, 12, 3, stride=2, padding=1)
        self.depthwise = nn.Conv2d(12, 12, 5, padding=2, groups=12)
        self.dilated = nn.Conv2d(12, 12, 3, padding=2, dilation=2)
        self.lateral = nn.Conv2d(8, 12, 1)
        self.heatmap = nn.Conv2d(12, 5, 1)

    def forward(self, pictures: Tensor) -> Tensor:
        """Map ``[N, 3, H, W]`` to ``[N, 5, H/2, W/2]``."""
        fine = F.relu(self.stem(pictures))
        coarse = F.relu(self.down(fine))
        coarse = coarse + F.elu(self.dilated(F.relu(self.depthwise(coarse))))
        top = F.interpolate(coarse, scale_factor=2.0, mode="bilinear", align_corners=False)
        heatmaps: Tensor = self.heatmap(F.relu(self.lateral(fine) + top))
        return heatmaps


@pytest.fixture(scope="session")
def tiny_pose() -> nn.Module:
    """A tiny fused pose network in eval mode, seeded."""
    torch.manual_seed(7)
    return TinyPose().eval()


@pytest.fixture(scope="session")
def inputs() -> NDArray[np.float32]:
    """Two normalised pictures ``[2, 3, 64, 48]``."""
    return np.random.default_rng(3).standard_normal((2, 3, *SIZE)).astype(np.float32)


@pytest.fixture(scope="session")
def expected(tiny_pose: nn.Module, inputs: NDArray[np.float32]) -> NDArray[np.float32]:
    """What torch gives for ``inputs``."""
    with torch.inference_mode():
        heatmaps: NDArray[np.float32] = tiny_pose(torch.from_numpy(inputs)).numpy()
    return heatmaps


@pytest.fixture(scope="session")
def request_for(tiny_pose: nn.Module, inputs: NDArray[np.float32]) -> Callable[..., EmitRequest]:
    """Give a function that makes the request of a precision: ``request_for(precision, path, **changes)``."""

    def request(precision: Precision, path: Path, **changes: Any) -> EmitRequest:
        fields: dict[str, Any] = {
            "network": tiny_pose,
            "plan": calibrate(tiny_pose, inputs, precision=precision),
            "input_size": SIZE,
            "layout": Layout.NCHW,
            "metadata": METADATA,
            "deployment_target": "iOS17",
            "path": path,
        }
        return EmitRequest(**{**fields, **changes})

    return request


@pytest.fixture(scope="session")
def packages(
    request_for: Callable[..., EmitRequest], tmp_path_factory: pytest.TempPathFactory
) -> Mapping[Precision, Path]:
    """The tiny network as a package in each precision; not to be changed, see ``copied``."""
    folder = tmp_path_factory.mktemp("packages")
    paths: dict[Precision, Path] = {}
    for precision in coreml.supported():
        paths[precision] = folder / f"tiny_{precision.file_suffix}.mlpackage"
        target = "iOS18" if precision is Precision.W4 else "iOS17"
        coreml.emit(request_for(precision, paths[precision], deployment_target=target))
    return paths


@pytest.fixture
def copied(packages: Mapping[Precision, Path], tmp_path: Path) -> Callable[[Precision], Path]:
    """Give a function that copies a package, so that a test may damage it."""

    def copy(precision: Precision) -> Path:
        return Path(shutil.copytree(packages[precision], tmp_path / "copy.mlpackage"))

    return copy
