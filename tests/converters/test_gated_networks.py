"""Networks with gates, splits and branches of two resolutions: what each int8 file holds is what the plan says."""

import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.fx import GraphModule

import converters
from converters import coreml, executorch, tflite
from lspdmobile.artifact import EmitRequest
from lspdmobile.choices import Format, Layout, Precision
from lspdmobile.fusion import fuse
from quantization.calibrate import calibrate
from quantization.fixed import fixed_range
from quantization.graph import exported_module
from quantization.methods.preparing import prepare

EXAMPLES = Path(converters.__file__).parent.parent / "docs" / "examples"
SIZE = (64, 64)


@pytest.fixture(scope="module")
def request_for(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, Layout], EmitRequest]:
    """Ask for a w8a8 file of the example network with channel shuffle."""
    sys.path.insert(0, str(EXAMPLES))
    try:
        networks = import_module("networks")
    finally:
        sys.path.remove(str(EXAMPLES))
    torch.manual_seed(0)
    network = networks.shuffle_pose(keypoints=5, width=16, blocks=1, size=SIZE).eval()
    fused = fuse(network, input_size=SIZE).network
    pictures = np.random.default_rng(0).normal(size=(4, 3, *SIZE)).astype(np.float32)
    prepared = prepare(fused, calibrate(fused, pictures, precision=Precision.W8A8), pictures)
    folder = tmp_path_factory.mktemp("gated")

    def ask(name: str, layout: Layout) -> EmitRequest:
        return EmitRequest(
            network=prepared.network,
            plan=prepared.plan,
            input_size=SIZE,
            layout=layout,
            metadata={},
            deployment_target="iOS17",
            path=folder / name,
            calibration=pictures,
        )

    return ask


def test_a_tflite_file_holds_the_plan(request_for: Callable[[str, Layout], EmitRequest]) -> None:
    """The gates' sigmoids among it, whose grid LiteRT chooses itself."""
    request = request_for("gated.tflite", Layout.NHWC)

    tflite.emit(request)

    pictures = np.random.default_rng(1).normal(size=(1, 3, *SIZE)).astype(np.float32)
    found = tflite.deviation(request.path, network=request.network, plan=request.plan, pictures=pictures)
    assert found.steps < 0.25


def test_a_core_ml_package_holds_the_plan(request_for: Callable[[str, Layout], EmitRequest]) -> None:
    """Core ML Tools names the parts of a split after the split."""
    request = request_for("gated.mlpackage", Layout.NCHW)

    coreml.emit(request)

    pictures = np.random.default_rng(1).normal(size=(1, 3, *SIZE)).astype(np.float32)
    found = coreml.deviation(request.path, network=request.network, plan=request.plan, pictures=pictures)
    assert not found.faults
    assert found.steps < 0.25


def test_an_executorch_file_holds_the_plan(request_for: Callable[[str, Layout], EmitRequest]) -> None:
    """Its branches lie in several graphs, in another order than the program's."""
    assert executorch.emit(request_for("gated.pte", Layout.NCHW)).format is Format.EXECUTORCH


class Curves(nn.Module):
    """Every operator whose grid is fixed."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map ``[1, 3, H, W]`` to the same shape."""
        return torch.sigmoid(x) + torch.tanh(x) + torch.softmax(x, 1) + torch.relu(x)


def test_grids_that_runtimes_fix_are_the_plans() -> None:
    module: GraphModule = exported_module(Curves().eval(), SIZE)
    fixed = {node.name: fixed_range(node) for node in module.graph.nodes if fixed_range(node)}
    pictures = np.random.default_rng(0).normal(size=(2, 3, *SIZE)).astype(np.float32)

    plan = calibrate(Curves().eval(), pictures, precision=Precision.W8A8)

    assert fixed == {"sigmoid": (0.0, 255 / 256), "tanh": (-1.0, 127 / 128), "softmax": (0.0, 255 / 256)}
    assert {name: (plan.ranges[name].low, plan.ranges[name].high) for name in fixed} == fixed
    assert plan.ranges["relu"].high == pytest.approx(float(pictures.max()))
