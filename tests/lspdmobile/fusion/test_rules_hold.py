"""The rules against the real converters and runtimes: each layer is emitted, and the file says what became of it."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from benchmarks.fusion_layers import module_of
from converters import FORMATS
from lspdmobile.artifact import ArtifactFacts, EmitRequest
from lspdmobile.choices import Format, Precision
from lspdmobile.errors import BadInputError
from lspdmobile.fusion import fuse, randomise_norms
from lspdmobile.fusion.operations import ConvOp, Dtype
from lspdmobile.fusion.rules import EXECUTORCH, LITERT, Effect, Rule
from quantization.calibrate import calibrate

CHANNELS = 8
PRECISIONS: dict[Dtype, Precision] = {"fp32": Precision.FP32, "int8": Precision.W8A8}


def conv(in_size: int, kernel: int = 3, **changes: Any) -> ConvOp:
    """Describe a depthwise kernel; changes are other fields."""
    return ConvOp.same_size(CHANNELS, (kernel, kernel), side=in_size, **changes)


LAYERS = [
    conv(32, 7),
    conv(32, dilation=2),
    conv(32, 5, dilation=3, groups=1),
    conv(32, stride=(2, 2)),
    conv(16, padding=(0, 2, 0, 2)),
    conv(16, stride=(2, 2), padding=(0, 1, 0, 1)),
    conv(8, groups=4, bias=False),
    conv(8, out_channels=2 * CHANNELS),
]


def emitted(network: nn.Module, form: Format, dtype: Dtype, folder: Path) -> ArtifactFacts:
    """Emit a network for 32x32 pictures, run the file once, and read what is in it."""
    precision, converter = PRECISIONS[dtype], FORMATS[form]
    picture = np.random.default_rng(0).standard_normal((1, 3, 32, 32)).astype(np.float32)
    path = folder / f"{dtype}{converter.SUFFIX}"
    converter.emit(
        EmitRequest(
            network=network,
            plan=calibrate(network, picture, precision=precision),
            input_size=(32, 32),
            layout=converter.supported()[precision],
            metadata={},
            deployment_target="iOS17",
            path=path,
        )
    )
    assert np.isfinite(converter.open_executor(path).heatmaps(picture)).all()
    return converter.inspect(path)


def padded_apart(rules: Sequence[Rule], dtype: Dtype) -> int:
    """Count the layers whose pad is an operator of its own by the rules."""
    extra = [rule for rule in rules if rule.effect is Effect.EXTRA_OPERATOR]
    return sum(any(rule.applies(op, dtype) for rule in extra) for op in LAYERS)


@pytest.fixture(scope="module")
def network() -> nn.Module:
    """All layers between a 1x1 stem and a 1x1 head."""
    torch.manual_seed(0)
    stem, head = nn.Conv2d(3, CHANNELS, 1), nn.Conv2d(2 * CHANNELS, 1, 1)
    return nn.Sequential(stem, nn.ReLU(), *(nn.Sequential(module_of(op), nn.ReLU()) for op in LAYERS), head).eval()


def test_the_layers_try_the_rules() -> None:
    assert padded_apart(LITERT, "fp32") == 2
    assert padded_apart(EXECUTORCH, "fp32") == 2
    tried = {rule.name for rules in (LITERT, EXECUTORCH) for rule in rules for op in LAYERS if rule.applies(op, "fp32")}
    norms = {rule.name for rule in EXECUTORCH if "batch norm" in rule.name}
    assert tried | norms == {rule.name for rules in (LITERT, EXECUTORCH) for rule in rules}


@pytest.mark.parametrize("dtype", ["fp32", "int8"])
def test_litert_delegates_every_layer_and_pads_apart_by_the_rule(
    network: nn.Module, dtype: Dtype, tmp_path: Path
) -> None:
    facts = emitted(network, Format.TFLITE, dtype, tmp_path)
    assert facts.delegation is not None
    assert facts.delegation.not_delegated == ()
    assert facts.ops["PAD"] == padded_apart(LITERT, dtype)
    assert facts.ops["DEPTHWISE_CONV_2D"] + facts.ops["CONV_2D"] == len(LAYERS) + 2


@pytest.mark.parametrize("dtype", ["fp32", "int8"])
def test_executorch_delegates_every_layer_and_pads_apart_by_the_rule(
    network: nn.Module, dtype: Dtype, tmp_path: Path
) -> None:
    facts = emitted(network, Format.EXECUTORCH, dtype, tmp_path)
    assert facts.delegation is not None
    assert facts.delegation.not_delegated == ()
    assert facts.ops["xnnpack::StaticConstantPad"] == padded_apart(EXECUTORCH, dtype)
    assert facts.ops["xnnpack::DepthwiseConv2d"] + facts.ops["xnnpack::Conv2d"] == len(LAYERS) + 2


class Normed(nn.Module):
    """A norm that no convolution before it can take in."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.head = nn.Conv2d(3, CHANNELS, 1), nn.Conv2d(CHANNELS, 1, 1)
        self.norm = nn.BatchNorm2d(CHANNELS)

    def forward(self, picture: torch.Tensor) -> torch.Tensor:
        """Map ``[N, 3, H, W]`` to ``[N, 1, H, W]``."""
        result: torch.Tensor = self.head(torch.relu(self.norm(torch.relu(self.stem(picture)))))
        return result


def test_executorch_turns_a_norm_by_itself_into_a_depthwise_convolution(tmp_path: Path) -> None:
    facts = emitted(Normed().eval(), Format.EXECUTORCH, "fp32", tmp_path)
    assert facts.ops["xnnpack::DepthwiseConv2d"] == 1
    assert facts.delegation is not None
    assert facts.delegation.not_delegated == ()


@pytest.mark.parametrize(
    ("form", "depthwise"), [(Format.TFLITE, "DEPTHWISE_CONV_2D"), (Format.EXECUTORCH, "xnnpack::DepthwiseConv2d")]
)
def test_int8_takes_a_norm_by_itself_once_it_is_a_convolution(form: Format, depthwise: str, tmp_path: Path) -> None:
    network = Normed().eval()
    randomise_norms(network, torch.Generator().manual_seed(0))
    fused = fuse(network, input_size=(32, 32), dtype="int8").network
    facts = emitted(fused, form, "int8", tmp_path)
    assert facts.ops[depthwise] == 1
    assert facts.delegation is not None
    assert facts.delegation.not_delegated == ()
    assert facts.weight_bytes_by_dtype["int8"] > 0


def test_executorch_int8_refuses_a_norm_that_stayed(tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match="batch norms are not folded"):
        emitted(Normed().eval(), Format.EXECUTORCH, "int8", tmp_path)
