"""What rules foretell of XNNPACK against what it did: every bundled student, and a network of operators it has not."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from converters import FORMATS, executorch, foretell, tflite
from converters.tflite.rules import XNNPACK
from converters.traced import base_name
from lspdmobile.artifact import EmitRequest
from lspdmobile.choices import Backend, Format, Precision
from lspdmobile.fusion import fuse, randomise_norms
from lspdmobile.fusion.operations import Dtype
from lspdmobile.networks.architectures import deployed_network
from lspdmobile.networks.presets import preset
from quantization.calibrate import calibrate

SIZE = (64, 64)


@pytest.mark.slow
@pytest.mark.parametrize("form", [Format.TFLITE, Format.EXECUTORCH])
@pytest.mark.parametrize("name", ["lspd-s", "okdhp-s", "ldcrn-s"])
def test_the_forecast_of_a_student_is_its_partition(name: str, form: Format, tmp_path: Path) -> None:
    torch.manual_seed(0)
    student = deployed_network(replace(preset(name), input_size=SIZE)).eval()
    randomise_norms(student, torch.Generator().manual_seed(0))
    converter = FORMATS[form]
    for precision in (Precision.FP32, Precision.W8A8):
        dtype: Dtype = "int8" if precision is Precision.W8A8 else "fp32"
        network = fuse(student, input_size=SIZE, dtype=dtype).network
        pictures = np.random.default_rng(0).normal(size=(2, 3, *SIZE)).astype(np.float32)
        path = tmp_path / f"{precision}{converter.SUFFIX}"
        request = EmitRequest(
            network=network,
            plan=calibrate(network, pictures, precision=precision),
            input_size=SIZE,
            layout=converter.supported()[precision],
            metadata={},
            deployment_target="iOS17",
            path=path,
        )
        converter.emit(request)
        found = converter.inspect(path).delegation
        told = foretell(form, Backend.XNNPACK, network, SIZE, precision)
        assert found is not None
        assert told is not None
        assert told.not_delegated == found.not_delegated
        assert (told.fraction, found.fraction) == (1.0, 1.0)


class Many(nn.Module):
    """Operators side by side, some of which XNNPACK has and some not."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, padding=1)
        self.up = nn.ConvTranspose2d(8, 8, 2, stride=2)
        self.linear = nn.Linear(8, 8)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Map ``[1, 3, 8, 8]`` to one tensor for each operator."""
        y = self.conv(x)
        positive = torch.relu(y) + 1
        return (
            *(functional.gelu(y), functional.hardswish(y), functional.leaky_relu(y, 0.1), functional.relu6(y)),
            *(torch.sigmoid(y), torch.tanh(y), torch.exp(y), torch.abs(y), torch.sin(y), torch.cos(y), torch.floor(y)),
            *(torch.sqrt(positive), torch.rsqrt(positive), torch.log(positive), torch.pow(y, 2), y / 2.5, y - 1.0),
            *(torch.cumsum(y, 3), y.argmax(1), y.amax((2, 3)), y.sum(1), torch.round(y), torch.pow(positive, 1.5)),
            *(functional.max_pool2d(y, 2, 2), y.mean((2, 3), keepdim=True), torch.softmax(y, 3), y[:, :, ::2]),
            *(functional.pad(y, (1, 1, 1, 1)), self.up(y), self.linear(y.permute(0, 2, 3, 1)), torch.maximum(y, -y)),
            functional.interpolate(y, scale_factor=2.0, mode="bilinear"),
            functional.interpolate(y, scale_factor=2.0, mode="nearest"),
        )


@pytest.mark.slow
def test_the_rules_of_litert_hold_operator_by_operator(tmp_path: Path) -> None:
    import litert_torch

    path = tmp_path / "many.tflite"
    torch.manual_seed(0)
    litert_torch.convert(Many().eval(), (torch.zeros(1, 3, 8, 8),)).export(str(path))
    facts = tflite.inspect(path)
    assert facts.delegation is not None
    left = {each.operator for each in facts.delegation.left}
    assert {each.name for each in facts.operators if any(rule.applies(each) for rule in XNNPACK)} == left
    assert len(left) >= 5
    assert facts.delegation.delegated >= 25


@pytest.mark.slow
def test_the_rules_of_executorch_name_what_its_partitioner_leaves(tmp_path: Path) -> None:
    from converters.executorch.lowering import lower

    path = tmp_path / "many.pte"
    torch.manual_seed(0)
    network = Many().eval()
    path.write_bytes(lower(torch.export.export(network, (torch.zeros(1, 3, 8, 8),)), {}))
    delegation = executorch.inspect(path).delegation
    assert delegation is not None
    assert all(each.rule for each in delegation.left), "each has a rule"
    told = executorch.foretell(network, (8, 8), Precision.FP32)
    found = {base_name(each.kind) for each in delegation.left} - {"_to"}  # conversions around others that are left
    assert {base_name(each.kind) for each in told.left} == found
