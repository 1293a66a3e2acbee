from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from converters import executorch
from lspdmobile.artifact import Artifact
from lspdmobile.choices import Format, Layout, Precision
from lspdmobile.errors import BadInputError, ConversionError
from lspdmobile.fusion import randomise_norms
from quantization.calibrate import calibrate
from quantization.plan import QuantizationPlan, TensorRange

if TYPE_CHECKING:
    from tests.converters.executorch.conftest import World


class Halved(nn.Module):
    """A max-pool whose stride is left to be that of its kernel."""

    def forward(self, x: Tensor) -> Tensor:
        """Map ``[1, C, H, W]`` to ``[1, C, H/2, W/2]``."""
        return nn.functional.max_pool2d(x, 2)


class EluBlock(nn.Module):
    """A convolution, an ELU and a convolution, as in the MobileNet student's neck."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 4, 3, padding=1)
        self.second = nn.Conv2d(4, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Map ``[1, 3, H, W]`` to ``[1, 2, H, W]``."""
        y: Tensor = self.second(nn.functional.elu(self.first(x)))
        return y


class Volume(nn.Module):
    """A convolution in three dimensions, which neither the quantizer nor XNNPACK knows, behind one in two."""

    def __init__(self) -> None:
        super().__init__()
        self.flat = nn.Conv2d(3, 2, 1)
        self.deep = nn.Conv3d(1, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Map ``[1, 3, H, W]`` to ``[1, 2, H, W]``."""
        y: Tensor = self.deep(self.flat(x)[:, None])[:, 0]
        return y


class Branching(nn.Module):
    """A network whose way depends on the values in the picture, which no export can follow."""

    def forward(self, x: Tensor) -> Tensor:
        """Map ``[1, 3, H, W]`` to the same shape."""
        return x * 2 if x.sum() > 0 else x


class SumOnly(nn.Module):
    """An addition, and no layer that has weights."""

    def forward(self, x: Tensor) -> Tensor:
        """Map ``[1, 3, H, W]`` to the same shape."""
        return torch.relu(x) + x


def with_plan(world: "World", network: nn.Module) -> QuantizationPlan:
    return calibrate(network, world.pictures, precision=Precision.W8A8)


def test_what_is_offered_is_what_can_be_honoured() -> None:
    assert executorch.supported() == {Precision.FP32: Layout.NCHW, Precision.W8A8: Layout.NCHW}


def test_the_artifact_says_what_was_written(world: "World", emitted: dict[Precision, Artifact]) -> None:
    for precision, artifact in emitted.items():
        assert (artifact.format, artifact.precision, artifact.layout) == (Format.EXECUTORCH, precision, Layout.NCHW)
        assert artifact.path.parent == world.folder
        assert artifact.path.is_file()
        assert artifact.seconds > 0
        assert artifact.notes == ()


def test_integer_weights_take_a_quarter_of_the_bytes(emitted: dict[Precision, Artifact]) -> None:
    weights = {p: executorch.inspect(artifact.path).weight_bytes_by_dtype for p, artifact in emitted.items()}
    floats = sum(weights[Precision.FP32].values())
    # Biases and the scales of each channel keep four bytes; they weigh more in a tiny network.
    assert weights[Precision.W8A8]["int8"] < floats / 4
    assert sum(weights[Precision.W8A8].values()) < 0.32 * floats


def test_an_elu_does_not_leave_xnnpack(world: "World") -> None:
    network = EluBlock().eval()
    request = replace(world.request(Precision.W8A8, "elu.pte", network=network), plan=with_plan(world, network))
    artifact = executorch.emit(request)
    facts = executorch.inspect(artifact.path)
    assert facts.ops["xnnpack::ELU"] == 1
    assert facts.delegation is not None
    assert facts.delegation.fraction == 1
    wanted = world.run(network)
    found = executorch.open_executor(artifact.path).heatmaps(world.pictures)
    # Five grids of 8 bits on the way, each off by half a step of about 1/255 of its range at most.
    assert np.abs(found - wanted).max() < 5 * 0.5 / 255 * np.ptp(wanted) * 2


def test_norms_and_pools_that_executorch_stumbles_over_are_lowered(world: "World") -> None:
    """Norms whose path begins with a digit, one of them before a ReLU, and a max-pool without a stride."""
    layers = (
        nn.Conv2d(3, 4, 1),
        nn.BatchNorm2d(4),
        nn.ReLU(),
        nn.BatchNorm2d(4),
        nn.ReLU(),
        Halved(),
        nn.Conv2d(4, 2, 1),
    )
    network = nn.Sequential(*layers).eval()
    randomise_norms(network, torch.Generator().manual_seed(0))
    artifact = executorch.emit(world.request(Precision.FP32, "norms.pte", network=network))
    delegation = executorch.inspect(artifact.path).delegation
    assert delegation is not None
    assert delegation.not_delegated == ()
    found = executorch.open_executor(artifact.path).heatmaps(world.pictures)
    np.testing.assert_allclose(found, world.run(network), atol=1e-5)


def test_operators_on_slow_kernels_are_noted(partly: tuple[nn.Module, Artifact]) -> None:
    (note,) = partly[1].notes
    assert "aten::cumsum.out x1" in note


def test_a_file_that_is_not_what_was_asked_for_is_an_error_and_does_not_stay(world: "World") -> None:
    network = SumOnly().eval()
    request = replace(world.request(Precision.W8A8, "sum.pte", network=network), plan=with_plan(world, network))
    with pytest.raises(ConversionError, match="the file computes no layer with weights"):
        executorch.emit(request)
    assert not request.path.exists()


def test_a_quantized_layer_that_xnnpack_cannot_take_is_an_error(world: "World") -> None:
    network = Volume().eval()
    request = replace(world.request(Precision.W8A8, "volume.pte", network=network), plan=with_plan(world, network))
    with pytest.raises(ConversionError, match="a quantized layer stayed outside of XNNPACK"):
        executorch.emit(request)
    assert not request.path.exists()


def test_what_executorch_refuses_is_a_conversion_error_of_one_line(world: "World") -> None:
    request = world.request(Precision.FP32, "branching.pte", network=Branching().eval())
    with pytest.raises(ConversionError, match=r"branching\.pte: ExecuTorch refused fp32: ") as caught:
        executorch.emit(request)
    assert "\n" not in str(caught.value)
    assert not request.path.exists()


@pytest.mark.parametrize("precision", [p for p in Precision if p not in (Precision.FP32, Precision.W8A8)])
def test_other_precisions_are_refused(world: "World", precision: Precision) -> None:
    with pytest.raises(BadInputError, match="choose from fp32, w8a8"):
        executorch.emit(world.request(precision, "other.pte"))


def test_nhwc_is_refused_with_the_reason(world: "World") -> None:
    request = replace(world.request(Precision.FP32, "nhwc.pte"), layout=Layout.NHWC)
    with pytest.raises(BadInputError, match="ignores strides"):
        executorch.emit(request)


def test_a_training_network_is_refused(world: "World") -> None:
    with pytest.raises(ValueError, match="training mode"):
        executorch.emit(world.request(Precision.FP32, "training.pte", network=EluBlock().train()))


def test_a_plan_of_another_network_is_refused(world: "World") -> None:
    plan = replace(world.plan, ranges={"x": TensorRange(low=0.0, high=1.0)})
    with pytest.raises(BadInputError, match="no range for"):
        executorch.emit(replace(world.request(Precision.W8A8, "stranger.pte", network=EluBlock().eval()), plan=plan))
