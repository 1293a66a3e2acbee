"""Channels whose weights are dead and whose biases are not: int8 files hold the biases."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from converters import tflite
from converters.tflite.flatbuffer import read_model
from converters.tflite.readback import layers, numbers
from lspdmobile.artifact import EmitRequest
from lspdmobile.choices import Layout, Precision
from lspdmobile.fusion import fuse
from quantization.affine import SMALLEST_SCALE
from quantization.calibrate import calibrate

SIZE = (16, 16)
DEAD = {1: (0.0, 1.5), 2: (1e-12, 0.75), 5: (1e-9, -2.0)}
"""Channel to its largest weight and its bias."""


@pytest.fixture
def network() -> nn.Module:
    """A network of which some channels give nothing but their biases."""
    torch.manual_seed(0)
    first, depthwise = nn.Conv2d(3, 8, 3, 2, 1), nn.Conv2d(8, 8, 3, 1, 1, groups=8)
    made = nn.Sequential(first, nn.ReLU(), depthwise, nn.ReLU(), nn.Conv2d(8, 4, 1))
    with torch.no_grad():
        for channel, (largest, bias) in DEAD.items():
            for layer in (first, depthwise):
                assert layer.bias is not None
                layer.weight[channel].mul_(largest / layer.weight[channel].abs().max())
                layer.bias[channel].fill_(bias)
    return fuse(made.eval(), input_size=SIZE).network


@pytest.mark.parametrize("precision", [Precision.W8A8, Precision.W8A16])
def test_biases_of_dead_channels_are_whole(network: nn.Module, precision: Precision, tmp_path: Path) -> None:
    pictures = np.random.default_rng(0).normal(size=(4, 3, *SIZE)).astype(np.float32)
    plan = calibrate(network, pictures, precision=precision)
    path = tmp_path / "dead.tflite"
    artifact = tflite.emit(
        EmitRequest(
            network=network,
            plan=plan,
            input_size=SIZE,
            layout=Layout.NHWC,
            metadata={},
            deployment_target="iOS17",
            path=path,
            calibration=pictures,
        )
    )
    assert {each.reason for each in artifact.not_honoured} <= {"raised so that the bias fits its integer"}
    model = read_model(path)
    for layer in list(layers(model))[:2]:
        bias = numbers(model, layer.bias) * np.asarray(layer.bias.quantization.scale, np.float64)
        assert min(layer.weight.quantization.scale) >= 0.999 * SMALLEST_SCALE
        assert bias[list(DEAD)] == pytest.approx([bias for _, bias in DEAD.values()], rel=1e-5)
    found = tflite.deviation(path, network=network, plan=plan, pictures=pictures[:1])
    assert found.steps < 0.25
    assert not found.faults


@pytest.mark.parametrize("precision", [Precision.W8, Precision.W4])
def test_integer_weights_of_dead_channels_are_the_networks(
    network: nn.Module, precision: Precision, tmp_path: Path
) -> None:
    pictures = np.random.default_rng(0).normal(size=(2, 3, *SIZE)).astype(np.float32)
    path = tmp_path / "dead.tflite"
    tflite.emit(
        EmitRequest(
            network=network,
            plan=calibrate(network, pictures, precision=precision),
            input_size=SIZE,
            layout=Layout.NHWC,
            metadata={},
            deployment_target="iOS17",
            path=path,
        )
    )
    with torch.no_grad():
        wanted = network(torch.from_numpy(pictures[:1])).numpy()
    found = tflite.open_executor(path).heatmaps(pictures[:1])
    assert np.abs(found - wanted).max() < 0.2 * np.abs(wanted).max()
