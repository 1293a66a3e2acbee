"""Norms and constants per channel that nothing can take: they become depthwise 1x1, and never wrongly."""

from collections import Counter
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from lspdmobile.errors import GateFailedError
from lspdmobile.fusion import Fused, fuse, randomise_norms
from lspdmobile.fusion.linear import Linear, NotExactError, channelwise
from lspdmobile.fusion.operations import Dtype
from lspdmobile.fusion.rewrites.affine_alone import as_depthwise
from lspdmobile.fusion.surgery import affines
from lspdmobile.fusion.targets import target_named
from lspdmobile.networks.hourglass import Bottleneck

C = 6
SHAPE = (1, C, 11, 12)

Fuse = Callable[[nn.Module], Fused]
Count = Callable[[Fused], Counter[str]]


class Scaled(nn.Module):
    """A factor per channel, a summand per channel and a number, each between two activations."""

    def __init__(self) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.rand(1, C, 1, 1) + 0.5)
        self.offset = nn.Parameter(torch.randn(C, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        """Map ``[N, C, H, W]`` to the same shape."""
        return torch.relu(torch.relu(torch.relu(x) * self.gain) - self.offset) * 0.5


def rewrites(found: Fused) -> Counter[str]:
    """Count the sites by what was done last."""
    return Counter(site.rewrite for site in found.certificate.sites)


def test_the_norms_of_a_pre_activation_block_fold_or_become_one_tap_each(fused: Fuse, operators: Count) -> None:
    found = fused(Bottleneck(C, C))
    assert found.certificate.norms_left == ()
    assert operators(found) == {"Conv2d 1x1": 3, "Conv2d 3x3": 1, "ReLU": 3, "add": 1}
    first = found.network.get_submodule("body.0")
    assert isinstance(first, nn.Conv2d)
    assert (first.groups, first.kernel_size, first.padding) == (C, (1, 1), (0, 0))
    assert rewrites(found) == {"fold norm": 2, "affine to 1x1": 1}


def test_a_norm_that_is_used_twice_becomes_a_convolution_in_both_places(fused: Fuse, operators: Count) -> None:
    norm = nn.BatchNorm2d(C)
    found = fused(nn.Sequential(nn.ReLU(), norm, nn.ReLU(), norm, nn.ReLU()))
    assert operators(found) == {"Conv2d 1x1": 2, "ReLU": 3}


@pytest.mark.parametrize(("target", "in_float"), [("litert-xnnpack", 0), ("executorch-xnnpack", 0), ("coreml-ane", 1)])
def test_in_float_the_cheaper_one_stays_and_in_int8_no_norm_does(target: str, in_float: int) -> None:
    network = nn.Sequential(nn.ReLU(), nn.BatchNorm2d(64), nn.ReLU()).eval()
    randomise_norms(network, torch.Generator().manual_seed(0))
    inputs = (torch.zeros(1, 64, 32, 32),)
    expected: dict[Dtype, int] = {"fp32": in_float, "int8": 0}
    for dtype, left in expected.items():
        certificate = fuse(network, inputs=inputs, target=target_named(target), dtype=dtype).certificate
        assert len(certificate.norms_left) == left
        assert any("cost more" in refusal.reason for refusal in certificate.refused) == bool(left)


def test_constants_per_channel_are_convolutions_in_int8_and_a_single_number_is_not() -> None:
    target = target_named("litert-xnnpack")
    network = Scaled().eval()
    found = fuse(network, inputs=(torch.randn(SHAPE),), target=target, dtype="int8")
    assert rewrites(found) == {"affine to 1x1": 2}
    left = [str(node.target) for node in found.network.graph.nodes if node.op == "call_function"]
    assert left.count("aten.mul.Tensor") == 1
    found = fuse(network, inputs=(torch.randn(SHAPE),), target=target, dtype="fp32")
    assert rewrites(found) == {}
    assert sum("cost more" in refusal.reason for refusal in found.certificate.refused) == 2


def test_what_mixes_pixels_or_channels_is_no_factor_per_channel() -> None:
    affine = channelwise(torch.ones(2, dtype=torch.float64))
    for other in (
        replace(affine, padding=(1, 1, 1, 1)),
        replace(affine, stride=(2, 2)),
        replace(affine, weight=torch.ones(2, 2, 1, 1, dtype=torch.float64), groups=1),
        replace(affine, weight=torch.ones(2, 1, 3, 3, dtype=torch.float64)),
    ):
        with pytest.raises(NotExactError, match="per channel"):
            as_depthwise(other)


def without_summand(linear: Linear) -> Linear:
    return linear.without_bias()


def factors_exchanged(linear: Linear) -> Linear:
    return replace(linear, weight=linear.weight.roll(1, dims=0))


def one_factor_for_all(linear: Linear) -> Linear:
    return replace(linear, weight=linear.weight[:1].expand_as(linear.weight).contiguous())


def squared(linear: Linear) -> Linear:
    return replace(linear, weight=linear.weight.square())


@pytest.mark.parametrize("fault", [without_summand, factors_exchanged, one_factor_for_all, squared])
def test_a_wrong_convolution_is_caught(
    fault: Callable[[Linear], Linear], fused: Fuse, monkeypatch: pytest.MonkeyPatch
) -> None:
    block = Bottleneck(C, C)
    assert fused(block).certificate.passed
    monkeypatch.setattr(affines, "as_depthwise", lambda linear: fault(as_depthwise(linear)))
    with pytest.raises(GateFailedError, match=r"body\.0 \(affine to 1x1\)"):
        fused(block)
